"""Settings of distillation with a curriculum."""

import dataclasses
from dataclasses import dataclass, field
from typing import Literal

from trl import DistillationConfig

from ..config.ranges import Count, NotNegative, Positive, Share, Text
from ..declarations import check_declared
from ..errors import ConfigurationError
from .divergence import WITH_BETA, make_divergence, squares_temperature

BEST_ROUGE_L = "best_rouge_l"
_BETA = 1.0  # TRL's default


@dataclass
class CurriculumDistillationConfig(DistillationConfig):
    r"""Settings of [`CurriculumDistillationTrainer`]: TRL's `DistillationConfig`, and what POCL has beyond it.

    With the defaults and a curriculum of random order, training is TRL's own.
    """

    divergence: str | None = field(
        default=None,
        metadata={
            "help": "Divergence of student and teacher: forward_kl, reverse_kl, skewed_forward_kl, skewed_reverse_kl, "
            "jensen_shannon, total_variation, or gkd, the generalized Jensen-Shannon divergence on the student's own "
            "outputs. By default the one beta stands for."
        },
    )
    beta: Share | None = field(  # its default depends on the divergence
        default=None,
        metadata={
            "help": "Weight of the teacher in jensen_shannon and gkd, by default 0.5. Without a divergence, TRL's: "
            "0 is forward KL, 1, the default, reverse KL, and between them lies the generalized Jensen-Shannon "
            "divergence. The others have none."
        },
    )
    skew: Share = field(
        default=0.1,
        metadata={
            "help": "Of a skewed divergence: share of the teacher (forward) or the student (reverse) in the mixture "
            "it is measured against."
        },
    )
    lmbda: Share = field(
        default=1.0,
        metadata={
            "help": "Share of the generation batches, drawn at random, for which the student writes the completions, "
            "as of TRL's GKD. The others take the reference responses. 1 is on-policy, 0 off-policy."
        },
    )
    distillation_temperature: Positive | None = field(
        default=None,
        metadata={"help": "Temperature of both models in the loss, in the first stage. By default temperature."},
    )
    temperature_squared: list[str] = field(
        default_factory=lambda: ["all"],
        metadata={
            "help": "Divergences that are scaled by the square of their temperature: all, none, names, or released, "
            "as in POCL's code, which scales forward_kl, jensen_shannon and skewed_reverse_kl alone."
        },
    )
    final_distillation_temperature: Positive | None = field(
        default=None,
        metadata={
            "help": "The same in the last stage, reached over the stages; over the steps where the strategy has no "
            "stages. By default 2 with strategy pocl, else distillation_temperature."
        },
    )
    distillation_weight: Share | None = field(
        default=None,
        metadata={
            "help": "Weight of the divergence in the loss, in the first stage, 0 to 1. The rest is that of the "
            "language modelling loss, which reference responses have. By default 0.7 with strategy pocl, else 1."
        },
    )
    final_distillation_weight: Share | None = field(
        default=None,
        metadata={
            "help": "The same in the last stage, reached as final_distillation_temperature is. By default 1 with "
            "strategy pocl, else distillation_weight."
        },
    )
    distillation_schedule: Literal["linear", "cosine"] = field(
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
    stage_checkpoint: Literal["last", "best_rouge_l"] = field(
        default="last",
        metadata={
            "help": "Weights of a stage that the next one starts from, and training ends with: last, or best_rouge_l, "
            "those whose outputs overlap most with the references of the evaluation set, of the weights after each "
            "pass over the stage's prompts and at its end."
        },
    )
    stage_checkpoint_temperature: NotNegative = field(
        default=0.0, metadata={"help": "Temperature these outputs are sampled at; 0 is greedy."}
    )
    difficulty_rankings: list[str] = field(
        default_factory=lambda: ["rouge_l", "cross_entropy"],
        metadata={
            "help": "What the column difficulty is fused from, where a strategy asks for it: rouge_l (the student's "
            "output against the reference), cross_entropy (of the reference under the student), numeric columns and "
            "estimators, larger where a prompt is harder."
        },
    )
    difficulty_constant: NotNegative = field(
        default=60.0, metadata={"help": "Constant c of the fusion of ranks, the sum of 1 / (c + rank)."}
    )
    difficulty_ties: Literal["shared", "in_order"] = field(
        default="shared",
        metadata={
            "help": "Rows of equal value in a ranking: shared, the mean of their ranks; or in_order, as in POCL's "
            "code, each a rank of its own, in the order of the ranking before, and in the first of the rows."
        },
    )
    difficulty_max_tokens: Count | None = field(
        default=None, metadata={"help": "Most tokens of an output for rouge_l. By default max_completion_length."}
    )
    difficulty_dir: Text | None = field(
        default=None,
        metadata={
            "help": "Folder that difficulties are kept in, and read from where nothing has changed. By default "
            "output_dir."
        },
    )

    def __post_init__(self) -> None:
        check_declared(self)
        weighted = self.divergence in WITH_BETA
        if self.beta is None:
            self.beta = 0.5 if weighted else _BETA
        if self.beta != _BETA and self.divergence is not None and not weighted:
            raise ConfigurationError(
                f"divergence {self.divergence} has no weight, and beta is {self.beta}: beta belongs to "
                f"{' and '.join(WITH_BETA)}."
            )
        super().__post_init__()
        make_divergence(self.divergence or "gkd", skew=self.skew, beta=self.beta)
        squares_temperature(self.divergence or "gkd", self.temperature_squared)
        if self.divergence == "gkd" and self.lmbda != 1:
            raise ConfigurationError(
                f"divergence gkd is that of the student's own outputs: lmbda must be 1; got {self.lmbda}. "
                "jensen_shannon is the same on references too."
            )

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
