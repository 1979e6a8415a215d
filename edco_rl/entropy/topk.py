"""Next-token entropy from the top-k log-probabilities an engine returns."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

FloatArray = NDArray[np.float64]

_TAIL_POSITION = 1 / 3


@dataclass(frozen=True)
class TokenEntropy:
    """Entropy of next-token distributions of which only the largest probabilities are known.

    Args:
        estimate (`NDArray[np.float64]`):
            Point estimate at each position, shape (T,), in nats, between the bounds.
        lower (`NDArray[np.float64]`):
            Least entropy the missing tail allows, shape (T,), in nats.
        upper (`NDArray[np.float64]`):
            Largest entropy the missing tail allows, shape (T,), in nats.
    """

    estimate: FloatArray
    lower: FloatArray
    upper: FloatArray


def renormalised_entropy(logprobs: FloatArray) -> FloatArray:
    """Entropy of each position over the tokens given alone, their probabilities scaled to one, shape (T,), in nats.

    Args:
        logprobs (`NDArray[np.float64]`):
            Log-probabilities of the tokens, shape (T, k), in nats; -inf for none.
    """
    entropy = -_x_log_x(softmax(logprobs, axis=1)).sum(axis=1)
    return np.maximum(entropy, 0.0)  # rounding can make a certain one negative


def entropy_from_top_logprobs(top_logprobs: FloatArray, vocabulary_size: int) -> TokenEntropy:
    """Entropy H = -sum p log p of each position, with the bounds the unseen tail leaves.

    The tail holds mass r = 1 - sum of the k known probabilities over V - k tokens, none above the smallest known one.
    Entropy is concave, so it is largest when r is spread evenly and least when as few tokens as possible hold it. The
    estimate lies a third of the way up: on real prompts the exact entropy was found between 0.25 and 0.43 of it.

    Args:
        top_logprobs (`NDArray[np.float64]`):
            Largest log-probabilities at each position in descending order, shape (T, k), in nats; -inf for none.
        vocabulary_size (`int`):
            Tokens in the vocabulary, V.

    Raises:
        ValueError: `top_logprobs` is not of shape (T, k) with k at least 1, or sums to more than one.

    Example:

    ```python
    >>> entropy_from_top_logprobs(np.log([[0.5, 0.5]]), vocabulary_size=2).estimate
    array([0.69314718])
    ```
    """
    if top_logprobs.ndim != 2 or top_logprobs.shape[1] == 0:
        raise ValueError(f"top_logprobs must have shape (T, k) with k at least 1; got {top_logprobs.shape}.")
    p = np.exp(top_logprobs)
    mass = p.sum(axis=1)
    if (mass > 1.01).any():  # engines that compute in bfloat16 overshoot a little
        raise ValueError(f"Probabilities of a position sum to {mass.max():.3f}; they are not a distribution's top k.")
    known = -_x_log_x(p).sum(axis=1)
    unseen = vocabulary_size - top_logprobs.shape[1]
    tail = np.clip(1.0 - mass, 0.0, None) if unseen > 0 else np.zeros_like(mass)
    smallest = p[:, -1]
    with np.errstate(divide="ignore", invalid="ignore"):
        # As many tail tokens as fit at the largest probability they can have, and one with what remains.
        full = np.where(smallest > 0, np.floor(tail / smallest), 0.0)
    rest = np.clip(tail - full * smallest, 0.0, None)
    lower = known - full * _x_log_x(smallest) - _x_log_x(rest)
    upper = known - _x_log_x(tail) + tail * np.log(max(unseen, 1))
    upper = np.maximum(upper, lower)
    return TokenEntropy(estimate=lower + _TAIL_POSITION * (upper - lower), lower=lower, upper=upper)


def at_temperature(
    logprobs: FloatArray, top_logprobs: FloatArray, temperature: float, vocabulary_size: int
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Log-probabilities of tokens at another temperature, from what is known of each distribution at 1.

    With b = 1 / temperature, a token of probability p has p^b / Z. Of Z the known tokens are a part; the tail's is
    largest and least where its mass is spread evenly, or held by as few tokens as possible.

    Args:
        logprobs (`NDArray[np.float64]`):
            Of the tokens, shape (T,), in nats.
        top_logprobs (`NDArray[np.float64]`):
            Largest log-probabilities at each position in descending order, shape (T, k), in nats, k at least 1.
        temperature (`float`):
            Above 0.
        vocabulary_size (`int`):
            Tokens in the vocabulary.

    Returns:
        Estimate, from the mean of both sums, and least and largest value, each of shape (T,), in nats.
    """
    inverse = 1 / temperature
    outside = logprobs < top_logprobs[:, -1]
    known = np.column_stack([top_logprobs, np.where(outside, logprobs, -np.inf)])
    tail = np.clip(1 - np.exp(known).sum(axis=1), 0.0, None)
    unseen = np.maximum(vocabulary_size - top_logprobs.shape[1] - outside, 1)
    spread = unseen * (tail / unseen) ** inverse
    smallest = np.exp(top_logprobs[:, -1])
    tokens = np.minimum(np.divide(tail, smallest, out=np.zeros_like(tail), where=smallest > 0), unseen)
    held = tokens * smallest**inverse
    parts = np.exp(inverse * known).sum(axis=1)
    least, most = np.minimum(spread, held), np.maximum(spread, held)
    own = inverse * logprobs
    estimate, low, high = (own - np.log(parts + part) for part in ((least + most) / 2, most, least))
    return estimate, low, high


def _x_log_x(x: FloatArray) -> FloatArray:
    """x log x with its limit 0 at 0."""
    return np.where(x > 0, x * np.log(np.where(x > 0, x, 1.0)), 0.0)
