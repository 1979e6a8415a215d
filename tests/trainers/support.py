"""What the tests of several trainers train on, and with what."""

from datasets import Dataset
from trl import GRPOConfig, RLOOConfig, SFTConfig

from edco_rl import (
    CurriculumDistillationConfig,
    CurriculumDistillationTrainer,
    CurriculumGRPOTrainer,
    CurriculumPPOConfig,
    CurriculumPPOTrainer,
    CurriculumRLOOTrainer,
    CurriculumSFTTrainer,
)

TRAINING = {
    "report_to": "none",
    "bf16": False,
    "use_cpu": True,
    "max_steps": 5,
    "learning_rate": 1e-3,
    "dataloader_pin_memory": False,
    "gradient_checkpointing": False,
    "logging_steps": 1,
    "save_strategy": "no",
    "disable_tqdm": True,
}
ROLLOUTS = TRAINING | {
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 2,
    "num_generations": 2,
    "max_completion_length": 4,
}

ROWS = TRAINING | {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}

# Class, settings' class, and settings with which an optimizer step takes four prompts.
TRAINERS = {
    "grpo": (CurriculumGRPOTrainer, GRPOConfig, ROLLOUTS),
    "rloo": (CurriculumRLOOTrainer, RLOOConfig, ROLLOUTS),
    "ppo": (CurriculumPPOTrainer, CurriculumPPOConfig, ROLLOUTS),
    "sft": (CurriculumSFTTrainer, SFTConfig, ROWS),
    "distillation": (CurriculumDistillationTrainer, CurriculumDistillationConfig, ROWS | {"lmbda": 0.0}),
}
ON_ROLLOUTS = ("grpo", "rloo", "ppo")


def sums(rows=13, **columns):
    """Prompts of the tiny model, as plain text."""
    return Dataset.from_dict({"prompt": [f"{i} + {i * i} =" for i in range(rows)], **columns})


def length_reward(completions, **kwargs):
    """Differs within groups, and needs no right answer."""
    return [float(sum(map(ord, completion)) % 7) for completion in completions]


def taught_by(kind, model):
    """What a trainer is given between model and settings: rewards, a teacher, or nothing."""
    return (length_reward,) if kind in ON_ROLLOUTS else (model,) if kind == "distillation" else ()


def logged(trainer, *names):
    """Train, and return these metrics of each optimizer step."""
    trainer.train()
    steps = [entry for entry in trainer.state.log_history if "loss" in entry]
    return [{name: entry[name] for name in names if name in entry} for entry in steps]
