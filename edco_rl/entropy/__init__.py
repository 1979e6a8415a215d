"""From log-probabilities to scores: NumPy and SciPy, without an engine."""

from .estimator import Estimator, Evidence, Request, Score, TokenLogprobs, standard_error
from .estimators import (
    AnswerEntropy,
    Learnability,
    OptionEntropy,
    Perplexity,
    PrefixEntropy,
    RolloutEntropy,
    SequenceEntropy,
    Surprisal,
    rollout_entropy,
)
from .registry import ESTIMATORS, available_estimators, make_estimator
from .topk import TokenEntropy, entropy_from_top_logprobs, renormalised_entropy

__all__ = [
    "ESTIMATORS",
    "AnswerEntropy",
    "Estimator",
    "Evidence",
    "Learnability",
    "OptionEntropy",
    "Perplexity",
    "PrefixEntropy",
    "Request",
    "RolloutEntropy",
    "Score",
    "SequenceEntropy",
    "Surprisal",
    "TokenEntropy",
    "TokenLogprobs",
    "available_estimators",
    "entropy_from_top_logprobs",
    "make_estimator",
    "renormalised_entropy",
    "rollout_entropy",
    "standard_error",
]
