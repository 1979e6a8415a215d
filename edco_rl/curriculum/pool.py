"""The pool: the prompts a curriculum chooses from, known by stable ids, and how often each was drawn."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigurationError

IndexArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


class Pool:
    """The prompts of a training set.

    Args:
        ids (`Sequence[str]`):
            One id a prompt, all different. State is kept by id, so that a data set that grew or was
            re-ordered resumes.
        order (`Callable[[int], IndexArray]`, *optional*):
            The shuffled order of the pool in pass 0, 1, ...: a permutation of its indices. A trainer gives its own
            sampler's, so that `random` is what it would have done without a curriculum.
        column (`Callable[[str], Sequence]`, *optional*):
            Returns a column of the data set by its name, one value a prompt; raises `KeyError` for an unknown one.
        max_visits (`int`, *optional*):
            Times a prompt may be drawn (`curriculum_max_visits`).
        seed (`int`, *optional*, defaults to `0`):
            Seed of the default order.

    Attributes:
        index (`dict[str, int]`): Position of each prompt, by its id.
        visits (`IndexArray`): Times each prompt was drawn so far, shape (N,).
        quarantined (`NDArray[np.bool_]`): Which prompts are in [`~edco_rl.curriculum.Quarantine`], shape (N,).

    Raises:
        ValueError: There are no prompts, or two have the same id.
    """

    def __init__(
        self,
        ids: Sequence[str],
        order: Callable[[int], IndexArray] | None = None,
        *,
        column: Callable[[str], Sequence[Any]] | None = None,
        max_visits: int | None = None,
        seed: int = 0,
    ) -> None:
        self.ids = tuple(ids)
        if not self.ids:
            raise ValueError("The pool has no prompts.")
        self.index = {prompt_id: index for index, prompt_id in enumerate(self.ids)}
        if len(self.index) < len(self.ids):
            seen: set[str] = set()
            double = next(i for i in self.ids if i in seen or seen.add(i))  # type: ignore[func-returns-value]
            raise ValueError(f"Two prompts of the pool have the id {double!r}.")
        self.order = order or self._numpy_order
        self.max_visits = max_visits
        self.visits: IndexArray = np.zeros(len(self.ids), dtype=np.int64)
        self.quarantined: NDArray[np.bool_] = np.zeros(len(self.ids), dtype=bool)
        self._seed = seed
        self._column = column

    def _numpy_order(self, epoch: int) -> IndexArray:
        return np.random.default_rng((self._seed, epoch)).permutation(len(self.ids))

    def __len__(self) -> int:
        return len(self.ids)

    def eligible(self) -> NDArray[np.bool_]:
        """Which prompts may still be drawn, shape (N,)."""
        return ~self.quarantined if self.max_visits is None else ~self.quarantined & (self.visits < self.max_visits)

    def column(self, name: str) -> FloatArray:
        """A numeric column of the data set, shape (N,).

        Raises:
            ConfigurationError: There is no such column, or a row of it is not a finite number.
        """
        try:
            if self._column is None:
                raise KeyError(name)
            values = self._column(name)
        except KeyError as error:
            raise ConfigurationError(f"The strategy needs a column {name!r}, which the data set has not.") from error
        numbers = np.empty(len(self))
        for row, value in enumerate(values):
            if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
                raise ConfigurationError(f"Row {row}, column {name!r}: expected a finite number, got {value!r}.")
            numbers[row] = value
        return numbers

    def labels(self, name: str) -> list[str] | None:
        """A column of the data set as text, one value a prompt; `None` where there is no such column."""
        try:
            return None if self._column is None else list(map(str, self._column(name)))
        except KeyError:
            return None

    def ids_of(self, indices: IndexArray | Sequence[int]) -> list[str]:
        """The ids, in the same order, of the prompts at these positions in the pool: what a checkpoint keeps."""
        return [self.ids[i] for i in indices]

    def indices_of(self, ids: Sequence[str]) -> IndexArray:
        """The positions in this pool, in the same order, of the prompts with these ids, shape (len(ids),).

        Raises:
            KeyError: No prompt has such an id.
        """
        return np.array([self.index[prompt_id] for prompt_id in ids], dtype=np.int64)
