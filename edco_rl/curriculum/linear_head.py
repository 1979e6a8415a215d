"""A linear head: how likely prompts are to be answered right, from a vector of each, as the policy's hidden state."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.special import expit

from .newton import NEWTON_STEPS, shortened
from .pool import FloatArray, IndexArray, Pool
from .pool_state import column

# Prompts with rewards that it learns from: with fewer it says nothing, of more it takes those with most rewards.
_FEWEST, _MOST = 16, 1024
# Variance of what vectors add to a prompt's log-odds, before there are rewards: the one that predicts best is taken.
_VARIANCES = (0.1, 1.0, 10.0)
_INTERCEPT_VARIANCE = 4.0
_CLOSE = 1e-6
# Log-odds beyond which it says no more.
_LARGEST = 8.0


def leave_one_out(
    kernel: FloatArray, successes: FloatArray, failures: FloatArray
) -> tuple[FloatArray, FloatArray, float]:
    """A logistic regression on vectors of prompts, and what it says of each prompt by the rewards of the others.

    Its coefficients, with a normal prior, are the most likely ones. It is solved as a Gaussian process (Rasmussen and
    Williams 2006, algorithm 3.1), which is as large as there are prompts, however long their vectors are. Leaving a
    prompt out is an update of the normal approximation at the solution, not a second fit.

    Args:
        kernel (`NDArray[np.float64]`):
            Products of the vectors, times the variance of the coefficients, shape (G, G).
        successes (`NDArray[np.float64]`), failures (`NDArray[np.float64]`):
            How often each prompt came out well and badly, shape (G,); not only whole numbers.

    Returns:
        What each vector counts in the coefficients, which are the variance times the sum of the vectors so weighted,
        shape (G,); what the vectors add to the log-odds of each prompt, its own rewards left out, shape (G,); and the
        logarithm of how likely the rewards of all are by such predictions.
    """
    total, covariance = successes + failures, kernel + _INTERCEPT_VARIANCE

    def likelihood(log_odds: FloatArray) -> float:
        return float(-successes @ np.logaddexp(0.0, -log_odds) - failures @ np.logaddexp(0.0, log_odds))

    def evaluate(weights: FloatArray) -> tuple[float, FloatArray]:
        log_odds = covariance @ weights
        return likelihood(log_odds) - float(weights @ log_odds) / 2, log_odds

    weights = np.zeros(len(kernel))
    reached, log_odds = evaluate(weights)
    for _ in range(NEWTON_STEPS):
        rate = expit(log_odds)
        excess, root = successes - total * rate, np.sqrt(total * rate * (1 - rate))
        factor = cho_factor(np.eye(len(root)) + root[:, None] * covariance * root, lower=True)
        aim = root**2 * log_odds + excess
        step = aim - root * cho_solve(factor, root * (covariance @ aim)) - weights
        step, reached, log_odds = shortened(weights, step, reached, _CLOSE, evaluate)
        weights = weights + step
        if np.abs(step).max() < _CLOSE:
            break
    # Without a prompt's rewards all that goes along with its log-odds moves, by its covariance with these.
    half = solve_triangular(factor[0], root[:, None] * covariance, lower=True)
    variance = np.diag(covariance) - (half**2).sum(axis=0)
    with_intercept = _INTERCEPT_VARIANCE * (1 - solve_triangular(factor[0], root, lower=True) @ half)
    moved = excess / (1 - root**2 * variance)
    added = log_odds - _INTERCEPT_VARIANCE * weights.sum() - (variance - with_intercept) * moved
    return weights, added, likelihood(log_odds - variance * moved)


def most_rewarded(counts: FloatArray) -> IndexArray:
    """Which prompts are learned from, by their successes and failures, shape (N, 2), in ascending order."""
    total = counts.sum(axis=1)
    rows = np.argsort(-total, kind="stable")[:_MOST]
    return np.sort(rows[total[rows] > 0])


class LinearHead:
    """Predicts from vectors of prompts, learned anew each time from those of the prompts with rewards.

    A prompt's own rewards have no part in what is said of it: they count by themselves, and so what the head is worth
    can be told from them. With rewards of fewer than 16 prompts it says nothing. Vectors are not kept.

    Args:
        pool (`Pool`):
            The prompts.

    Attributes:
        log_odds (`NDArray[np.float32]`):
            What the latest vector of each prompt adds to its log-odds, 0 for the average one and where none is known,
            shape (N,).
    """

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.log_odds: NDArray[np.float32] = np.zeros(len(pool), dtype=np.float32)

    def learn(self, prompts: IndexArray, vectors: NDArray[np.float32], counts: FloatArray) -> None:
        """Learn from the prompts with rewards, at most 1,024, and predict all of them.

        Args:
            prompts (`NDArray[np.int64]`), vectors (`NDArray[np.float32]`):
                Different prompts and their vectors, shapes (n,) and (n, H).
            counts (`NDArray[np.float64]`):
                Successes and failures of each, 0 where there are none, shape (n, 2).
        """
        rows = most_rewarded(counts)
        if len(rows) < _FEWEST:
            return
        mean, deviation = (of(vectors, axis=0, dtype=np.float64).astype(np.float32) for of in (np.mean, np.std))
        scale = np.where(deviation > 0, deviation, 1.0).astype(np.float32) * np.float32(vectors.shape[1] ** 0.5)
        scaled = (vectors - mean) / scale
        kernel = (scaled[rows] @ scaled[rows].T).astype(np.float64)
        fits = [(variance, *leave_one_out(variance * kernel, *counts[rows].T)) for variance in _VARIANCES]
        variance, weights, added, _ = max(fits, key=lambda fit: fit[-1])
        found = scaled @ (variance * (scaled[rows].T @ weights.astype(np.float32)))
        found[rows] = added
        self.log_odds[prompts] = np.clip(found, -_LARGEST, _LARGEST)

    def state_dict(self) -> dict[str, Any]:
        """Everything a restart needs."""
        return {"log_odds": self.log_odds.copy()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what [`~LinearHead.state_dict`] returned; nothing is known of prompts that are new since."""
        self.log_odds = column(state, "log_odds", self.pool, np.float32, 0.0, least=-_LARGEST, most=_LARGEST)
