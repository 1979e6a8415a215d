"""From log-probabilities to scores: pure NumPy, without an engine."""

from .estimator import Estimator, PrefixEntropy, Request, Score, rollout_entropy
from .topk import TokenEntropy, entropy_from_top_logprobs

__all__ = [
    "Estimator",
    "PrefixEntropy",
    "Request",
    "Score",
    "TokenEntropy",
    "entropy_from_top_logprobs",
    "rollout_entropy",
]
