"""Settings of distillation with a curriculum."""

import dataclasses
from dataclasses import dataclass, field

from trl import DistillationConfig

from ..config.checks import check_at_least, check_choice
from ..errors import ConfigurationError
from .divergence import make_divergence


@dataclass
class CurriculumDistillationConfig(DistillationConfig):
    r"""Settings of [`CurriculumDistillationTrainer`]: TRL's `DistillationConfig`, and what POCL has beyond it.

    With the defaults and a curriculum of random order, training is TRL's own.
    """

    divergence: str | None = field(
        default=None,
        metadata={
            "help": "Divergence of student and teacher: forward_kl, reverse_kl, skewed_forward_kl, skewed_reverse_kl, "
            "jensen_shannon or total_variation. By default the one beta stands for."
        },
    )
    skew: float = field(
        default=0.1,
        metadata={
            "help": "Of a skewed divergence: share of the teacher (forward) or the student (reverse) in the mixture "
            "it is measured against."
        },
    )
    lmbda: float = field(
        default=1.0,
        metadata={
            "help": "Share of the generation batches, drawn at random, for which the student writes the completions, "
            "as of TRL's GKD. The others take the reference responses. 1 is on-policy, 0 off-policy."
        },
    )
    distillation_temperature: float | None = field(
        default=None,
        metadata={
            "help": "Temperature of both models in the loss, in the first stage. The divergence is scaled by its "
            "square. By default temperature."
        },
    )
    final_distillation_temperature: float | None = field(
        default=None,
        metadata={
            "help": "The same in the last stage, reached over the stages; over the steps where the strategy has no "
            "stages. By default 2 with strategy pocl, else distillation_temperature."
        },
    )
    distillation_weight: float | None = field(
        default=None,
        metadata={
            "help": "Weight of the divergence in the loss, in the first stage, 0 to 1. The rest is that of the "
            "language modelling loss, which reference responses have. By default 0.7 with strategy pocl, else 1."
        },
    )
    final_distillation_weight: float | None = field(
        default=None,
        metadata={
            "help": "The same in the last stage, reached as final_distillation_temperature is. By default 1 with "
            "strategy pocl, else distillation_weight."
        },
    )
    distillation_schedule: str = field(
        default="linear",
        metadata={"help": "How temperature and weight go from first to last: linear, or cosine (slow at both ends)."},
    )
    lr_schedule_per_stage: bool = field(
        default=False,
        metadata={
            "help": "Whether the learning-rate schedule, warm-up included, begins anew in each stage. By default it "
            "runs once over all."
        },
    )
    difficulty_rankings: list[str] = field(
        default_factory=lambda: ["rouge_l", "cross_entropy"],
        metadata={
            "help": "What the column difficulty is fused from, where a strategy asks for it: rouge_l (the student's "
            "output against the reference), cross_entropy (of the reference under the student), numeric columns and "
            "estimators, larger where a prompt is harder."
        },
    )
    difficulty_constant: float = field(
        default=60.0, metadata={"help": "Constant c of the fusion of ranks, the sum of 1 / (c + rank)."}
    )
    difficulty_max_tokens: int | None = field(
        default=None, metadata={"help": "Most tokens of an output for rouge_l. By default max_completion_length."}
    )
    difficulty_dir: str | None = field(
        default=None,
        metadata={
            "help": "Folder that difficulties are kept in, and read from where nothing has changed. By default "
            "output_dir."
        },
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.divergence is not None:
            make_divergence(self.divergence, skew=self.skew)
        if not 0 <= self.lmbda <= 1:
            raise ConfigurationError(f"lmbda must be between 0 and 1; got {self.lmbda}.")
        for name in ("distillation_temperature", "final_distillation_temperature"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ConfigurationError(f"{name} must be above 0; got {value}.")
        for name in ("distillation_weight", "final_distillation_weight"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ConfigurationError(f"{name} must be between 0 and 1; got {value}.")
        check_choice("distillation_schedule", self.distillation_schedule, ("linear", "cosine"))
        check_at_least("difficulty_constant", self.difficulty_constant, 0)
        check_at_least("difficulty_max_tokens", self.difficulty_max_tokens, 1)

    @classmethod
    def of(cls, args: DistillationConfig) -> "CurriculumDistillationConfig":
        """TRL's settings with the defaults of the rest; settings of this class as they are."""
        if isinstance(args, cls):
            return args
        extended = object.__new__(cls)
        names = {entry.name for entry in dataclasses.fields(DistillationConfig)}
        for entry in dataclasses.fields(cls):
            if entry.name not in names:
                given = entry.default_factory() if callable(entry.default_factory) else entry.default
                setattr(extended, entry.name, given)
        extended.__dict__.update(args.__dict__)
        return extended
