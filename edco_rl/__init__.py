"""Entropy-driven curricula for TRL.

A vLLM engine serves rollouts and token log-probabilities, entropy is computed from them, and a priority buffer feeds
the most uncertain prompts to TRL's trainers.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .config import CurriculumConfig, EngineConfig, EstimatorConfig
from .errors import ConfigurationError, EdcoRLError

if TYPE_CHECKING:
    from .curriculum import Gate, Outcome, Pool, Strategy, available_gates, available_strategies
    from .entropy import Estimator, available_estimators
    from .trainers import (
        CurriculumDistillationConfig,
        CurriculumDistillationTrainer,
        CurriculumGRPOTrainer,
        CurriculumPPOConfig,
        CurriculumPPOTrainer,
        CurriculumSFTTrainer,
    )

__version__ = "0.1.0"

# Imported when first used: trainers pull in torch and TRL, which takes seconds.
_LAZY = {
    "CurriculumDistillationConfig": ".trainers",
    "CurriculumDistillationTrainer": ".trainers",
    "CurriculumGRPOTrainer": ".trainers",
    "CurriculumPPOTrainer": ".trainers",
    "CurriculumSFTTrainer": ".trainers",
    "Estimator": ".entropy",
    "Gate": ".curriculum",
    "Outcome": ".curriculum",
    "CurriculumPPOConfig": ".trainers",
    "Pool": ".curriculum",
    "Strategy": ".curriculum",
    "available_estimators": ".entropy",
    "available_gates": ".curriculum",
    "available_strategies": ".curriculum",
}

__all__ = [
    "ConfigurationError",
    "EdcoRLError",
    "CurriculumConfig",
    "CurriculumDistillationConfig",
    "CurriculumDistillationTrainer",
    "CurriculumGRPOTrainer",
    "CurriculumPPOConfig",
    "CurriculumPPOTrainer",
    "CurriculumSFTTrainer",
    "EngineConfig",
    "Estimator",
    "EstimatorConfig",
    "Gate",
    "Outcome",
    "Pool",
    "Strategy",
    "available_estimators",
    "available_gates",
    "available_strategies",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name], __name__), name)


def __dir__() -> list[str]:
    return __all__
