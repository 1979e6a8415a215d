"""The pool: the prompts a curriculum chooses from, known by stable ids, and how often each was drawn."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigurationError
from ..id_hashes import first_double, hash_ids

IndexArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

# Prompts that what is said of the whole pool is said from.
SAMPLE = 10_000


class Pool:
    """The prompts of a training set.

    Args:
        ids (`Sequence[str]`):
            One id a prompt, all different. State is kept by id, so that a data set that grew or was
            re-ordered resumes. They are read once, and kept as hashes of 64 bits.
        order (`Callable[[int], IndexArray]`, *optional*):
            The shuffled order of the pool in pass 0, 1, ...: a permutation of its indices. A trainer gives its own
            sampler's, so that `random` is what it would have done without a curriculum.
        column (`Callable[[str], Sequence]`, *optional*):
            Returns a column of the data set by its name, one value a prompt, best as a NumPy array; raises `KeyError`
            for an unknown one.
        max_visits (`int`, *optional*):
            Times a prompt may be drawn (`curriculum_max_visits`).
        seed (`int`, *optional*, defaults to `0`):
            Seed of the default order.

    Attributes:
        keys (`NDArray[np.uint64]`): Hash of each prompt's id, shape (N,).
        visits (`NDArray[np.int32]`): Times each prompt was drawn so far, shape (N,).
        sample (`slice`): Evenly spaced prompts, at most 10,000: what is logged of the whole pool is told from these.
        quarantined (`NDArray[np.bool_]`): Which prompts are in [`~edco_rl.curriculum.Quarantine`], shape (N,).

    Raises:
        ValueError: There are no prompts, or two have the same id.
    """

    def __init__(
        self,
        ids: Sequence[str],
        order: Callable[[int], IndexArray] | None = None,
        *,
        column: Callable[[str], Sequence[Any] | NDArray[Any]] | None = None,
        max_visits: int | None = None,
        seed: int = 0,
    ) -> None:
        self.ids = ids
        if not len(ids):
            raise ValueError("The pool has no prompts.")
        self.keys: NDArray[np.uint64] = hash_ids(ids)
        double = first_double(self.keys)
        if double is not None:
            first, second = ids[double[0]], ids[double[1]]
            if first == second:
                raise ValueError(f"Two prompts of the pool have the id {first!r}.")
            raise ValueError(f"The ids {first!r} and {second!r} of two prompts have the same hash: rename one.")
        self.order = order or self._numpy_order
        self.max_visits = max_visits
        self.visits: NDArray[np.int32] = np.zeros(len(ids), dtype=np.int32)
        self.quarantined: NDArray[np.bool_] = np.zeros(len(ids), dtype=bool)
        self.sample = slice(None, None, -(-len(ids) // SAMPLE))
        self._seed = seed
        self._column = column
        # Where the prompts of the state that is restored are in this pool; `None` where they are the same.
        self._moved: IndexArray | None = None

    def _numpy_order(self, epoch: int) -> IndexArray:
        return np.random.default_rng((self._seed, epoch)).permutation(len(self))

    def __len__(self) -> int:
        return len(self.keys)

    def eligible(self, prompts: IndexArray | slice = slice(None)) -> NDArray[np.bool_]:
        """Which prompts may still be drawn, of all or of some, shape (N,)."""
        free = ~self.quarantined[prompts]
        return free if self.max_visits is None else free & (self.visits[prompts] < self.max_visits)

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
        if isinstance(values, np.ndarray) and values.dtype.kind in "iuf" and np.isfinite(values).all():
            return values.astype(np.float64)
        numbers = np.empty(len(self))
        for row, value in enumerate(values.tolist() if isinstance(values, np.ndarray) else values):
            if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
                raise ConfigurationError(f"Row {row}, column {name!r}: expected a finite number, got {value!r}.")
            numbers[row] = value
        return numbers

    def labels(self, name: str) -> list[str] | None:
        """A column of the data set as text, one value a prompt; `None` where there is no such column."""
        try:
            values = [] if self._column is None else self._column(name)
        except KeyError:
            return None
        return list(map(str, values.tolist() if isinstance(values, np.ndarray) else values)) or None

    def numbered(self, name: str, most: int) -> NDArray[np.uint8]:
        """A number for the value of each prompt in a column, shape (N,); all 0 without it, or with over `most` values.

        Args:
            name (`str`):
                The column.
            most (`int`):
                Values there may be, up to 256.
        """
        labels = self.labels(name) or []
        names = sorted(set(labels))
        if not 1 < len(names) <= most:
            return np.zeros(len(self), dtype=np.uint8)
        number = {name: index for index, name in enumerate(names)}
        return np.fromiter(map(number.__getitem__, labels), dtype=np.uint8, count=len(labels))

    def ids_of(self, prompts: IndexArray | Sequence[int]) -> list[str]:
        """The ids of the prompts at these positions, in the same order."""
        return [self.ids[int(index)] for index in prompts]

    def resume(self, keys: NDArray[np.uint64]) -> None:
        """Prepare to restore the state of a pool with these keys: prompts may have been added or moved since.

        Raises:
            ConfigurationError: A prompt of it is not in this pool.
        """
        self._moved = None
        if np.array_equal(keys, self.keys):
            return
        order = np.argsort(self.keys)
        places = np.minimum(np.searchsorted(self.keys, keys, sorter=order), len(self) - 1)
        moved = order[places]
        missing = np.flatnonzero(self.keys[moved] != keys)
        if len(missing):
            raise ConfigurationError(
                f"Of the {len(keys)} prompts of the checkpoint's curriculum {len(missing)} are not in this data set, "
                f"the first of them from row {missing[0]} of its own. Resume with the data set it was made with."
            )
        self._moved = moved

    @property
    def saved(self) -> int:
        """Prompts of the pool that is resumed."""
        return len(self) if self._moved is None else len(self._moved)

    def moved(self, prompts: Any) -> IndexArray:
        """Where the prompts at these positions in the pool that is resumed are in this one, in the same order."""
        saved = np.asarray(prompts, dtype=np.int64)
        return saved if self._moved is None else self._moved[saved]

    def restored(self, column: Any, dtype: Any, new: Any) -> NDArray[Any]:
        """A value of each prompt of the pool that is resumed, as one of each prompt of this one.

        Args:
            column (`NDArray`):
                The values, the prompts first, shape (M, ...).
            dtype (NumPy type):
                Their type.
            new (number):
                The value of prompts that were not in it.
        """
        saved = np.array(column, dtype=dtype)
        if self._moved is None:
            return saved
        found = np.full((len(self), *saved.shape[1:]), new, dtype=dtype)
        found[self._moved] = saved
        return found
