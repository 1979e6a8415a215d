"""The curricula that measured estimators lead to, and the groups with a signal they would draw."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from ..config import AuditConfig, EstimatorConfig
from ..statistics import FloatArray, Interval, level_of_each
from .auditor import Measurement
from .candidates import EDCO_RELEASED, FULL_SEQUENCE_ESTIMATORS
from .groups import curriculum_signal

# Estimators that a strategy of its own ranks by; by all others, edco ranks.
_STRATEGIES = {"learnability": "learning_edge", "surprisal": "learning_edge", "perplexity": "loss"}


@dataclass(frozen=True)
class Curriculum:
    """A curriculum, and what it would draw.

    Args:
        name (`str`):
            What tables call it.
        strategy (`str`):
            Its strategy.
        signal_share (`Interval`):
            Share of its groups with a signal.
        settings (`dict`, *optional*):
            What else a recipe says, by name: estimator and `scoring_*`, where the strategy has none of its own.
    """

    name: str
    strategy: str
    signal_share: Interval
    settings: dict[str, Any] = field(default_factory=dict)


def measured_curricula(
    measured: Sequence[Measurement],
    chances: FloatArray,
    audit: AuditConfig,
    configured: EstimatorConfig,
    defaults: EstimatorConfig,
) -> list[Curriculum]:
    """A curriculum for each estimator; their intervals hold the true shares all together, 95 times of 100.

    Each interval is of level 1 - 0.05 / (number of curricula) (Bonferroni), as the best of many is looked for.

    Args:
        measured (`Sequence[Measurement]`):
            The estimators.
        chances (`NDArray[np.float64]`):
            Chance of a signal of each prompt, shape (P,).
        audit (`AuditConfig`):
            Settings of the audit.
        configured (`EstimatorConfig`), defaults (`EstimatorConfig`):
            How the run would score prompts, and how it would with no setting.
    """
    ranking = {
        name: (found.candidate.config, scores) for found in measured for name, scores in [_ranking(found, configured)]
    }
    level = level_of_each(len(ranking))
    return [
        Curriculum(
            name,
            _STRATEGIES.get(config.estimator, "edco"),
            curriculum_signal(scores, chances, audit.curriculum_share, confidence_level=level, seed=audit.seed),
            {} if config.estimator in _STRATEGIES else recipe_settings(config, defaults),
        )
        for name, (config, scores) in ranking.items()
    ]


def _ranking(found: Measurement, configured: EstimatorConfig) -> tuple[str, FloatArray]:
    """What the curriculum of an estimator is called, and the scores of which it takes the highest."""
    config, scores = found.candidate.config, found.values[0]
    if config.estimator == "surprisal":
        likely = np.exp(-scores)
        scores = likely * (1 - likely)
    if config.estimator in _STRATEGIES:
        return _STRATEGIES[config.estimator], scores
    if config == configured:
        return "edco", scores
    released = all(getattr(config, name) == value for name, value in EDCO_RELEASED.items())
    return "edco as released" if released else f"edco by {found.candidate.label}", scores


def recipe_settings(config: EstimatorConfig, defaults: EstimatorConfig) -> dict[str, Any]:
    """What a recipe says of an estimator: its name, and the `scoring_*` that are not as by default."""
    unused = () if config.estimator in FULL_SEQUENCE_ESTIMATORS else ("scoring_sequence_tokens",)
    usual = asdict(defaults)
    changed = {name: value for name, value in asdict(config).items() if value != usual[name] and name not in unused}
    return {"estimator": config.estimator} | changed
