"""What became known about prompts: one at a time, or many as columns."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import chain
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from .pool import FloatArray, IndexArray


@dataclass(frozen=True)
class Outcome:
    """What became known about one prompt. A field that was not observed is `None`.

    Args:
        index (`int`):
            The prompt's position in the pool.
        version (`int`):
            Optimizer step of the weights that were observed.
        score (`float`, *optional*):
            The estimator's score, in nats.
        entropy (`float`, *optional*):
            Entropy of the rollouts the prompt was trained on, in nats.
        rewards (`tuple[float, ...]`, *optional*):
            Rewards of the group. Without rollouts (supervised fine-tuning), one number: the share of the reference's
            tokens that the model ranks first.
        truncated (`tuple[bool, ...]`, *optional*):
            Which completions of the group the token limit cut off.
        admitted (`bool`, *optional*, defaults to `True`):
            Whether the gates let the group into the optimizer's batch.
    """

    index: int
    version: int
    score: float | None = None
    entropy: float | None = None
    rewards: tuple[float, ...] | None = None
    truncated: tuple[bool, ...] | None = None
    admitted: bool = True


@dataclass(frozen=True, eq=False)
class Outcomes:
    """Many outcomes as columns, which a pool of millions needs; iterated over, one [`Outcome`] after the other.

    Args:
        index (`NDArray[np.int64]`), version (`NDArray[np.int64]`):
            As of [`Outcome`], shape (G,).
        score (`NDArray[np.float64]`), entropy (`NDArray[np.float64]`):
            NaN where there is none, shape (G,).
        admitted (`NDArray[np.bool_]`):
            Shape (G,).
        sizes (`NDArray[np.int64]`), rewards (`NDArray[np.float64]`):
            Rewards of each group, 0 where there are none, shape (G,), and those of all, one group after the other.
        cut_sizes (`NDArray[np.int64]`), truncated (`NDArray[np.bool_]`):
            The same of which completions were cut off.
    """

    index: IndexArray
    version: IndexArray
    score: FloatArray
    entropy: FloatArray
    admitted: NDArray[np.bool_]
    sizes: IndexArray
    rewards: FloatArray
    cut_sizes: IndexArray
    truncated: NDArray[np.bool_]

    @classmethod
    def of(cls, outcomes: Iterable[Outcome]) -> Self:
        """Outcomes as columns.

        Raises:
            ValueError: A score, entropy or reward is not a finite number.
        """
        if isinstance(outcomes, cls):
            return outcomes
        outcomes = list(outcomes)
        rewards, truncated = [o.rewards or () for o in outcomes], [o.truncated or () for o in outcomes]
        made = cls(
            index=np.array([o.index for o in outcomes], dtype=np.int64),
            version=np.array([o.version for o in outcomes], dtype=np.int64),
            score=np.array([np.nan if o.score is None else o.score for o in outcomes], dtype=np.float64),
            entropy=np.array([np.nan if o.entropy is None else o.entropy for o in outcomes], dtype=np.float64),
            admitted=np.array([o.admitted for o in outcomes], dtype=bool),
            sizes=np.array(list(map(len, rewards)), dtype=np.int64),
            rewards=np.array(list(chain.from_iterable(rewards)), dtype=np.float64),
            cut_sizes=np.array(list(map(len, truncated)), dtype=np.int64),
            truncated=np.array(list(chain.from_iterable(truncated)), dtype=bool),
        )
        for name in ("score", "entropy"):
            given = np.array([getattr(o, name) is not None for o in outcomes], dtype=bool)
            _check_finite(name, made.index[given], getattr(made, name)[given])
        _check_finite("reward", np.repeat(made.index, made.sizes), made.rewards)
        return made

    @classmethod
    def scores(cls, index: Sequence[int] | IndexArray, version: int, score: Sequence[float] | FloatArray) -> Self:
        """Scores of prompts, and nothing else.

        Args:
            index (`Sequence[int]`), score (`Sequence[float]`):
                The prompts and their scores in nats, shape (G,).
            version (`int`):
                Optimizer step of the weights they were scored with.

        Raises:
            ValueError: A score is not a finite number.
        """
        index, score = np.asarray(index, dtype=np.int64), np.asarray(score, dtype=np.float64)
        _check_finite("score", index, score)
        size, none = len(index), np.empty(0)
        zeros = np.zeros(size, dtype=np.int64)
        versions, admitted = np.full(size, version, dtype=np.int64), np.ones(size, dtype=bool)
        return cls(index, versions, score, np.full(size, np.nan), admitted, zeros, none, zeros, none.astype(bool))

    @classmethod
    def join(cls, parts: Iterable[Iterable[Outcome]]) -> Self:
        """The outcomes of all parts, one after the other."""
        columns = [vars(cls.of(part)) for part in parts] or [vars(cls.of([]))]
        return cls(**{name: np.concatenate([part[name] for part in columns]) for name in columns[0]})

    def __len__(self) -> int:
        return len(self.index)

    def __iter__(self) -> Iterator[Outcome]:
        rewards = np.split(self.rewards, np.cumsum(self.sizes)[:-1])
        truncated = np.split(self.truncated, np.cumsum(self.cut_sizes)[:-1])
        for row in range(len(self)):
            score, entropy = float(self.score[row]), float(self.entropy[row])
            yield Outcome(
                index=int(self.index[row]),
                version=int(self.version[row]),
                score=None if np.isnan(score) else score,
                entropy=None if np.isnan(entropy) else entropy,
                rewards=tuple(rewards[row].tolist()) or None,
                truncated=tuple(truncated[row].tolist()) or None,
                admitted=bool(self.admitted[row]),
            )

    def take(self, rows: IndexArray | NDArray[np.bool_]) -> "Outcomes":
        """Some of the outcomes: by their numbers, or a mask of shape (G,)."""
        chosen: IndexArray = np.flatnonzero(rows) if rows.dtype == bool else rows.astype(np.int64)
        columns = {field.name: getattr(self, field.name) for field in fields(self)}
        taken = {name: column[chosen] for name, column in columns.items() if name not in ("rewards", "truncated")}
        return Outcomes(
            **taken,
            rewards=_take_groups(self.rewards, self.sizes, chosen),
            truncated=_take_groups(self.truncated, self.cut_sizes, chosen),
        )

    def sorted(self) -> "Outcomes":
        """By prompt, those of one prompt in an order of their own: the same however the outcomes came in."""
        steps = np.diff(self.index)
        if (steps > 0).all():
            return self
        if len(np.unique(self.index)) < len(self):
            return Outcomes.of(sorted(self, key=lambda outcome: (outcome.index, repr(outcome))))
        return self.take(np.argsort(self.index))

    def tobytes(self) -> Iterator[bytes]:
        """Every column, to be hashed."""
        return (getattr(self, field.name).tobytes() for field in fields(self))

    @property
    def groups(self) -> "Outcomes":
        """Those with rewards."""
        return self if self.sizes.all() else self.take(self.sizes > 0)

    def one_each(self) -> Iterator["Outcomes"]:
        """The outcomes in parts, in order, none of which has two of one prompt."""
        rest = self
        while len(rest):
            _, first = np.unique(rest.index, return_index=True)
            if len(first) == len(rest):
                yield rest
                return
            chosen = np.zeros(len(rest), dtype=bool)
            chosen[first] = True
            yield rest.take(chosen)
            rest = rest.take(~chosen)

    def means(self) -> FloatArray:
        """Mean reward of each group, shape (G,); all must have rewards."""
        return self.sums(self.rewards) / self.sizes

    def variances(self) -> FloatArray:
        """Variance of the rewards of each group, shape (G,); all must have rewards."""
        return self.sums((self.rewards - np.repeat(self.means(), self.sizes)) ** 2) / self.sizes

    def spreads(self) -> FloatArray:
        """Largest reward of each group less its smallest, shape (G,); all must have rewards."""
        if not len(self):
            return np.empty(0)
        return np.maximum.reduceat(self.rewards, self._starts) - np.minimum.reduceat(self.rewards, self._starts)

    def sums(self, values: FloatArray) -> FloatArray:
        """Sum over each group of values of its completions, shape (G,); all must have rewards."""
        return np.add.reduceat(values, self._starts) if len(self) else np.empty(0)

    @property
    def _starts(self) -> IndexArray:
        return np.cumsum(self.sizes) - self.sizes


def _check_finite(name: str, index: IndexArray, values: FloatArray) -> None:
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise ValueError(
            f"The {name} of the prompt at position {index[bad[0]]} is {values[bad[0]]}; it must be a finite number."
        )


def _take_groups(values: NDArray[Any], sizes: IndexArray, rows: IndexArray) -> NDArray[Any]:
    """The values of some groups, one after the other."""
    if not len(values):
        return values
    taken, starts = sizes[rows], np.cumsum(sizes) - sizes
    ends = np.cumsum(taken)
    return values[np.arange(taken.sum()) + np.repeat(starts[rows] - ends + taken, taken)]
