"""The registry strategies are found in."""

from ..plugins import Registry
from .learning_edge import LearningEdge
from .orders import POCL, BabyStep, EasyToHard, HardToEasy, Length, Perplexity, Random
from .phases import Phases
from .ranked import EDCO, Combined, HighRewardVariance, Loss, TargetPassRate
from .strategy import Strategy
from .success import AdaRFT, MoPPS

STRATEGIES = Registry(
    "strategy",
    Strategy,  # type: ignore[type-abstract]
    {
        "adarft": AdaRFT,
        "baby_step": BabyStep,
        "combined": Combined,
        "easy_to_hard": EasyToHard,
        "edco": EDCO,
        "hard_to_easy": HardToEasy,
        "learning_edge": LearningEdge,
        "length": Length,
        "loss": Loss,
        "mopps": MoPPS,
        "perplexity": Perplexity,
        "phases": Phases,
        "pocl": POCL,
        "random": Random,
        "reward_variance": HighRewardVariance,
        "target_pass_rate": TargetPassRate,
    },
)


def available_strategies() -> list[str]:
    """Names of the strategies of the package."""
    return STRATEGIES.names()
