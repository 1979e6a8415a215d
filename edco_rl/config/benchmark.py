"""What `edco-rl benchmark` runs, and what `edco-rl report` makes of it."""

import re
from dataclasses import dataclass, field
from typing import Any, Literal

from ..errors import ConfigurationError
from .checks import Checked, as_dict
from .ranges import Count, InnerShare, Positive, PositiveShare, Seed, Text

BudgetUnit = Literal["steps", "tokens", "seconds"]
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+:-]*")


@dataclass
class BenchmarkConfig(Checked):
    """A matrix of runs: methods x curricula x seeds x tasks, each from the same weights and with the same budget.

    Settings of a cell are fields of `edco-rl train`. Later ones win: those of `recipe`, `settings`, the task, the
    method, the curriculum. A task or curriculum can hold a mapping under a method's name, which counts for that method
    only; `false` there leaves a curriculum out for that method.
    """

    output_dir: Text = field(
        default="runs/benchmark", metadata={"help": "Folder of the matrix; each cell has one of its own in it."}
    )
    recipe: str | None = field(
        default=None,
        metadata={"help": "A recipe of `edco-rl train` whose settings all cells share; the benchmark's own win."},
    )
    settings: dict[str, Any] | str | None = field(
        default=None, metadata={"help": "Settings of all cells: fields of `edco-rl train`, by name."}
    )
    methods: list[str] | dict[str, Any] | None = field(
        default=None,
        metadata={
            "help": "Training methods, as [grpo, sft], or by a name of your own with their settings, as {grpo: "
            "{num_generations: 4}, long: {method: grpo, num_generations: 8}}."
        },
    )
    curricula: list[str] | dict[str, Any] | None = field(
        default=None,
        metadata={
            "help": "Curricula, as [random, edco], or by a name of your own with their settings, as {edco: "
            "{curriculum_interval: 15}, slow: {strategy: edco}}. A name like random+equal_rewards is a strategy with "
            "gates."
        },
    )
    seeds: list[Seed] = field(default_factory=lambda: [42], metadata={"help": "One run of each combination a seed."})
    tasks: dict[str, Any] | str | None = field(
        default=None,
        metadata={"help": "Data sets by a name of your own, with their settings. By default that of the recipe."},
    )
    budget: Positive | None = field(
        default=None,
        metadata={"help": "What each cell may use, in budget_unit. By default max_steps of the settings."},
    )
    budget_unit: BudgetUnit = field(
        default="steps",
        metadata={
            "help": "steps: optimizer steps. tokens: generated ones, those of scoring among them, plus those trained "
            "on. seconds: of training, evaluation left out."
        },
    )
    evaluate_every: Count | None = field(
        default=None,
        metadata={"help": "Optimizer steps between two measurements of held-out accuracy. By default start and end."},
    )
    target_accuracy: PositiveShare | None = field(
        default=None,
        metadata={
            "help": "Accuracy whose cost is compared, 0 to 1; a task can have its own. By default three quarters of "
            "the way that the baseline curriculum gets."
        },
    )
    baseline: Text = field(default="random", metadata={"help": "Name of the curriculum the others are compared with."})
    shard: Text | None = field(
        default=None, metadata={"help": "The part of the cells to run here, as 1/4. The report takes all folders."}
    )
    keep_models: bool = field(default=False, metadata={"help": "Whether to keep the trained weights of each cell."})

    def __post_init__(self) -> None:
        super().__post_init__()
        self.settings = self.settings or {}
        self.named_methods = _by_name("methods", self.methods)
        self.named_curricula = _by_name("curricula", self.curricula)
        self.named_tasks = _by_name("tasks", self.tasks)
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ConfigurationError(f"seeds must be different numbers, at least one; got {self.seeds}.")
        self.shard_number  # noqa: B018 (refuses a wrong one)

    @property
    def shard_number(self) -> tuple[int, int]:
        """Which shard of how many this is, counted from 0."""
        if self.shard is None:
            return 0, 1
        match = re.fullmatch(r"(\d+)/(\d+)", self.shard)
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise ConfigurationError(f"shard must be a part of a whole, as 1/4; got {self.shard!r}.")
        return int(match[1]) - 1, int(match[2])


def _by_name(field_name: str, value: Any) -> dict[str, dict[str, Any]]:
    """A list of names, or a mapping from names to settings, as the latter."""
    if isinstance(value, list) and len(value) == 1 and str(value[0]).startswith("{"):
        value = as_dict(field_name, value[0])  # JSON on the command line
    entries = value if isinstance(value, dict) else dict.fromkeys(value or [])
    if len(entries) < len(value or []):
        raise ConfigurationError(f"{field_name} names one twice: {value}.")
    for name, settings in entries.items():
        if not _NAME.fullmatch(str(name)):
            raise ConfigurationError(f"{field_name}: {name!r} is no name for a folder.")
        if settings is not None and not isinstance(settings, dict):
            raise ConfigurationError(f"{field_name}: expected settings as a mapping for {name!r}, got {settings!r}.")
    return {str(name): dict(settings or {}) for name, settings in entries.items()}


@dataclass
class ReportConfig(Checked):
    """How `edco-rl report` compares, and where the report goes."""

    output: Text | None = field(
        default=None, metadata={"help": "Folder for the report. By default `report` in the first folder of runs."}
    )
    title: Text | None = field(default=None, metadata={"help": "Heading of the page."})
    baseline: Text | None = field(
        default=None, metadata={"help": "Curriculum the others are compared with. By default the matrix's."}
    )
    target_accuracy: PositiveShare | None = field(
        default=None, metadata={"help": "Accuracy whose cost is compared. By default the matrix's, see `benchmark`."}
    )
    confidence_level: InnerShare = field(default=0.95, metadata={"help": "Confidence level of bands and intervals."})
    watch: Positive | None = field(
        default=None,
        metadata={
            "help": "Seconds after which the report is made anew, until no run is in progress; the page that is open "
            "shows it by itself."
        },
    )
