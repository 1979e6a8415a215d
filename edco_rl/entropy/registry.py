"""The registry estimators are found in."""

from ..config import EstimatorConfig
from ..plugins import Registry
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

ESTIMATORS = Registry(
    "estimator",
    Estimator,  # type: ignore[type-abstract]
    {
        "prefix_entropy": PrefixEntropy,
        "sequence_entropy": SequenceEntropy,
        "answer_entropy": AnswerEntropy,
        "option_entropy": OptionEntropy,
        "perplexity": Perplexity,
        "surprisal": Surprisal,
        "learnability": Learnability,
        "rollout_entropy": RolloutEntropy,
    },
)


def available_estimators() -> list[str]:
    """Names that [`make_estimator`] knows."""
    return ESTIMATORS.names()


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
    return ESTIMATORS.make(name, config)
