"""Entropy-driven curricula for TRL.

A vLLM engine serves rollouts and token log-probabilities, entropy is computed from them, and a priority buffer feeds
the most uncertain prompts to TRL's trainers.
"""

import logging
from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# vLLM's build for CPUs says at every import that it does without Triton, which is as it should be. A filter stays
# where vLLM sets its levels anew.
logging.getLogger("vllm.triton_utils.importing").addFilter(
    lambda record: not str(record.msg).startswith("Triton is installed, but")
)

# The public API: all that is needed to train, and to write a strategy, gate, signal, estimator, reward, transport or
# engine. Imported when first used: trainers pull in torch and TRL, which takes seconds.
_EXPORTS = {
    "errors": ("ConfigurationError", "EdcoRLError"),
    "config": (
        "ComplexityConfig",
        "CurriculumConfig",
        "DataConfig",
        "EngineConfig",
        "EstimatorConfig",
        "available_transports",
    ),
    "curriculum": (
        "Gate",
        "Outcome",
        "Outcomes",
        "Pool",
        "Signal",
        "Strategy",
        "StrategyContext",
        "available_gates",
        "available_strategies",
    ),
    "entropy": ("Estimator", "Request", "Score", "TokenLogprobs", "available_estimators"),
    "rewards": ("RewardFunction", "available_rewards"),
    "engine.protocol": (
        "Completion",
        "Engine",
        "EngineError",
        "EngineLostError",
        "GenerationBackend",
        "Sampling",
        "VLLMEngine",
    ),
    "engine.weights": ("WeightTransport",),
    "trainers.curriculum_mixin": ("BatchLayout", "CurriculumMixin"),
    "trainers.distillation": ("CurriculumDistillationTrainer",),
    "trainers.distillation_config": ("CurriculumDistillationConfig",),
    "trainers.engine_mixin": ("EngineMixin",),
    "trainers.grpo": ("CurriculumGRPOTrainer",),
    "trainers.ppo": ("CurriculumPPOTrainer",),
    "trainers.ppo_config": ("CurriculumPPOConfig",),
    "trainers.rloo": ("CurriculumRLOOTrainer",),
    "trainers.rollout_mixin": ("RolloutMixin",),
    "trainers.sft": ("CurriculumSFTTrainer",),
    "trainers.sft_config": ("CurriculumSFTConfig",),
}
_MODULES = {name: module for module, names in _EXPORTS.items() for name in names}

__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
