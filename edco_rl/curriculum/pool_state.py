"""Reading what a state says of a pool's prompts, whose places may be others since."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..id_hashes import first_double
from .pool import IndexArray, Pool
from .state import StateError, array, refuse

_MOST_VISITS = 2**30  # leaves room to count on


def column(
    state: Any,
    name: str,
    pool: Pool,
    dtype: Any,
    new: Any,
    *width: int,
    least: float | None = None,
    most: float | None = None,
    missing: bool = False,
) -> NDArray[Any]:
    """An entry that is an array of a value, or `width` of them, for each prompt, of this pool's prompts.

    Args:
        state (`Mapping`), name (`str`), dtype (NumPy type), least, most, missing:
            As of [`array`].
        pool (`Pool`):
            The prompts.
        new (number):
            The value of prompts that are new since.
        width (`int`, *optional*):
            Values a prompt.
    """
    return pool.restored(
        array(state, name, dtype, pool.saved, *width, least=least, most=most, missing=missing), dtype, new
    )


def positions(state: Any, name: str, pool: Pool, *, different: bool = True) -> IndexArray:
    """An entry that lists prompts, by default different ones: where they are in the pool, as ordered, shape (n,)."""
    return positions_of(array(state, name, np.int64, None), name, pool, different=different)


def positions_of(values: IndexArray, name: str, pool: Pool, *, different: bool = True) -> IndexArray:
    """The same, of a part of an entry."""
    refuse(name, (values < 0) | (values >= pool.saved), f"must be a position from 0 to {pool.saved - 1}", values)
    if different:
        again = np.ones(len(values), dtype=bool)
        again[np.unique(values, return_index=True)[1]] = False
        refuse(name, again, "must be another prompt than those before", values)
    return pool.moved(values)


def drawn_prompts(state: Any, name: str, pool: Pool, *, ascending: bool = False) -> IndexArray:
    """As [`positions`], of prompts that were drawn; where they are kept as a set, in ascending order."""
    values = array(state, name, np.int64, None)
    indices = positions_of(values, name, pool)
    if ascending:
        refuse(name, np.diff(values, prepend=-1) <= 0, "must be a later prompt than those before", values)
    never = indices[pool.visits[indices] == 0]
    if len(never):
        raise StateError((name,), f"holds {pool.ids[int(never[0])]!r}, which was never drawn")
    return indices


def restore_pool(state: Any, pool: Pool) -> None:
    """Give a pool the visits in a state, whose prompts it must have.

    Raises:
        ConfigurationError: Prompts are gone; how many, and the row of the first.
    """
    keys = array(state, "keys", np.uint64, None)
    double = None if np.array_equal(keys, pool.keys) else first_double(keys)
    if double is not None:
        raise StateError((f"keys[{double[1]}]",), f"must be another than keys[{double[0]}]")
    pool.resume(keys)
    most = _MOST_VISITS if pool.max_visits is None else pool.max_visits
    pool.visits[:] = column(state, "visits", pool, np.int32, 0, least=0, most=most)
