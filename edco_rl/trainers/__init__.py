"""TRL's trainers with a curriculum."""

from .distillation import CurriculumDistillationTrainer
from .distillation_config import CurriculumDistillationConfig
from .grpo import CurriculumGRPOTrainer
from .ppo import CurriculumPPOTrainer
from .ppo_config import CurriculumPPOConfig
from .sft import CurriculumSFTTrainer

__all__ = [
    "CurriculumDistillationConfig",
    "CurriculumDistillationTrainer",
    "CurriculumGRPOTrainer",
    "CurriculumPPOConfig",
    "CurriculumPPOTrainer",
    "CurriculumSFTTrainer",
]
