"""TRL's trainers with a curriculum."""

from .grpo import CurriculumGRPOTrainer
from .ppo import CurriculumPPOTrainer
from .ppo_config import PPOConfig
from .sft import CurriculumSFTTrainer

__all__ = ["CurriculumGRPOTrainer", "CurriculumPPOTrainer", "CurriculumSFTTrainer", "PPOConfig"]
