"""The registry estimators are found in."""

from ..config import EstimatorConfig
from ..config.plugins import find_class
from .estimator import Estimator
from .estimators import (
    AnswerEntropy,
    Learnability,
    OptionEntropy,
    Perplexity,
    PrefixEntropy,
    RolloutEntropy,
    SequenceEntropy,
    Surprisal,
)

_ESTIMATORS: dict[str, type[Estimator]] = {
    "prefix_entropy": PrefixEntropy,
    "sequence_entropy": SequenceEntropy,
    "answer_entropy": AnswerEntropy,
    "option_entropy": OptionEntropy,
    "perplexity": Perplexity,
    "surprisal": Surprisal,
    "learnability": Learnability,
    "rollout_entropy": RolloutEntropy,
}


def available_estimators() -> list[str]:
    """Names that [`make_estimator`] knows."""
    return list(_ESTIMATORS)


def make_estimator(config: EstimatorConfig, name: str | None = None) -> Estimator:
    """The estimator a configuration describes.

    Args:
        config (`EstimatorConfig`):
            Settings.
        name (`str`, *optional*):
            One of [`available_estimators`], `package.module:Class` or `package.module.Class`; by default
            `config.estimator`.

    Raises:
        ConfigurationError: There is no such estimator, or it is not an [`Estimator`].
    """
    name = config.estimator if name is None else name
    return find_class("estimator", name, _ESTIMATORS, Estimator)(config)  # type: ignore[type-abstract]
