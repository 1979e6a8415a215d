"""TRL's trainers with a curriculum."""

from .grpo import CurriculumGRPOTrainer

__all__ = ["CurriculumGRPOTrainer"]
