"""The registry estimators are found in."""

import importlib

from ..config import ConfigurationError, EstimatorConfig
from .estimator import Estimator
from .estimators import (
    AnswerEntropy,
    OptionEntropy,
    Perplexity,
    PrefixEntropy,
    RolloutEntropy,
    SequenceEntropy,
)

_ESTIMATORS: dict[str, type[Estimator]] = {
    "prefix_entropy": PrefixEntropy,
    "sequence_entropy": SequenceEntropy,
    "answer_entropy": AnswerEntropy,
    "option_entropy": OptionEntropy,
    "perplexity": Perplexity,
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
    if name in _ESTIMATORS:
        return _ESTIMATORS[name](config)
    module_name, _, attribute = name.replace(":", ".").rpartition(".")
    if not module_name:
        raise ConfigurationError(
            f"Unknown estimator {name!r}. Available: {', '.join(available_estimators())}, or the import path of your "
            "own class, as package.module:Class."
        )
    try:
        found = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(f"Cannot import estimator {name!r}: {error}.") from error
    if not (isinstance(found, type) and issubclass(found, Estimator)):
        raise ConfigurationError(f"estimator {name!r} is not a subclass of edco_rl.entropy.Estimator.")
    return found(config)
