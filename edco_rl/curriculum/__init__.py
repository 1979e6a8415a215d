"""Which prompts come next: pure NumPy, without a model, an engine or a trainer."""

from .buffer import PriorityBuffer
from .curriculum import Curriculum
from .gates import Gate
from .pool import Pool
from .registry import GATES, STRATEGIES, available_gates, available_strategies, make_gates
from .sampler import CurriculumBatchSampler
from .strategy import Outcome, Strategy

__all__ = [
    "GATES",
    "STRATEGIES",
    "Curriculum",
    "CurriculumBatchSampler",
    "Gate",
    "Outcome",
    "Pool",
    "PriorityBuffer",
    "Strategy",
    "available_gates",
    "available_strategies",
    "make_gates",
]
