"""Pass rates from what is known of prompts: a logistic regression, and how much its predictions are worth."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln, expit

from .linear_head import LinearHead
from .newton import NEWTON_STEPS, shortened
from .pool import FloatArray, IndexArray, Pool
from .pool_state import positions
from .state import StateError, array, entry, latest_step, refuse, within

_CLOSE = 1e-4
_LARGEST_LOG_ODDS = 700.0
# Completions that a prediction can be worth, and what is thought of that before there are rewards.
_STRENGTHS = np.geomspace(0.5, 64.0, 15)
_PRIOR_STRENGTH, _PRIOR_SPREAD = 4.0, 1.0
# Mean and variance, before there are rewards, of the coefficients: intercept, score, and each other one.
_PRIOR = ((0.0, 4.0), (1.0, 1.0), (0.0, 1.0))
# Groups the regression looks back on.
_GROUPS = 4096
_SMALLEST_RATE = 1e-3


def logistic_regression(
    features: FloatArray,
    subject: IndexArray,
    successes: FloatArray,
    failures: FloatArray,
    mean: FloatArray,
    variance: FloatArray,
) -> FloatArray:
    """The most likely coefficients of a logistic regression with a normal prior, by Newton's method.

    They are those of an intercept, of F features, and of each of S subjects, shape (1 + F + S,).

    Args:
        features (`NDArray[np.float64]`), subject (`NDArray[np.int64]`):
            Features, shape (G, F), and number of the subject of each group of completions, shape (G,).
        successes (`NDArray[np.float64]`), failures (`NDArray[np.float64]`):
            How often each came out well and badly, shape (G,); not only whole numbers.
        mean (`NDArray[np.float64]`), variance (`NDArray[np.float64]`):
            Of each coefficient before there is a group, shape (1 + F + S,).
    """
    coefficients, total = mean, successes + failures
    columns = np.column_stack([np.ones(len(features)), features])
    own = columns.shape[1]

    def sums(weights: FloatArray) -> FloatArray:
        """Of weights over the groups of each subject, shape (S,)."""
        return np.bincount(subject, weights, minlength=len(mean) - own).astype(np.float64)

    def evaluate(at: FloatArray) -> tuple[float, FloatArray]:
        """The logarithm of how likely coefficients are, and the rates they predict."""
        odds = np.maximum(columns @ at[:own] + at[own:][subject], -_LARGEST_LOG_ODDS)
        rate = expit(odds)
        log_rate = np.log(rate)
        apart = (at - mean) ** 2 / variance
        return float(successes @ log_rate + failures @ (log_rate - odds) - apart.sum() / 2), rate

    reached, rate = evaluate(coefficients)
    for _ in range(NEWTON_STEPS):
        excess, weight = successes - total * rate, total * rate * (1 - rate)
        gradient = np.concatenate([excess @ columns, sums(excess)]) - (coefficients - mean) / variance
        curvature = np.diag(np.concatenate([np.zeros(own), sums(weight)]) + 1 / variance)
        curvature[:own, :own] += (columns.T * weight) @ columns
        curvature[:own, own:] = [sums(weight * column) for column in columns.T]
        curvature[own:, :own] = curvature[:own, own:].T
        step = np.linalg.solve(curvature, gradient)
        step, reached, rate = shortened(coefficients, step, reached, _CLOSE, evaluate)
        coefficients = coefficients + step
        if np.abs(step).max() < _CLOSE:
            break
    return coefficients


def likelihoods(predicted: FloatArray, successes: FloatArray, failures: FloatArray) -> FloatArray:
    """Logarithm of how likely groups were, for each number of completions a prediction could be worth, shape (G, 15).

    As beta-binomial counts of groups that were predicted before they were seen.

    Args:
        predicted (`NDArray[np.float64]`):
            Pass rates within 0 and 1, both excluded, shape (G,).
        successes (`NDArray[np.float64]`), failures (`NDArray[np.float64]`):
            Of each group, shape (G,).
    """
    good, bad = np.outer(predicted, _STRENGTHS), np.outer(1 - predicted, _STRENGTHS)
    return betaln(good + successes[:, None], bad + failures[:, None]) - betaln(good, bad)


def prediction_strength(likelihood: FloatArray, weights: FloatArray) -> float:
    """How many completions a predicted pass rate is worth: its Beta distribution has this sum of parameters.

    The most likely of some strengths, with a log-normal prior. Predictions that say nothing of a group are worth
    little.

    Args:
        likelihood (`NDArray[np.float64]`):
            As of [`likelihoods`], shape (G, 15).
        weights (`NDArray[np.float64]`):
            What each group counts, shape (G,).
    """
    prior = -0.5 * (np.log(_STRENGTHS / _PRIOR_STRENGTH) / _PRIOR_SPREAD) ** 2
    return float(_STRENGTHS[np.argmax(weights @ likelihood + prior)])


def expected_value(parameters: FloatArray, target: float) -> FloatArray:
    """The mean of p^(2 target) (1 - p)^(2 - 2 target) over rates p of Beta distributions.

    Args:
        parameters (`NDArray[np.float64]`):
            Both parameters of each, shape (..., 2).
        target (`float`):
            Rate at which the value is highest.
    """
    good, bad = np.moveaxis(parameters, -1, 0)
    if target == 0.5:
        return good * bad / ((good + bad) * (good + bad + 1))
    return np.exp(betaln(good + 2 * target, bad + 2 - 2 * target) - betaln(good, bad))


def chance_to_differ(parameters: FloatArray, group_size: int) -> FloatArray:
    """The chance that completions do not all come out alike, their rate from Beta distributions as above."""
    good, bad = np.moveaxis(parameters, -1, 0)
    alike = betaln(good + group_size, bad), betaln(good, bad + group_size)
    return 1 - sum(np.exp(one - betaln(good, bad)) for one in alike)


class PassRates:
    """Predicts pass rates from log-odds of scores and from subjects, by what came of the last 4,096 groups.

    Args:
        subjects (`NDArray`):
            Number of the subject of each prompt, shape (N,).
        head ([`~edco_rl.curriculum.linear_head.LinearHead`], *optional*):
            What it says of a prompt is another feature, whose coefficient comes after the score's.

    Attributes:
        coefficients (`NDArray[np.float64]`): Of the intercept, the F features and each subject, shape (1 + F + S,).
        strength (`float`): Completions that a prediction counts as.
    """

    def __init__(self, subjects: NDArray[Any], head: LinearHead | None = None) -> None:
        self.subjects, self.head = subjects, head
        number = int(subjects.max()) + 1 + (head is not None)
        self._mean, self._variance = np.array([*_PRIOR[:2], *[_PRIOR[2]] * number]).T
        self.coefficients = self._mean
        self.strength = _PRIOR_STRENGTH
        self._prompts: IndexArray = np.empty(0, dtype=np.int64)
        # Of each group: log-odds of its score, predicted rate, successes, failures, version.
        self._groups: FloatArray = np.empty((0, 5))
        self._likelihoods: FloatArray = np.empty((0, len(_STRENGTHS)))

    def add(
        self,
        prompts: IndexArray,
        log_odds: FloatArray,
        predicted: FloatArray,
        counts: FloatArray,
        versions: IndexArray,
    ) -> None:
        """Learn of groups.

        Args:
            prompts (`NDArray[np.int64]`), log_odds (`NDArray[np.float64]`), predicted (`NDArray[np.float64]`):
                Their prompts, the log-odds of these prompts' scores, and the rates that were predicted, shape (G,).
            counts (`NDArray[np.float64]`):
                Successes and failures, shape (G, 2).
            versions (`NDArray[np.int64]`):
                Optimizer step of each, shape (G,).
        """
        groups = np.column_stack([log_odds, predicted, counts, versions])
        self._prompts = np.concatenate([self._prompts, prompts])[-_GROUPS:]
        self._groups = np.concatenate([self._groups, groups])[-_GROUPS:]
        self._likelihoods = np.concatenate([self._likelihoods, likelihoods(predicted, *counts.T)])[-_GROUPS:]

    def features(self, log_odds: FloatArray, prompts: IndexArray | slice) -> FloatArray:
        """What rates of prompts are predicted from beside subjects, shape (G, F): log-odds, and what a head says."""
        return np.column_stack([log_odds] if self.head is None else [log_odds, self.head.log_odds[prompts]])

    def fit(self, step: int, half_life: float) -> None:
        """Fit to the groups, as they count at an optimizer step: half after so many steps."""
        if not len(self._groups):
            return
        log_odds, _, good, bad, versions = self._groups.T
        features = self.features(log_odds, self._prompts)
        weights = 0.5 ** ((step - versions) / half_life)
        subjects = self.subjects[self._prompts].astype(np.int64)
        counts = good * weights, bad * weights
        self.coefficients = logistic_regression(features, subjects, *counts, self._mean, self._variance)
        self.strength = prediction_strength(self._likelihoods, weights)

    def predict(self, features: FloatArray, subjects: NDArray[Any]) -> FloatArray:
        """Pass rates of prompts with these features, shape (..., F), and subjects, broadcast against each other."""
        own = 1 + features.shape[-1]
        log_odds = self.coefficients[0] + features @ self.coefficients[1:own]
        rates = expit(log_odds + self.coefficients[own:][subjects])
        return np.clip(rates, _SMALLEST_RATE, 1 - _SMALLEST_RATE)

    def slopes(self) -> dict[str, float]:
        """Coefficients of the features, to log."""
        names = ("score_slope",) if self.head is None else ("score_slope", "head_slope")
        return dict(zip(names, self.coefficients[1:].tolist(), strict=False))

    def state_dict(self) -> dict[str, Any]:
        """Everything a restart needs."""
        head = {} if self.head is None else {"head": self.head.state_dict()}
        return {"prompts": self._prompts, "groups": self._groups} | head

    def load_state_dict(self, state: dict[str, Any], pool: Pool) -> None:
        """Restore what [`~PassRates.state_dict`] returned."""
        self._prompts = positions(state, "prompts", pool, different=False)
        self._groups = array(state, "groups", np.float64, len(self._prompts), 5)
        if len(self._groups) > _GROUPS:
            raise StateError(("groups",), f"must be at most {_GROUPS}; got {len(self._groups)}")
        _, rates, good, bad, versions = self._groups.T
        wrong = (rates < 0) | (rates >= 1) | (good < 0) | (bad < 0)
        refuse("groups", wrong, "must hold a rate within 0 and 1, and counts from 0")
        wrong = (versions < 0) | (versions > latest_step()) | (versions != np.floor(versions))
        refuse("groups", wrong, f"must be of an optimizer step from 0 to {latest_step()}")
        self._likelihoods = likelihoods(rates, good, bad)
        if self.head is not None:
            with within("head"):
                self.head.load_state_dict(entry(state, "head"))
