"""Reading a state that was kept: each entry is checked for its type and range, and a wrong one named by its place."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from ..errors import ConfigurationError
from .pool import FloatArray, IndexArray, Pool

_LARGEST = 1e300
_DIGEST = re.compile("|[0-9a-f]{64}")
CARRIED_OVER = (-1e-6, 1.0)
"""Range of a part of a prompt that is left for the next batch; rounding can leave it below 0."""
_latest_step: ContextVar[int] = ContextVar("latest_step", default=2**53)


class StateError(ConfigurationError):
    """An entry of a state that cannot be right.

    Args:
        where (`Sequence[str | int]`):
            Its place in the state, the outermost key first.
        reason (`str`):
            What is wrong with it.
    """

    def __init__(self, where: Sequence[str | int], reason: str) -> None:
        self.where = tuple(where)
        self.reason = reason
        super().__init__(f"{'.'.join(map(str, self.where)) or 'the state'} {reason}")


@contextmanager
def within(*names: str) -> Iterator[None]:
    """Let errors that are raised inside name these keys as their place.

    Whatever else reading a state raises means that an entry is missing or is of another type, also in a strategy or
    signal of a user's own.
    """
    try:
        yield
    except StateError as error:
        raise StateError((*names, *error.where), error.reason) from error.__cause__
    except ConfigurationError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise StateError(names, f"cannot be read: {type(error).__name__}: {error}") from error


@contextmanager
def no_later_than(step: int) -> Iterator[None]:
    """Have [`step_number`] refuse optimizer steps after this one."""
    token = _latest_step.set(step)
    try:
        yield
    finally:
        _latest_step.reset(token)


def entry(state: Any, *names: str) -> Any:
    """An entry of a state, or of a mapping in it.

    Raises:
        StateError: There is none.
    """
    for depth, name in enumerate(names):
        if not isinstance(state, Mapping):
            raise StateError(names[:depth], f"must be a mapping; got {_shown(state)}")
        if name not in state:
            raise StateError(names[: depth + 1], "is missing")
        state = state[name]
    return state


def known_only(state: Any, names: Iterable[str]) -> None:
    """Refuse entries of other names."""
    if not isinstance(state, Mapping):
        raise StateError((), f"must be a mapping; got {_shown(state)}")
    unknown = sorted(map(str, state.keys() - set(names)))
    if unknown:
        raise StateError((unknown[0],), "is not known")


def whole(state: Any, name: str, least: int = 0, most: int | None = None) -> int:
    """An entry that is a whole number between `least` and `most`."""
    value = entry(state, name)
    if not _is_whole(value) or value < least or (most is not None and value > most):
        range_ = f"from {least}" + (f" to {most}" if most is not None else "")
        raise StateError((name,), f"must be a whole number {range_}; got {_shown(value)}")
    return int(value)


def step_number(state: Any, name: str) -> int:
    """An entry that is an optimizer step, none after the checkpoint's own."""
    return whole(state, name, most=_latest_step.get())


def number(state: Any, name: str, least: float = -np.inf, most: float = np.inf) -> float:
    """An entry that is a finite number between `least` and `most`."""
    value = entry(state, name)
    if not _is_finite(value) or not least <= value <= most:
        raise StateError((name,), f"must be a finite number from {least} to {most}; got {_shown(value)}")
    return float(value)


def flag(state: Any, name: str) -> bool:
    """An entry that is true or false."""
    with within(name):
        return flag_of(entry(state, name))


def flag_of(value: Any) -> bool:
    """The same, of a value."""
    if not isinstance(value, bool):
        raise StateError((), f"must be true or false; got {_shown(value)}")
    return value


def sequence(state: Any, name: str) -> list[Any]:
    """An entry that is a list."""
    value = entry(state, name)
    if not isinstance(value, list | tuple | np.ndarray):
        raise StateError((name,), f"must be a list; got {_shown(value)}")
    return list(value)


def numbers(state: Any, name: str) -> FloatArray:
    """An entry that lists finite numbers, shape (n,)."""
    values = sequence(state, name)
    for place, value in enumerate(values):
        if not _is_finite(value):
            raise StateError((name, place), f"must be a finite number; got {_shown(value)}")
    return np.array(values, dtype=np.float64)


def prompts(state: Any, name: str, pool: Pool) -> IndexArray:
    """An entry that lists different prompts of the pool by their ids: their positions, as ordered, shape (n,)."""
    ids = sequence(state, name)
    indices = _positions(ids, (name,), pool)
    if len(set(indices)) < len(indices):
        seen: set[int] = set()
        double = next(i for i in indices if i in seen or seen.add(i))  # type: ignore[func-returns-value]
        raise StateError((name,), f"holds prompt {pool.ids[double]!r} twice")
    return np.array(indices, dtype=np.int64)


def table(
    state: Any, name: str | None, pool: Pool, width: int, least: float = -np.inf
) -> tuple[IndexArray, FloatArray]:
    """An entry, or the state itself, that holds `width` numbers for each of some prompts, by their ids.

    Args:
        state (`Mapping`):
            The state.
        name (`str`, *optional*):
            The entry.
        pool (`Pool`):
            The prompts.
        width (`int`):
            Numbers a prompt.
        least (`float`, *optional*):
            The least that each may be.

    Returns:
        `tuple[IndexArray, FloatArray]`: positions of the prompts, shape (n,), and their numbers, shape (n, width).
    """
    names = () if name is None else (name,)
    found = entry(state, *names)
    if not isinstance(found, Mapping):
        raise StateError(names, f"must be a mapping of prompts; got {_shown(found)}")
    return _numbers_of(list(found), list(found.values()), names, pool, width, least)


def rows(state: Any, name: str, pool: Pool, width: int) -> tuple[IndexArray, FloatArray]:
    """As [`table`], of an entry that lists the id of a prompt with its numbers, and a prompt more than once."""
    found = sequence(state, name)
    for place, row in enumerate(found):
        if not isinstance(row, list | tuple) or not row:
            raise StateError((name, place), f"must be a prompt and {width} numbers; got {_shown(row)}")
    return _numbers_of([row[0] for row in found], [row[1:] for row in found], (name,), pool, width, -np.inf)


def _numbers_of(
    ids: list[Any], values: list[Any], names: tuple[str, ...], pool: Pool, width: int, least: float
) -> tuple[IndexArray, FloatArray]:
    indices = _positions(ids, names, pool)
    for prompt_id, row in zip(ids, values, strict=True):
        if (
            not isinstance(row, list | tuple)
            or len(row) != width
            or not all(_is_finite(value) and value >= least for value in row)
        ):
            range_ = "" if least == -np.inf else f" from {least:g}"
            raise StateError((*names, prompt_id), f"must be {width} finite numbers{range_}; got {_shown(row)}")
    with within(*names):
        return np.array(indices, dtype=np.int64), np.array(values, dtype=np.float64).reshape(-1, width)


def steps(column: FloatArray, where: str) -> IndexArray:
    """A column of a table that holds optimizer steps, none after the checkpoint's own, shape (n,)."""
    latest = _latest_step.get()
    wrong = (column != np.floor(column)) | (column < 0) | (column > latest)
    if wrong.any():
        raise StateError((where,), f"must hold optimizer steps from 0 to {latest}; got {column[wrong][0]:g}")
    return column.astype(np.int64)


def drawn_prompts(state: Any, name: str, pool: Pool) -> IndexArray:
    """As [`prompts`], of prompts that were drawn."""
    indices = prompts(state, name, pool)
    never = indices[pool.visits[indices] == 0]
    if len(never):
        raise StateError((name,), f"holds {pool.ids[never[0]]!r}, which was never drawn")
    return indices


def digest(state: Any, name: str) -> str:
    """An entry that is a SHA-256, or empty."""
    value = entry(state, name)
    if not isinstance(value, str) or not _DIGEST.fullmatch(value):
        raise StateError((name,), f"must be a SHA-256; got {_shown(value)}")
    return value


def changed_settings(kept: Any, own: Mapping[str, Any]) -> dict[str, str]:
    """What is to be said of each setting that is other than in a state, by its name."""
    found = {}
    for name, now in own.items():
        was = entry(kept, name)
        if was is not None and now is not None and _kind(was) != _kind(now):
            raise StateError((name,), f"cannot be {_shown(was)}")
        if was != now:
            found[name] = f"{name} {was!r}, this run has {now!r}"
    return found


def restore_visits(state: Any, pool: Pool) -> None:
    """Give a pool the visits in a state, whose prompts it must have.

    Raises:
        ConfigurationError: Prompts are gone; how many, and the id of the first.
    """
    ids = sequence(state, "ids")
    missing = [prompt_id for prompt_id in ids if not isinstance(prompt_id, str) or prompt_id not in pool.index]
    if missing:
        raise ConfigurationError(
            f"Of the {len(ids)} prompts of the checkpoint's curriculum {len(missing)} are not in this data set, the "
            f"first with id {missing[0]!r}. Resume with the data set it was made with."
        )
    prompts(state, "ids", pool)
    visits = entry(state, "visits")
    with within("visits"):
        known_only(visits, ids)
        indices = _positions(list(visits), (), pool)
        counts = [whole(visits, prompt_id, 1, pool.max_visits) for prompt_id in visits]
        pool.visits[:] = 0
        pool.visits[indices] = counts


def restore_generator(state: Any, name: str, generator: np.random.Generator) -> None:
    """Give a generator the state that an entry holds, which must be one of its seed's stream."""
    kept, bits = entry(state, name), generator.bit_generator
    fresh = bits.state
    with within(name):
        bits.state = kept
        if bits.state != kept:
            raise ValueError("its numbers are out of range")
        if kept["state"].get("inc") != fresh["state"].get("inc"):  # of a PCG64 it comes from the seed alone
            raise StateError((), "is the state of a generator with another seed")


def _positions(ids: list[Any], names: tuple[str, ...], pool: Pool) -> list[int]:
    try:
        return [pool.index[prompt_id] for prompt_id in ids]
    except (KeyError, TypeError) as error:
        unknown = next(one for one in ids if not isinstance(one, str) or one not in pool.index)
        raise StateError(names, f"holds {_shown(unknown)}, which is no prompt's id") from error


def _kind(value: Any) -> type:
    return float if _is_whole(value) else type(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _is_finite(value: Any) -> bool:
    return (_is_whole(value) or isinstance(value, float | np.floating)) and -_LARGEST < value < _LARGEST


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
