"""A strategy that predicts the pass rate of prompts, those never tried among them, from their scores."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from ..errors import ConfigurationError
from .buffer import PriorityBuffer
from .pool import FloatArray, IndexArray
from .strategy import Outcome, StrategyContext
from .success import MoPPS

# Variance of the normal prior of intercept and slope, for scores of mean 0 and variance 1: wide, but it keeps the
# slope finite where successes and failures can be told apart.
_PRIOR_VARIANCE = 9.0
_NEWTON_STEPS = 25
# A Beta distribution needs parameters above 0.
_SMALLEST_RATE = 1e-6


class PredictedPassRate(MoPPS):
    """The prompts whose pass rate, predicted from the estimator's score, is nearest a target.

    A logistic regression of rewards on scores gives every scored prompt a rate q. It is fitted again before each draw,
    to all groups seen so far, those that no gate admitted among them; so it does not matter what a score means for
    this policy, reward and sampling temperature, as long as it rises or falls with difficulty. Where `mopps` has the
    same prior for all prompts, each has a Beta distribution with the parameters strength * q and strength * (1 - q)
    here. Prompts without a score, and all prompts before the first reward, have q = target. After
    `curriculum_half_life` optimizer steps a group counts half in the regression.

    Args:
        target (`float`, *optional*, defaults to `0.5`):
            Pass rate to be near; at 0.5 the rewards of a group vary most.
        discount (`float`, *optional*, defaults to `0.5`):
            What is kept of a prompt's own earlier rewards each time it is seen.
        strength (`float`, *optional*, defaults to `8.0`):
            Completions that a prediction counts as.
    """

    name: ClassVar[str] = "predicted_pass_rate"

    def __init__(
        self, context: StrategyContext, *, target: float = 0.5, discount: float = 0.5, strength: float = 8.0
    ) -> None:
        super().__init__(context, target=target, discount=discount, candidates=None)
        if strength <= 0:
            raise ConfigurationError(f"{self.name} needs a strength above 0; got {strength}.")
        self.strength = strength
        self.scores = PriorityBuffer(self.pool)
        self._groups: list[tuple[float, float, float, int]] = []  # score, successes, failures, version

    def wants(self, budget: int) -> IndexArray:
        return self.any_prompts(budget)

    def observe(self, outcomes: Sequence[Outcome]) -> None:
        super().observe(outcomes)
        for outcome in outcomes:
            if outcome.score is not None:
                self.scores.update(outcome.index, outcome.score, outcome.version)
            if outcome.rewards is not None and self.scores.known[outcome.index]:
                score, successes = float(self.scores.scores[outcome.index]), float(sum(outcome.rewards))
                self._groups.append((score, successes, len(outcome.rewards) - successes, outcome.version))

    def rates(self) -> FloatArray:
        """Predicted pass rate of each prompt, shape (N,)."""
        if not self._groups:
            return np.full(len(self.pool), self.target)
        seen, successes, failures, versions = np.array(self._groups).T
        if self.half_life is not None:
            fading = 0.5 ** ((versions.max() - versions) / self.half_life)
            successes, failures = successes * fading, failures * fading
        scores = self.scores.scores
        mean, deviation = np.nanmean(scores), np.nanstd(scores) or 1.0
        intercept, slope = logistic_regression((seen - mean) / deviation, successes, failures)
        rates = _sigmoid(intercept + slope * (scores - mean) / deviation)
        return np.where(self.scores.known, rates, self.target)

    def priors(self) -> FloatArray:
        rates = np.clip(self.rates(), _SMALLEST_RATE, 1 - _SMALLEST_RATE)
        return self.strength * np.column_stack([rates, 1 - rates])

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"scores": self.scores.state_dict(), "groups": [list(g) for g in self._groups]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.scores.load_state_dict(state["scores"])
        self._groups = [(score, good, bad, int(version)) for score, good, bad, version in state["groups"]]


def logistic_regression(x: FloatArray, successes: FloatArray, failures: FloatArray) -> tuple[float, float]:
    """Intercept and slope of a logistic regression with a normal prior of mean 0, by Newton's method.

    Args:
        x (`NDArray[np.float64]`):
            Shape (G,).
        successes (`NDArray[np.float64]`), failures (`NDArray[np.float64]`):
            How often each came out well and badly, shape (G,); not only whole numbers.
    """
    design = np.column_stack([np.ones_like(x), x])
    coefficients = np.zeros(2)
    for _ in range(_NEWTON_STEPS):
        rate = _sigmoid(design @ coefficients)
        total = successes + failures
        gradient = design.T @ (successes - total * rate) - coefficients / _PRIOR_VARIANCE
        curvature = (design.T * (total * rate * (1 - rate))) @ design + np.eye(2) / _PRIOR_VARIANCE
        coefficients = coefficients + np.linalg.solve(curvature, gradient)
    return float(coefficients[0]), float(coefficients[1])


def _sigmoid(values: FloatArray) -> FloatArray:
    return 0.5 * (1 + np.tanh(values / 2))
