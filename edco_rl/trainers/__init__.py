"""TRL's trainers with a curriculum."""

from .grpo import CurriculumGRPOTrainer
from .sft import CurriculumSFTTrainer

__all__ = ["CurriculumGRPOTrainer", "CurriculumSFTTrainer"]
