"""Which prompts come next: pure NumPy, without a model, an engine or a trainer."""

from .buffer import PriorityBuffer
from .curriculum import Curriculum
from .gates import GATES, Gate, available_gates, make_gates
from .orders import ByDifficulty
from .outcomes import Outcome, Outcomes
from .pool import FloatArray, IndexArray, Pool
from .quarantine import Quarantine
from .ranked import Ranked
from .registry import STRATEGIES, available_strategies
from .sampler import CurriculumBatchSampler
from .signals import SIGNALS, Signal
from .strategy import Strategy, StrategyContext, quantile_metrics

__all__ = [
    "GATES",
    "SIGNALS",
    "STRATEGIES",
    "ByDifficulty",
    "Curriculum",
    "CurriculumBatchSampler",
    "FloatArray",
    "Gate",
    "IndexArray",
    "Outcome",
    "Outcomes",
    "Pool",
    "PriorityBuffer",
    "Quarantine",
    "Ranked",
    "Signal",
    "Strategy",
    "StrategyContext",
    "available_gates",
    "available_strategies",
    "make_gates",
    "quantile_metrics",
]
