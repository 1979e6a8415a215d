"""The priority buffer: the last value of each prompt, the policy version that made it, and an order of preference."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .choosing import highest, ranks
from .pool import SAMPLE, FloatArray, IndexArray, Pool
from .pool_state import column
from .state import StateError, latest_step

UNSCORED = -1


class PriorityBuffer:
    """A value for each prompt of a pool; the higher, the more it is preferred.

    Values of the newest version can come before older ones, and prompts without a value last (`newest_first`), or
    values can fade to the mean of all (`half_life`, in optimizer steps), which comes first where both are given. With
    neither, versions do not matter. Where they are not last, prompts without a value count as the average one.

    Args:
        pool (`Pool`):
            The prompts.

    Attributes:
        scores (`NDArray[np.float64]`): The values, NaN where there is none, shape (N,).
        versions (`NDArray[np.int32]`): The optimizer step of each, shape (N,).
    """

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.scores: FloatArray = np.full(len(pool), np.nan)
        self.versions: NDArray[np.int32] = np.full(len(pool), UNSCORED, dtype=np.int32)

    @property
    def known(self) -> NDArray[np.bool_]:
        """Which prompts have a value, shape (N,)."""
        return self.versions != UNSCORED

    def update(self, index: IndexArray, score: FloatArray, version: IndexArray | int) -> None:
        """Set the values of prompts; of two for one prompt the last one counts.

        Raises:
            ValueError: A value is not a finite number.
        """
        bad = np.flatnonzero(~np.isfinite(score))
        if len(bad):
            name = self.pool.ids[int(index[bad[0]])]
            raise ValueError(f"The score of prompt {name!r} is {score[bad[0]]}; it must be a finite number.")
        self.scores[index] = score
        self.versions[index] = version

    def count(self) -> int:
        """How many prompts have a value."""
        return int(np.count_nonzero(self.known))

    def mean(self) -> float:
        """Mean of the values there are; 0 without any."""
        known = self.known
        return float(self.scores.mean(where=known)) if known.any() else 0.0

    def filled(self) -> FloatArray:
        """A value for every prompt, the mean of all where none is known, shape (N,); not to be changed."""
        known = self.known
        return self.scores if known.all() else np.where(known, self.scores, self.mean())

    def sample(self) -> FloatArray:
        """At most 10,000 of the values, evenly spaced over the pool: what is said of all is said from them."""
        known = np.flatnonzero(self.known)
        return self.scores[known[:: -(-len(known) // SAMPLE) or 1]]

    def _tiers(
        self, step: int, half_life: float | None, newest_first: bool
    ) -> Iterator[tuple[NDArray[np.bool_], FloatArray | float]]:
        """What comes first, second, ...: a mask of the prompts, and their values. Made as far as they are used."""
        if half_life is not None:
            values = self.filled()
            mean = values.mean()
            yield (
                np.ones(len(values), dtype=bool),
                mean + (values - mean) * 0.5 ** ((step - self.versions) / half_life),
            )
            return
        if not newest_first:
            mean = self.mean()
            yield self.scores > mean, self.scores  # not those without a value, which are NaN
            yield ~self.known | (self.scores == mean), 0.0
            yield self.scores < mean, self.scores
            return
        newest = self.versions.max()
        if newest != UNSCORED:
            yield self.versions == newest, self.scores
            yield (self.versions != newest) & self.known, self.scores
        yield ~self.known, 0.0

    def first(
        self,
        n: int,
        step: int,
        rng: np.random.Generator,
        *,
        half_life: float | None = None,
        newest_first: bool = False,
        among: NDArray[np.bool_] | None = None,
    ) -> IndexArray:
        """The `n` prompts to prefer, or fewer where there are no more, the first one first. Ties are in random order.

        Args:
            n (`int`):
                How many.
            step (`int`):
                The optimizer step values have aged until.
            rng (`np.random.Generator`):
                Breaks ties, so that the order of the data set does not decide.
            half_life (`float`, *optional*), newest_first (`bool`, *optional*, defaults to `False`):
                See the class.
            among (`NDArray[np.bool_]`, *optional*):
                Mask of the prompts to choose from, shape (N,); by default all.
        """
        found: list[IndexArray] = []
        missing = n
        for tier, values in self._tiers(step, half_life, newest_first):
            allowed = tier if among is None else tier & among
            if isinstance(values, float):
                alike = np.flatnonzero(allowed)
                found.append(rng.choice(alike, min(missing, len(alike)), replace=False))
            else:
                found.append(highest(values, missing, rng, allowed))
            missing -= len(found[-1])
            if not missing:
                break
        return np.concatenate(found)

    def ranks(self, step: int, *, half_life: float | None = None, newest_first: bool = False) -> FloatArray:
        """The rank of each prompt, from 1, shape (N,); ties share a mean rank, those without a value the median one.

        Args:
            step (`int`), half_life (`float`, *optional*), newest_first (`bool`, *optional*):
                As of [`~PriorityBuffer.first`].
        """
        found, before = np.empty(len(self.scores)), 0
        for tier, values in self._tiers(step, half_life, newest_first):
            found[tier] = before + ranks(np.broadcast_to(values, len(found))[tier])
            before += int(np.count_nonzero(tier))
        found[~self.known] = (len(found) + 1) / 2
        return found

    def state_dict(self) -> dict[str, Any]:
        """Values and versions."""
        return {"scores": self.scores.copy(), "versions": self.versions.copy()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what [`~PriorityBuffer.state_dict`] returned; prompts that are new since have no value."""
        self.scores = column(state, "scores", self.pool, np.float64, np.nan, missing=True)
        self.versions = column(state, "versions", self.pool, np.int32, UNSCORED, least=UNSCORED, most=latest_step())
        wrong = np.flatnonzero(np.isnan(self.scores) == self.known)
        if len(wrong):
            name = self.pool.ids[int(wrong[0])]
            raise StateError(
                ("versions",), f"must be {UNSCORED} where there is no score, and only there; see {name!r}"
            )
