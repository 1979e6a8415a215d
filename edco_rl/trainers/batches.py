"""How a trainer makes batches, and what of it a run that resumes has to know."""

from dataclasses import dataclass

from transformers import TrainingArguments

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


def batch_settings(args: TrainingArguments) -> dict[str, int]:
    """The settings a generation batch is made with, by the names users know."""
    return {name: getattr(args, name) for name in _BATCH_SETTINGS if hasattr(args, name)} | {
        "processes": args.world_size
    }
