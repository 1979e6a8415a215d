"""Choosing among many without sorting them all. Ties are at random, and never as a machine's sort leaves them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .pool import IndexArray


def highest(
    values: NDArray[Any], n: int, rng: np.random.Generator, among: NDArray[np.bool_] | None = None
) -> IndexArray:
    """Where the `n` highest values are, or all where there are fewer, the highest first, ties in random order.

    Args:
        values (`NDArray`):
            Not NaN where it is chosen from, shape (N,).
        n (`int`):
            How many.
        rng (`np.random.Generator`):
            Breaks ties.
        among (`NDArray[np.bool_]`, *optional*):
            Mask of what is chosen from, shape (N,); by default all.
    """
    if n == 0:
        return np.empty(0, dtype=np.int64)
    size = len(values)
    excluded = 0 if among is None else size - int(np.count_nonzero(among))
    if among is not None and excluded:
        # What is sought is among the n + excluded highest of all, NaN counted as highest.
        few = n + excluded < size // 2
        places = _from_bound(values, n + excluded) if few else np.arange(size)
        places = places[among[places]]
        return places[highest(values[places], n, rng)]
    chosen = np.arange(size)
    if n < size:
        chosen = _from_bound(values, n)
        lowest = values[chosen] == values[chosen].min()
        ties, chosen = chosen[lowest], chosen[~lowest]
        chosen = np.concatenate([chosen, rng.choice(ties, n - len(chosen), replace=False)])
    chosen = chosen[np.argsort(-values[chosen])]
    tied = _tied(values[chosen])
    if len(tied):
        alike = np.sort(chosen[tied])
        chosen[tied] = alike[np.lexsort((rng.permutation(len(alike)), -values[alike]))]
    return chosen


def _from_bound(values: NDArray[Any], n: int) -> IndexArray:
    """Where the `n` highest values are, and all that equal the lowest of them, in ascending order of position."""
    return np.flatnonzero(values >= np.partition(values, len(values) - n)[-n])


def ascending(values: NDArray[Any]) -> IndexArray:
    """Where the lowest value is, the next, ..., equal ones in order of position, shape (N,)."""
    order = np.argsort(values)
    tied = _tied(values[order])
    if len(tied):
        order[tied] = order[tied][np.lexsort((order[tied], values[order[tied]]))]
    return order


def _tied(values: NDArray[Any]) -> IndexArray:
    """Where sorted values equal a neighbour."""
    same = values[1:] == values[:-1]
    return np.flatnonzero(np.concatenate([same, [False]]) | np.concatenate([[False], same]))


def lowest_set(values: NDArray[Any], n: int) -> IndexArray:
    """Where the `n` lowest values are, of equal ones the first, in ascending order of position, shape (n,)."""
    if n >= len(values):
        return np.arange(len(values))
    bound = np.partition(values, n - 1)[n - 1]
    below = values < bound
    below[np.flatnonzero(values == bound)[: n - np.count_nonzero(below)]] = True
    return np.flatnonzero(below)


def any_but(excluded: IndexArray, size: int, n: int, rng: np.random.Generator) -> IndexArray:
    """`n` different numbers below `size` at random, none of those `excluded`, shape (n,).

    Args:
        excluded (`NDArray[np.int64]`):
            Ascending, none twice.
        size (`int`), n (`int`):
            `n` is at most `size` less those excluded.
        rng (`np.random.Generator`):
            Draws.
    """
    free = rng.choice(size - len(excluded), size=n, replace=False)
    return free + np.searchsorted(excluded - np.arange(len(excluded)), free, side="right")


def ranks(values: NDArray[Any]) -> NDArray[np.float64]:
    """The rank of each value, 1 for the highest; equal ones share the mean of theirs, shape (N,)."""
    order = np.argsort(-values)
    sorted_values = values[order]
    first = np.flatnonzero(np.concatenate([[True], sorted_values[1:] != sorted_values[:-1]]))
    lengths = np.diff(np.append(first, len(values)))
    found = np.empty(len(values))
    found[order] = np.repeat(first + (lengths + 1) / 2, lengths)
    return found


class Places:
    """Places in batches that parts of a pool are due, by their shares of it; what is left of one is carried over.

    Args:
        parts (`NDArray`):
            Number of the part of each prompt, shape (N,).

    Attributes:
        shares (`NDArray[np.float64]`): Share of the pool of each part, shape (P,).
        owed (`NDArray[np.float64]`): Places each is due, shape (P,).
    """

    def __init__(self, parts: NDArray[Any]) -> None:
        self.shares: NDArray[np.float64] = np.bincount(parts) / len(parts)
        self.owed: NDArray[np.float64] = np.zeros(len(self.shares))

    def due(self, n: int, chosen: NDArray[Any]) -> list[int]:
        """Places of each part in a batch of `n`, beside those of the parts already `chosen`."""
        self.owed += self.shares * n - np.bincount(chosen, minlength=len(self.shares))
        places = np.zeros(len(self.shares), dtype=np.int64)
        for _ in range(n - len(chosen)):
            most = int(np.argmax(self.owed))
            places[most] += 1
            self.owed[most] -= 1
        return places.tolist()
