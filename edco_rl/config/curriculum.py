"""How prompts are scored, and which come next.

Fields stand beside TRL's in one YAML file, so each begins with what it belongs to, as TRL's own `vllm_*` do:
`curriculum_*`, `gate_*`, `scoring_*`. The name of a plug-in is its kind alone (`strategy`, `gates`, `estimator`).
"""

from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

from ..errors import ConfigurationError
from .checks import Checked
from .ranges import Count, NotNegative, Positive, PositiveShare, Several, Share, Text, Whole


@dataclass
class EstimatorConfig(Checked):
    """How a prompt is scored. The default is EDCO's: prefix entropy with quick-answer prompting (arXiv 2601.03725).

    What EDCO's released code does is in recipes/communication/grpo_edco_released.yaml.
    """

    estimator: Text = field(
        default="prefix_entropy",
        metadata={
            "help": "Name of an estimator (prefix_entropy, sequence_entropy, answer_entropy, option_entropy, "
            "perplexity, surprisal, learnability, rollout_entropy), or the import path of your own "
            "(package.module:Class)."
        },
    )
    scoring_prefix_tokens: Count = field(
        default=16,
        metadata={"help": "Generated tokens whose next-token entropy prefix_entropy averages into a prompt's score."},
    )
    scoring_sequence_tokens: Count = field(
        default=512, metadata={"help": "Most tokens sequence_entropy and rollout_entropy generate for a sample."}
    )
    scoring_samples: Count = field(
        default=1,
        metadata={"help": "Continuations averaged a prompt. More than one needs scoring_temperature above 0."},
    )
    scoring_temperature: NotNegative = field(
        default=0.0,
        metadata={
            "help": "Temperature of the scored continuation. 0 is greedy, and deterministic; rollout_entropy, which "
            "has to sample, then takes 1."
        },
    )
    scoring_reference_temperature: Positive | None = field(
        default=None,
        metadata={
            "help": "Temperature at which surprisal and learnability take the reference answer's probability. By "
            "default that of the trainer's rollouts; 1 where there are none."
        },
    )
    scoring_top_p: PositiveShare = field(
        default=1.0, metadata={"help": "Probability mass the scored continuation is sampled from, above 0 up to 1."}
    )
    scoring_top_logprobs: Several = field(
        default=20,
        metadata={"help": "Log-probabilities a token the entropy is computed from; the engine's cap bounds it."},
    )
    scoring_logprobs: Literal["sampled", "model"] = field(
        default="sampled",
        metadata={
            "help": "Whose log-probabilities the entropy is computed from. sampled: those of the distribution the "
            "continuation was sampled from, after temperature and top-p. model: those before. Greedily it is the "
            "same; otherwise an engine reads the continuation a second time for model."
        },
    )
    scoring_tail: Literal["bounds", "renormalised"] = field(
        default="bounds",
        metadata={
            "help": "What is made of the probability that scoring_top_logprobs leaves out. bounds: an estimate "
            "between the least and the largest entropy it allows. renormalised: nothing, the probabilities that are "
            "known are scaled to one."
        },
    )
    scoring_largest_share: PositiveShare = field(
        default=1.0,
        metadata={
            "help": "Share of a continuation's token entropies, the largest ones and at least one, whose mean is the "
            "score. 1 takes all."
        },
    )
    scoring_chat_template: bool = field(
        default=True,
        metadata={
            "help": "Whether prompts of messages are scored through the chat template. false: the text of the user's "
            "last message alone, as plain text. Training prompts stay as they are."
        },
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
        metadata={"help": "What scoring_quick_answer adds to the prompt."},
    )
    scoring_quick_answer_place: Literal["after", "before"] = field(
        default="after", metadata={"help": "Where it is added to the question: after or before."}
    )
    scoring_quick_answer_replaces: str | None = field(
        default=None,
        metadata={
            "help": "What scoring_quick_answer leaves out of the prompt: a system message of this text, or, of plain "
            "text, its beginning. By default the run's system_prompt, which would have it reason first; '' leaves "
            "nothing out."
        },
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scoring_samples > 1 and self.scoring_temperature == 0 and self.estimator != "rollout_entropy":
            raise ConfigurationError(
                f"scoring_samples is {self.scoring_samples} but scoring_temperature is 0: greedy continuations are "
                "all the same. Set scoring_temperature above 0, or scoring_samples to 1."
            )

    def for_prompts_with(self, system_prompt: str | None) -> Self:
        """These settings for prompts with the run's `system_prompt`, of which a quick answer takes the place."""
        if system_prompt is None or self.scoring_quick_answer_replaces is not None:
            return self
        return replace(self, scoring_quick_answer_replaces=system_prompt)


@dataclass
class CurriculumConfig(EstimatorConfig):
    """Which prompts come next, and how often that is decided anew."""

    strategy: Text = field(
        default="edco",
        metadata={
            "help": "Name of a strategy (edco, random, combined, ...; all in edco_rl.available_strategies()), or the "
            "import path of your own (package.module:Class)."
        },
    )
    strategy_kwargs: dict[str, Any] | str | None = field(
        default=None, metadata={"help": "Keyword arguments for the strategy's constructor."}
    )
    curriculum_interval: Count = field(
        default=10, metadata={"help": "Optimizer steps between two scorings of the pool; each makes a new curriculum."}
    )
    curriculum_scoring_ahead: bool = field(
        default=False,
        metadata={
            "help": "Whether the prompts are scored while the optimizer works on the step before a new curriculum, on "
            "the weights that step began with. By default they are scored after it, and training waits. It needs an "
            "engine in a process of its own (engine_mode server)."
        },
    )
    curriculum_size: Count | None = field(
        default=None,
        metadata={"help": "Prompts in a curriculum. By default as many as an interval can use, refills included."},
    )
    curriculum_candidates: Count | None = field(
        default=None,
        metadata={"help": "Prompts of the pool, drawn at random, that are scored each time. By default all of them."},
    )
    curriculum_reset_optimizer: bool = field(
        default=False,
        metadata={
            "help": "Whether the optimizer forgets its moments at each renewal of the curriculum; with a strategy of "
            "stages, as each of these begins instead."
        },
    )
    curriculum_lr_schedule_per_round: bool = field(
        default=False,
        metadata={
            "help": "Whether the learning-rate schedule, its warm-up included, begins anew every curriculum_interval "
            "steps. By default it runs over all steps."
        },
    )
    curriculum_exploration: Share = field(
        default=0.0, metadata={"help": "Share of the prompts that is drawn from the whole pool at random, 0 to 1."}
    )
    curriculum_max_visits: Count | None = field(
        default=None, metadata={"help": "Times a prompt may be drawn. By default as often as the strategy likes."}
    )
    curriculum_half_life: Positive | None = field(
        default=None,
        metadata={"help": "Optimizer steps after which a score counts half. By default newer scores come first."},
    )
    curriculum_fallback: bool | None = field(
        default=None,
        metadata={
            "help": "Whether random order takes the strategy's place once groups of its prompts have carried less "
            "signal than random ones would, three renewals in a row. By default a strategy of its own says so; those "
            "of papers stay."
        },
    )
    gates: list[str] | None = field(
        default=None,
        metadata={
            "help": "Which groups the optimizer gets to see: equal_rewards drops groups without signal, "
            "pass_rate_band and reward_variance those with little of it, truncated those cut off by the token limit; "
            "or import paths of your own (package.module:Class)."
        },
    )
    gate_kwargs: dict[str, dict[str, Any]] | str | None = field(
        default=None, metadata={"help": "Keyword arguments for the gates' constructors, by the names in gates."}
    )
    gate_max_refills: Whole = field(
        default=3,
        metadata={
            "help": "Times a generation batch is filled up with new prompts after gates dropped groups; "
            "gate_if_short says what is done about what is then still missing."
        },
    )
    gate_if_short: Literal["fill", "error"] = field(
        default="fill",
        metadata={
            "help": "What happens to a batch that is short after all refills. fill: dropped groups make it full. "
            "error: training ends with an error."
        },
    )
    max_quarantined_prompts: Whole = field(
        default=10,
        metadata={
            "help": "Prompts that may be in quarantine: those whose reward, loss or score is not "
            "finite, or whose reward takes longer than reward_timeout. One more ends training with an error."
        },
    )
    max_skipped_steps: Whole = field(
        default=3,
        metadata={
            "help": "Optimizer steps in a row that may be left out because a loss or gradient is not finite, and "
            "generation batches in a row that may be without any reward. One more ends training with an error."
        },
    )
    reward_timeout: Positive | None = field(
        default=None,
        metadata={
            "help": "Seconds that a call of a reward function may take, which judges all completions a process has "
            "made for a generation batch. Completions that take as long alone go without a reward, and their prompts "
            "into quarantine. One that takes as long for held-out answers ends the run. By default there is no limit."
        },
    )
