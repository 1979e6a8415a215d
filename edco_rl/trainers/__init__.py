"""TRL's trainers with a curriculum, and the mixins they are made of."""

from .curriculum_mixin import BatchLayout, CurriculumMixin
from .distillation import CurriculumDistillationTrainer
from .distillation_config import CurriculumDistillationConfig
from .engine_mixin import EngineMixin
from .grpo import CurriculumGRPOTrainer
from .ppo import CurriculumPPOTrainer
from .ppo_config import CurriculumPPOConfig
from .rloo import CurriculumRLOOTrainer
from .rollout_mixin import RolloutMixin
from .sft import CurriculumSFTTrainer

__all__ = [
    "BatchLayout",
    "CurriculumDistillationConfig",
    "CurriculumDistillationTrainer",
    "CurriculumGRPOTrainer",
    "CurriculumMixin",
    "CurriculumPPOConfig",
    "CurriculumPPOTrainer",
    "CurriculumRLOOTrainer",
    "CurriculumSFTTrainer",
    "EngineMixin",
    "RolloutMixin",
]
