"""Which prompts come next: pure NumPy, without a model, an engine or a trainer."""

from .buffer import PriorityBuffer
from .curriculum import Curriculum
from .pool import Pool
from .sampler import CurriculumBatchSampler
from .strategies import EDCO, Random, available_strategies, strategy_class
from .strategy import Outcome, Strategy

__all__ = [
    "EDCO",
    "Curriculum",
    "CurriculumBatchSampler",
    "Outcome",
    "Pool",
    "PriorityBuffer",
    "Random",
    "Strategy",
    "available_strategies",
    "strategy_class",
]
