"""What each command needs beyond data, engine and curriculum."""

from dataclasses import dataclass, field
from typing import Annotated, Any

from annotated_types import Ge

from ..errors import ConfigurationError
from .checks import Checked, check_given
from .engine import EngineConfig
from .ranges import Count, InnerShare, NotNegative, Port, Positive, PositiveShare, Seed, Several, Text, Whole


@dataclass
class RunConfig(Checked):
    """What `edco-rl train` needs to know beyond the data and the trainer."""

    reward_kwargs: dict[str, Any] | str | None = field(
        default=None,
        metadata={
            "help": "Keyword arguments of reward functions, that of held-out answers among them, by their name: "
            "{length: {maximum: 256}}."
        },
    )
    share_prompts: bool = field(
        default=False,
        metadata={
            "help": "Whether the optimizer computes each prompt once for all its completions: several times faster "
            "with prompts longer than completions. Needs one process and no gradient checkpointing."
        },
    )
    held_out_max_tokens: Count | None = field(
        default=None,
        metadata={
            "help": "Most tokens of a held-out answer. By default max_completion_length; in supervised fine-tuning a "
            "little more than the longest reference answer."
        },
    )
    held_out_reward: str | None = field(
        default=None,
        metadata={
            "help": "Reward whose 1 is a right held-out answer; of rouge_l the mean is measured. By default the first "
            "of reward_funcs that judges answers; without rewards the one that fits the data set's columns."
        },
    )
    held_out_every: Count | None = field(
        default=None,
        metadata={"help": "Optimizer steps between two measurements of held-out accuracy. By default start and end."},
    )
    held_out_samples: Count = field(
        default=1,
        metadata={"help": "Answers to each held-out prompt; what they earn is averaged (avg@k)."},
    )
    held_out_temperature: NotNegative = field(
        default=0.0, metadata={"help": "Temperature of held-out answers; 0 is greedy."}
    )
    stop_after_tokens: Positive | None = field(
        default=None,
        metadata={"help": "End training once so many tokens were generated, scored and trained on."},
    )
    stop_after_seconds: Positive | None = field(
        default=None, metadata={"help": "End training after so many seconds, evaluation left out."}
    )
    compare_with: str | None = field(
        default=None,
        metadata={
            "help": "Strategy to train with afterwards, from the same start and without gates, as random: a second "
            "run in a folder of its name, without its model, and in summary.json what came of it. Both end with one "
            "table and one page."
        },
    )
    keep_model: bool = field(default=True, metadata={"help": "Whether to save the trained model."})
    dry_run: bool = field(
        default=False,
        metadata={
            "help": "Whether to print rows, first prompt, batches, what scoring costs and an estimate of the memory, "
            "and end there: no weights are loaded, nothing is started."
        },
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.held_out_samples > 1 and self.held_out_temperature == 0:
            raise ConfigurationError(
                f"held_out_samples is {self.held_out_samples} but held_out_temperature is 0: greedy answers are all "
                "the same. Set held_out_temperature above 0, or held_out_samples to 1."
            )


@dataclass
class ServeConfig(EngineConfig):
    """What `edco-rl serve` starts; what a trainer decides is no setting of it."""

    model_name_or_path: str | None = field(default=None, metadata={"help": "Model folder or hub id."})
    engine_port: Port = field(default=8000, metadata={"help": "Port the server listens on; 0 takes a free one."})
    engine_mode: str = field(default="server", init=False)
    engine_url: str | None = field(default=None, init=False)
    engine_request_timeout: float = field(default=600.0, init=False)
    engine_request_retries: int = field(default=0, init=False)
    engine_hang_timeout: float = field(default=120.0, init=False)
    engine_max_restarts: int = field(default=0, init=False)
    engine_wait_timeout: float = field(default=0.0, init=False)
    sync_interval: int = field(default=1, init=False)
    rollouts_ahead: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_given(self, "model_name_or_path")


@dataclass
class EvaluateConfig(Checked):
    """What `edco-rl evaluate` measures, and where the result goes."""

    model_name_or_path: str | None = field(
        default=None,
        metadata={
            "help": "Model folder or hub id, or the folder of a LoRA adapter, which is served over its base model. "
            "With engine_url, the server's weights answer, and this gives the tokenizer and the adapter."
        },
    )
    dataset_name: str | None = field(
        default=None,
        metadata={
            "help": "A local JSONL, Parquet or CSV file, a hub id, or reasoning_gym:<task>, of which the held-out "
            "prompts are taken."
        },
    )
    dataset_config: str | None = field(default=None, metadata={"help": "Configuration of a hub data set."})
    dataset_test_split: str = field(default="test", metadata={"help": "Split of a hub data set."})
    train_dataset_name: str | None = field(
        default=None,
        metadata={
            "help": "What the model was trained on, as dataset_name: prompts that are in it too, as they are or but "
            "for case, spaces and punctuation, are counted."
        },
    )
    dataset_train_split: str = field(default="train", metadata={"help": "Split of train_dataset_name."})
    max_prompts: Count | None = field(
        default=None, metadata={"help": "Prompts answered, the first ones; by default all."}
    )
    reward_func: str | None = field(
        default=None,
        metadata={
            "help": "Reward whose 1 is a right answer. By default reasoning_gym for generated tasks, multiple_choice "
            "where there are options, else math."
        },
    )
    reward_kwargs: dict[str, Any] | str | None = field(
        default=None, metadata={"help": "Keyword arguments of the reward, by its name: {length: {maximum: 256}}."}
    )
    reward_timeout: Positive | None = field(
        default=None,
        metadata={"help": "Seconds that a call of the reward may take, which judges up to 256 prompts' answers."},
    )
    max_completion_length: Count = field(default=256, metadata={"help": "Most tokens of an answer."})
    samples: Whole = field(
        default=0, metadata={"help": "Answers sampled a prompt for pass@k, beside the greedy one; 0 leaves that out."}
    )
    pass_at: list[Count] | None = field(
        default=None, metadata={"help": "Values of k for pass@k. By default 1, 2, 4, ... up to samples."}
    )
    temperature: NotNegative = field(default=1.0, metadata={"help": "Temperature of the sampled answers."})
    top_p: PositiveShare = field(
        default=1.0, metadata={"help": "Probability mass the sampled answers are drawn from."}
    )
    confidence_level: InnerShare = field(default=0.95, metadata={"help": "Confidence level of the intervals."})
    chat_template_kwargs: dict[str, Any] | str | None = field(
        default=None, metadata={"help": "Arguments of the chat template, as {enable_thinking: false}."}
    )
    seed: Seed = field(
        default=42, metadata={"help": "Seed of generated tasks, as of the training run, and of the bootstrap."}
    )
    output: str | None = field(default=None, metadata={"help": "JSON file for the result."})

    def __post_init__(self) -> None:
        super().__post_init__()
        check_given(self, "model_name_or_path", "dataset_name")
        if self.samples and self.temperature <= 0:
            raise ConfigurationError(
                f"samples is {self.samples}, so temperature must be above 0: got {self.temperature}."
            )
        if self.pass_at is None:
            self.pass_at = [2**i for i in range(self.samples.bit_length()) if 2**i < self.samples] + [self.samples]
            self.pass_at = self.pass_at if self.samples else []
        wrong = [k for k in self.pass_at if not 1 <= k <= self.samples]
        if wrong:
            raise ConfigurationError(f"pass_at {wrong[0]}: must be between 1 and samples, which is {self.samples}.")


@dataclass
class InputConfig(Checked):
    """The model and the rows of `edco-rl score` and `edco-rl audit`, under TRL's names."""

    model_name_or_path: str | None = field(default=None, metadata={"help": "Model folder or hub id."})
    dataset_name: str | None = field(
        default=None, metadata={"help": "A local JSONL, Parquet or CSV file, a hub id, or reasoning_gym:<task>."}
    )
    dataset_config: str | None = field(default=None, metadata={"help": "Configuration of a hub data set."})
    dataset_train_split: str = field(default="train", metadata={"help": "Split of a hub data set."})
    seed: Seed = field(
        default=42,
        metadata={"help": "Seed of generated tasks, as of the training run, of samples and of bootstraps."},
    )
    chat_template_kwargs: dict[str, Any] | str | None = field(
        default=None,
        metadata={"help": "Arguments of the chat template, as of the training run: {enable_thinking: false}."},
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_given(self, "model_name_or_path", "dataset_name")


@dataclass
class ScoreConfig(InputConfig):
    """What `edco-rl score` scores, and where the scores go."""

    output: str | None = field(
        default=None,
        metadata={
            "help": "Parquet file for the scores. Until it is complete, parts are kept in a folder beside it; a run "
            "that was killed goes on after them."
        },
    )
    max_prompts: Count | None = field(default=None, metadata={"help": "Prompts scored; by default all."})
    part_prompts: Count = field(default=512, metadata={"help": "Prompts scored and written at a time."})

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.output:
            raise ConfigurationError("output is missing: a Parquet file for the scores.")


@dataclass
class AuditConfig(InputConfig):
    """What `edco-rl audit` compares estimators and curricula on."""

    samples: Annotated[int, Ge(8)] = field(
        default=128, metadata={"help": "Prompts of the data set, drawn at random, that the estimators are tried on."}
    )
    reference_samples: Count = field(
        default=16,
        metadata={
            "help": "Full sequences a prompt: their mean entropy is the reference, their rewards say which groups "
            "have a signal. At least twice num_generations."
        },
    )
    temperature: Positive = field(default=1.0, metadata={"help": "Temperature of the full sequences, as of training."})
    top_p: PositiveShare = field(
        default=1.0, metadata={"help": "Probability mass they are sampled from, as of training."}
    )
    num_generations: Several = field(default=8, metadata={"help": "Completions of a group, as of training."})
    curriculum_share: InnerShare = field(
        default=0.25,
        metadata={
            "help": "Share of the scored prompts that a curriculum takes, above 0 and below 1: curriculum_size out "
            "of curriculum_candidates, or of the pool where all of it is scored."
        },
    )
    estimators: list[str] | None = field(
        default=None,
        metadata={
            "help": "Names or import paths of the estimators compared, with the settings given. By default all of "
            "this package that the data set allows, prefix_entropy with several settings."
        },
    )
    reward_func: str | None = field(
        default=None,
        metadata={
            "help": "Reward that says whether an answer is wrong, as of training. By default the one that fits the "
            "data set's columns."
        },
    )
    reward_kwargs: dict[str, Any] | str | None = field(
        default=None, metadata={"help": "Keyword arguments of the reward, by its name: {length: {maximum: 256}}."}
    )
    cost_limit: NotNegative = field(
        default=0.05,
        metadata={"help": "Largest share of the time of one full sequence a prompt that the advice may cost."},
    )
    output_dir: Text = field(
        default="audit", metadata={"help": "Folder for audit.json, the plot and the raw measurements."}
    )
    json: bool = field(default=False, metadata={"help": "Whether to print the result as JSON, and nothing else."})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reference_samples < 2 * self.num_generations:
            raise ConfigurationError(
                f"reference_samples must be at least twice num_generations, which is {self.num_generations}; got "
                f"{self.reference_samples}."
            )
