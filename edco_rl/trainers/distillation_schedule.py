"""What changes while a distillation goes on: temperature, weight of the divergence, stage."""

import math
from dataclasses import dataclass

from ..curriculum import Strategy
from ..errors import ConfigurationError
from .distillation_config import CurriculumDistillationConfig


@dataclass(frozen=True)
class LossSchedule:
    """Temperature and weight of the divergence, from a first to a last value.

    Args:
        temperatures (`tuple[float, float]`):
            First and last temperature.
        weights (`tuple[float, float]`):
            First and last weight.
        shape (`str`, *optional*, defaults to `"linear"`):
            `linear`, or `cosine`: slow at both ends.
    """

    temperatures: tuple[float, float]
    weights: tuple[float, float]
    shape: str = "linear"

    @classmethod
    def of(cls, args: CurriculumDistillationConfig, strategy: Strategy) -> "LossSchedule":
        """The schedule of settings; what they leave open is the strategy's to say, as POCL does."""

        def given(name: str, default: float) -> float:
            value = getattr(args, name)
            return strategy.trainer_defaults.get(name, default) if value is None else value

        temperature, weight = given("distillation_temperature", args.temperature), given("distillation_weight", 1.0)
        last = given("final_distillation_temperature", temperature), given("final_distillation_weight", weight)
        return cls((temperature, last[0]), (weight, last[1]), args.distillation_schedule)

    def at(self, progress: float) -> tuple[float, float]:
        """Temperature and weight at a progress between 0 and 1."""
        if self.shape == "cosine":
            progress = (1.0 - math.cos(math.pi * progress)) / 2.0

        def between(first: float, last: float) -> float:
            # Exact at both ends, which first + progress * (last - first) is not.
            return (1.0 - progress) * first + progress * last

        return between(*self.temperatures), between(*self.weights)


def steps_of_stages(strategy: Strategy, batch_size: int, total_steps: int) -> list[int]:
    """Optimizer steps of each stage that is reached within a run; the last stage takes what the others leave.

    Args:
        strategy (`Strategy`):
            Has stages whose length in steps is known.
        batch_size (`int`):
            Prompts an optimizer step.
        total_steps (`int`):
            Optimizer steps of the run.

    Raises:
        ConfigurationError: The strategy has no stages, or only validation ends them.
    """
    stages = strategy.stage_lengths(batch_size)
    if stages is None:
        raise ConfigurationError("lr_schedule_per_stage needs a strategy with stages, as baby_step or pocl.")
    lengths, left = [], total_steps
    for length in stages[:-1]:
        if length is None:
            raise ConfigurationError(
                "lr_schedule_per_stage needs stages whose length is known beforehand: with patience, validation ends "
                "them."
            )
        if length >= left:
            break
        lengths.append(length)
        left -= length
    return [*lengths, left]
