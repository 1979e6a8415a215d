"""How a trainer makes batches, and what of it a run that resumes has to know."""

import math
from dataclasses import dataclass
from typing import Any, Self

from transformers import TrainingArguments

from ..config import CurriculumConfig

INDEX = "curriculum_index"
"""Column of a batch: the position of each row's prompt in the pool."""

# What a generation batch depends on, of which a trainer has some or all.
_BATCH_SETTINGS = (
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "steps_per_generation",
    "num_generations",
    "num_iterations",
)


@dataclass(frozen=True)
class BatchLayout:
    """How a trainer makes batches of prompts.

    Args:
        batch_size (`int`):
            Different prompts in a generation batch, over all processes.
        steps_per_batch (`float`):
            Optimizer steps a generation batch lasts.
        group_size (`int`, *optional*, defaults to `1`), repeat_count (`int`, *optional*, defaults to `1`):
            See [`~edco_rl.curriculum.CurriculumBatchSampler`].
    """

    batch_size: int
    steps_per_batch: float
    group_size: int = 1
    repeat_count: int = 1

    @classmethod
    def of_micro_batches(cls, args: Any) -> Self:
        """As `Trainer` makes them: each micro-batch is drawn on its own."""
        return cls(args.train_batch_size * args.world_size, 1 / args.gradient_accumulation_steps)

    @classmethod
    def of_groups(cls, args: Any) -> Self:
        """As TRL's trainers on groups of completions make them."""
        repeat_count = args.steps_per_generation * args.num_iterations
        return cls(
            args.generation_batch_size // args.num_generations,
            repeat_count / args.gradient_accumulation_steps,
            args.num_generations,
            repeat_count,
        )

    @classmethod
    def of_optimizer_steps(cls, args: Any) -> Self:
        """As TRL's distillation makes them: one generation batch of an optimizer step's prompts."""
        accumulated = args.gradient_accumulation_steps
        size = args.per_device_train_batch_size * accumulated * args.world_size
        return cls(size, steps_per_batch=1, repeat_count=accumulated)

    def curriculum_size(self, config: CurriculumConfig, pool: int) -> int:
        """Prompts in a curriculum over a pool of that size: by default what an interval can use up."""
        if config.curriculum_size is not None:
            return config.curriculum_size
        # Gates may have each batch filled up again and again.
        fillings = 1 + config.gate_max_refills if config.gates else 1
        return min(math.ceil(config.curriculum_interval / self.steps_per_batch) * self.batch_size * fillings, pool)


def batch_settings(args: TrainingArguments) -> dict[str, int]:
    """The settings a generation batch is made with, by the names users know."""
    return {name: getattr(args, name) for name in _BATCH_SETTINGS if hasattr(args, name)} | {
        "processes": args.world_size
    }
