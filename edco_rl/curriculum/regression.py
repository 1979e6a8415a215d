"""Pass rates from what is known of prompts: a logistic regression, and how much its predictions are worth."""

import numpy as np
from scipy.special import betaln, expit

from .pool import FloatArray

_NEWTON_STEPS = 25
# Completions that a prediction can be worth, and what is thought of that before there are rewards.
_STRENGTHS = np.geomspace(0.5, 64.0, 15)
_PRIOR_STRENGTH, _PRIOR_SPREAD = 4.0, 1.0


def logistic_regression(
    design: FloatArray, successes: FloatArray, failures: FloatArray, mean: FloatArray, variance: FloatArray
) -> FloatArray:
    """The most likely coefficients of a logistic regression with a normal prior, shape (D,), by Newton's method.

    Args:
        design (`NDArray[np.float64]`):
            What is known of each group of completions, shape (G, D).
        successes (`NDArray[np.float64]`), failures (`NDArray[np.float64]`):
            How often each came out well and badly, shape (G,); not only whole numbers.
        mean (`NDArray[np.float64]`), variance (`NDArray[np.float64]`):
            Of each coefficient before there is a group, shape (D,).
    """
    coefficients, total = mean.copy(), successes + failures
    for _ in range(_NEWTON_STEPS):
        rate = expit(design @ coefficients)
        gradient = design.T @ (successes - total * rate) - (coefficients - mean) / variance
        curvature = (design.T * (total * rate * (1 - rate))) @ design + np.diag(1 / variance)
        step = np.linalg.solve(curvature, gradient)
        # Far from the solution the curvature vanishes and a whole step can be endless.
        coefficients = coefficients + step / max(1.0, float(np.abs(step).max()) / 2)
        if np.abs(step).max() < 1e-6:
            break
    return coefficients


def prediction_strength(predicted: FloatArray, successes: FloatArray, failures: FloatArray) -> float:
    """How many completions a predicted pass rate is worth: its Beta distribution has this sum of parameters.

    The most likely of some strengths, as beta-binomial counts of groups that were predicted before they were seen,
    with a log-normal prior. Predictions that say nothing of a group are worth little.

    Args:
        predicted (`NDArray[np.float64]`):
            Pass rates within 0 and 1, both excluded, shape (G,).
        successes (`NDArray[np.float64]`), failures (`NDArray[np.float64]`):
            Of each group, shape (G,).
    """
    good, bad = predicted * _STRENGTHS[:, None], (1 - predicted) * _STRENGTHS[:, None]
    likelihood = (betaln(good + successes, bad + failures) - betaln(good, bad)).sum(axis=1)
    prior = -0.5 * (np.log(_STRENGTHS / _PRIOR_STRENGTH) / _PRIOR_SPREAD) ** 2
    return float(_STRENGTHS[np.argmax(likelihood + prior)])
