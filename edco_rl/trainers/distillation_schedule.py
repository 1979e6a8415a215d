"""What changes while a distillation goes on: temperature, weight of the divergence, learning rate."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR

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


def per_stage_schedule(
    optimizer: torch.optim.Optimizer,
    strategy: Strategy,
    *,
    batch_size: int,
    total_steps: int,
    make_scheduler: Callable[[torch.optim.Optimizer, int], Any],
) -> LambdaLR:
    """A learning-rate schedule that begins anew in each stage.

    Args:
        optimizer (`torch.optim.Optimizer`):
            The optimizer.
        strategy (`Strategy`):
            Has stages whose length in steps is known.
        batch_size (`int`):
            Prompts an optimizer step.
        total_steps (`int`):
            Optimizer steps of the run; the last stage takes what the others leave.
        make_scheduler (`Callable[[Optimizer, int], Any]`):
            Makes the schedule of a stage from an optimizer and the stage's steps.

    Raises:
        ConfigurationError: The strategy has no stages, only validation ends them, or the schedule is not one that
            depends on the step alone.
    """
    lengths = _stage_lengths(strategy, batch_size, total_steps)
    factors, begins = [], []
    for number, length in enumerate(lengths):
        begins.append(sum(lengths[:number]))
        # A schedule sets its optimizer's learning rate as it is made: each is made on one of its own.
        scheduler = make_scheduler(torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0), length)
        if not isinstance(scheduler, LambdaLR):
            raise ConfigurationError(
                f"lr_schedule_per_stage needs a schedule of the step alone, not {type(scheduler).__name__}."
            )
        factors.append(scheduler.lr_lambdas[0])

    def factor(step: int) -> float:
        stage = max(number for number, begin in enumerate(begins) if begin <= step)
        return factors[stage](step - begins[stage])

    return LambdaLR(optimizer, factor)


def _stage_lengths(strategy: Strategy, batch_size: int, total_steps: int) -> list[int]:
    """Steps of each stage that is reached within the run."""
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
