"""The training methods: the one list that the command line, single runs and benchmarks read.

A new method is one line here and the file of its trainer. What a method is made of stands as import paths, and is
loaded when asked for: torch and TRL take seconds.
"""

import pkgutil
from dataclasses import dataclass
from typing import Any, Literal

from .errors import ConfigurationError, nearest

_CURRICULUM = "edco_rl.config:CurriculumConfig"
_SUPERVISED = "edco_rl.trainers.sft_config:CurriculumSFTConfig"
_REWARDS = "edco_rl.runs.reinforcement:run_with_rewards"


@dataclass(frozen=True)
class Method:
    """A training method; all but its name and summary are import paths, as `package.module:name`.

    Args:
        name (`str`):
            What it is called in commands, benchmarks and results.
        summary (`str`):
            What it does, for the help text.
        script (`str`), training (`str`):
            TRL's dataclasses of the script's and the trainer's settings.
        curriculum (`str`):
            Dataclass of the curriculum's settings: [`~edco_rl.CurriculumConfig`], or one that adds to it.
        trainer (`str`):
            The trainer with a curriculum.
        run (`str`):
            Takes [`~edco_rl.runs.settings.RunSettings`], trains, and returns what `summary.json` holds.
    """

    name: str
    summary: str
    script: str
    training: str
    curriculum: str
    trainer: str
    run: str

    @property
    def with_groups(self) -> bool:
        """Whether it learns from groups of rollouts and their rewards."""
        return self.run == _REWARDS

    def load(self, part: Literal["script", "training", "curriculum", "trainer", "run"]) -> Any:
        """The class or function one of its import paths leads to."""
        return pkgutil.resolve_name(getattr(self, part))


_TABLE = (
    Method(
        "grpo",
        "reinforcement learning from groups of completions",
        "trl.scripts.grpo:GRPOScriptArguments",
        "trl:GRPOConfig",
        _CURRICULUM,
        "edco_rl.trainers.grpo:CurriculumGRPOTrainer",
        _REWARDS,
    ),
    Method(
        "rloo",
        "reinforcement learning, each completion against the others of its prompt",
        "trl.scripts.rloo:RLOOScriptArguments",
        "trl:RLOOConfig",
        _CURRICULUM,
        "edco_rl.trainers.rloo:CurriculumRLOOTrainer",
        _REWARDS,
    ),
    Method(
        "ppo",
        "reinforcement learning with a value head",
        "trl.scripts.grpo:GRPOScriptArguments",
        "edco_rl.trainers.ppo_config:CurriculumPPOConfig",
        _CURRICULUM,
        "edco_rl.trainers.ppo:CurriculumPPOTrainer",
        _REWARDS,
    ),
    Method(
        "sft",
        "supervised fine-tuning on reference answers",
        "trl:ScriptArguments",
        _SUPERVISED,
        _CURRICULUM,
        "edco_rl.trainers.sft:CurriculumSFTTrainer",
        "edco_rl.runs.supervised:run_supervised",
    ),
    Method(
        "distillation",
        "a student learns a teacher's next-token distributions",
        "trl:ScriptArguments",
        "edco_rl.trainers.distillation_config:CurriculumDistillationConfig",
        _CURRICULUM,
        "edco_rl.trainers.distillation:CurriculumDistillationTrainer",
        "edco_rl.runs.distillation:run_distillation",
    ),
    Method(
        "complexity-aware",
        "supervised fine-tuning, on a teacher's reasoning where questions are hard",
        "trl:ScriptArguments",
        _SUPERVISED,
        "edco_rl.config:ComplexityConfig",
        "edco_rl.trainers.sft:CurriculumSFTTrainer",
        "edco_rl.complexity.run:run_complexity_aware",
    ),
)
METHODS = {method.name: method for method in _TABLE}
"""The methods by name."""


def find_method(name: str) -> Method:
    """The method of that name.

    Raises:
        ConfigurationError: There is none.
    """
    if name not in METHODS:
        raise ConfigurationError(f"{name!r} is no method; choose from {', '.join(METHODS)}.{nearest(name, METHODS)}")
    return METHODS[name]
