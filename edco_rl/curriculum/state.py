"""Reading a state that was kept: each entry is checked for its type and range, and a wrong one named by its place."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigurationError

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
    return whole(state, name, most=latest_step())


def number(state: Any, name: str, least: float = -np.inf, most: float = np.inf) -> float:
    """An entry that is a finite number between `least` and `most`."""
    value = entry(state, name)
    if not _is_finite(value) or not least <= value <= most:
        raise StateError((name,), f"must be a finite number from {least} to {most}; got {_shown(value)}")
    return float(value)


def latest_step() -> int:
    """The last optimizer step that a state may speak of."""
    return _latest_step.get()


def flag(state: Any, name: str) -> bool:
    """An entry that is true or false."""
    value = entry(state, name)
    if not isinstance(value, bool):
        raise StateError((name,), f"must be true or false; got {_shown(value)}")
    return value


def sequence(state: Any, name: str) -> list[Any]:
    """An entry that is a list."""
    value = entry(state, name)
    if not isinstance(value, list | tuple):
        raise StateError((name,), f"must be a list; got {_shown(value)}")
    return list(value)


def refuse(name: str, wrong: NDArray[np.bool_], reason: str, values: NDArray[Any] | None = None) -> None:
    """Refuse an array for the first of its values that is wrong, if any is."""
    if wrong.any():
        place = tuple(np.argwhere(wrong)[0].tolist())
        got = "" if values is None else f"; got {values[place]}"
        raise StateError((f"{name}[{', '.join(map(str, place))}]",), reason + got)


def array(
    state: Any,
    name: str,
    dtype: Any,
    *shape: int | None,
    least: float | None = None,
    most: float | None = None,
    missing: bool = False,
) -> NDArray[Any]:
    """An entry that is an array.

    Args:
        state (`Mapping`):
            The state.
        name (`str`):
            The entry.
        dtype (NumPy type):
            Type of its numbers, which are finite.
        shape (`int`, *optional*):
            Its length in each dimension; `None` for any.
        least (`float`, *optional*), most (`float`, *optional*):
            The least and the most that each number may be.
        missing (`bool`, *optional*, defaults to `False`):
            Whether numbers may be NaN.
    """
    value = entry(state, name)
    expected = f"an array of {np.dtype(dtype)}, shape ({', '.join('n' if n is None else str(n) for n in shape)})"
    if not isinstance(value, np.ndarray):
        raise StateError((name,), f"must be {expected}; got {_shown(value)}")
    fits = len(shape) == value.ndim and all(n in (None, own) for n, own in zip(shape, value.shape, strict=True))
    if value.dtype != dtype or not fits:
        got = ", ".join(map(str, value.shape))
        raise StateError((name,), f"must be {expected}; got {value.dtype}, shape ({got})")
    is_float = value.dtype.kind == "f"
    largest = min(_LARGEST, float(np.finfo(value.dtype).max)) if is_float else _LARGEST
    wrong = ~((value >= (-largest if least is None else least)) & (value <= (largest if most is None else most)))
    if missing:
        wrong &= ~np.isnan(value)
    range_ = ("" if least is None else f" from {least:g}") + ("" if most is None else f" to {most}")
    refuse(name, wrong, f"must be a {'finite' if is_float else 'whole'} number{range_}", value)
    return value


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


def restore_generator(state: Any, name: str, generator: np.random.Generator) -> None:
    """Give a generator the state that an entry holds, which must be one of its seed's stream."""
    kept, bits = entry(state, name), generator.bit_generator
    fresh = bits.state
    with within(name):
        bits.state = kept
        if repr(bits.state) != repr(kept):  # to which True is not 1
            raise ValueError("its numbers are out of range")
        if kept["state"].get("inc") != fresh["state"].get("inc"):  # of a PCG64 it comes from the seed alone
            raise StateError((), "is the state of a generator with another seed")


def _kind(value: Any) -> type:
    return float if _is_whole(value) else type(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _is_finite(value: Any) -> bool:
    return (_is_whole(value) or isinstance(value, float | np.floating)) and -_LARGEST < value < _LARGEST


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
