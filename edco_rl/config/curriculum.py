"""How prompts are scored, and which come next.

Fields stand beside TRL's in one YAML file, so each begins with what it belongs to, as TRL's own `vllm_*` do:
`curriculum_*`, `gate_*`, `scoring_*`. The name of a plug-in is its kind alone (`strategy`, `gates`, `estimator`).
"""

from dataclasses import dataclass, field
from typing import Any

from ..errors import ConfigurationError
from .checks import as_dict, check_at_least


@dataclass
class EstimatorConfig:
    """How a prompt is scored. The default is EDCO's: prefix entropy with quick-answer prompting (arXiv 2601.03725)."""

    estimator: str = field(
        default="prefix_entropy",
        metadata={
            "help": "Name of an estimator (prefix_entropy, sequence_entropy, answer_entropy, option_entropy, "
            "perplexity, surprisal, learnability, rollout_entropy), or the import path of your own "
            "(package.module:Class)."
        },
    )
    scoring_prefix_tokens: int = field(
        default=16,
        metadata={"help": "Generated tokens whose next-token entropy prefix_entropy averages into a prompt's score."},
    )
    scoring_sequence_tokens: int = field(
        default=512, metadata={"help": "Most tokens sequence_entropy and rollout_entropy generate for a sample."}
    )
    scoring_samples: int = field(
        default=1,
        metadata={"help": "Continuations averaged a prompt. More than one needs scoring_temperature above 0."},
    )
    scoring_temperature: float = field(
        default=0.0,
        metadata={
            "help": "Temperature of the scored continuation. 0 is greedy, and deterministic; rollout_entropy, which "
            "has to sample, then takes 1."
        },
    )
    scoring_top_logprobs: int = field(
        default=20,
        metadata={"help": "Log-probabilities a token the entropy is computed from; the engine's cap bounds it."},
    )
    scoring_quick_answer: bool = field(
        default=True,
        metadata={
            "help": "Whether prefix_entropy, answer_entropy and option_entropy ask for the answer at once. Training "
            "prompts stay as they are."
        },
    )
    scoring_quick_answer_instruction: str = field(
        default="Give only the final answer, at once, without any reasoning.",
        metadata={"help": "What scoring_quick_answer appends to the prompt."},
    )

    def __post_init__(self) -> None:
        check_at_least("scoring_prefix_tokens", self.scoring_prefix_tokens, 1)
        check_at_least("scoring_sequence_tokens", self.scoring_sequence_tokens, 1)
        check_at_least("scoring_samples", self.scoring_samples, 1)
        check_at_least("scoring_temperature", self.scoring_temperature, 0.0)
        check_at_least("scoring_top_logprobs", self.scoring_top_logprobs, 2)
        if self.scoring_samples > 1 and self.scoring_temperature == 0 and self.estimator != "rollout_entropy":
            raise ConfigurationError(
                f"scoring_samples is {self.scoring_samples} but scoring_temperature is 0: greedy continuations are "
                "all the same. Set scoring_temperature above 0, or scoring_samples to 1."
            )


@dataclass
class CurriculumConfig(EstimatorConfig):
    """Which prompts come next, and how often that is decided anew."""

    strategy: str = field(
        default="edco",
        metadata={
            "help": "Name of a strategy (edco, random, combined, ...; all in edco_rl.available_strategies()), or the "
            "import path of your own (package.module:Class)."
        },
    )
    strategy_kwargs: dict[str, Any] | str | None = field(
        default=None, metadata={"help": "Keyword arguments for the strategy's constructor."}
    )
    curriculum_interval: int = field(
        default=10, metadata={"help": "Optimizer steps between two scorings of the pool; each makes a new curriculum."}
    )
    curriculum_size: int | None = field(
        default=None,
        metadata={"help": "Prompts in a curriculum. By default as many as an interval can use, refills included."},
    )
    curriculum_candidates: int | None = field(
        default=None,
        metadata={"help": "Prompts of the pool, drawn at random, that are scored each time. By default all of them."},
    )
    curriculum_exploration: float = field(
        default=0.0, metadata={"help": "Share of the prompts that is drawn from the whole pool at random, 0 to 1."}
    )
    curriculum_max_visits: int | None = field(
        default=None, metadata={"help": "Times a prompt may be drawn. By default as often as the strategy likes."}
    )
    curriculum_half_life: float | None = field(
        default=None,
        metadata={"help": "Optimizer steps after which a score counts half. By default newer scores come first."},
    )
    gates: list[str] | None = field(
        default=None,
        metadata={
            "help": "Which groups the optimizer gets to see: equal_rewards drops groups without signal, truncated "
            "those cut off by the token limit; or import paths of your own (package.module:Class)."
        },
    )
    gate_kwargs: dict[str, Any] | str | None = field(
        default=None, metadata={"help": "Keyword arguments for the gates' constructors, by the names in gates."}
    )
    gate_max_refills: int = field(
        default=3,
        metadata={
            "help": "Times a generation batch is filled up with new prompts after gates dropped groups. What is then "
            "still missing is filled with dropped groups, so that the batch stays full."
        },
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.strategy_kwargs = as_dict("strategy_kwargs", self.strategy_kwargs)
        self.gate_kwargs = as_dict("gate_kwargs", self.gate_kwargs)
        for name, value in (self.gate_kwargs or {}).items():
            if not isinstance(value, dict):
                raise ConfigurationError(f"gate_kwargs: expected a mapping for {name!r}, got {value!r}.")
        if not 0 <= self.curriculum_exploration <= 1:
            raise ConfigurationError(
                f"curriculum_exploration must be between 0 and 1; got {self.curriculum_exploration}."
            )
        if self.curriculum_half_life is not None and self.curriculum_half_life <= 0:
            raise ConfigurationError(f"curriculum_half_life must be above 0; got {self.curriculum_half_life}.")
        check_at_least("curriculum_max_visits", self.curriculum_max_visits, 1)
        check_at_least("gate_max_refills", self.gate_max_refills, 0)
        check_at_least("curriculum_interval", self.curriculum_interval, 1)
        check_at_least("curriculum_size", self.curriculum_size, 1)
        check_at_least("curriculum_candidates", self.curriculum_candidates, 1)
