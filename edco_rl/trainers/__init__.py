"""TRL's trainers with a curriculum."""

from .grpo import CurriculumGRPOTrainer
from .ppo import CurriculumPPOTrainer
from .ppo_config import PPOConfig

__all__ = ["CurriculumGRPOTrainer", "CurriculumPPOTrainer", "PPOConfig"]
