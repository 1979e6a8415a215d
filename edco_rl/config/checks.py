"""Checks that name the setting, and what was expected of it. Types and ranges are those a field is declared with."""

import json
import math
import numbers
import os
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic import ConfigDict, TypeAdapter, ValidationError

from ..errors import ConfigurationError, nearest

_LONGEST_SHOWN = 100
# What a seed, a count or a time can be and still be one for NumPy, torch and JSON.
_LARGEST = 2**63 - 1
_STRICT = ConfigDict(strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)
_KINDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false", list: "a list"}
_SEVERAL = {int: "whole numbers", float: "numbers", str: "texts", bool: "true or false", dict: "mappings"}


@dataclass
class Checked:
    """Base class of settings: each is checked against the type it is declared with, its range included."""

    def __post_init__(self) -> None:
        of: Any = type(self)
        hints = _hints(of)
        for one in fields(self):
            if one.init:
                hint, value = hints[one.name], checked(one.name, hints[one.name], getattr(self, one.name))
                if isinstance(value, str) and dict in map(kind, parts(hint)):
                    value = checked(one.name, hint, as_dict(one.name, value))
                setattr(self, one.name, value)


def checked(name: str, hint: Any, value: Any) -> Any:
    """The value of a setting, of NumPy's numbers and of paths what YAML has for them.

    Args:
        name (`str`):
            The setting.
        hint (`Any`):
            Its type, as of [`~edco_rl.config.ranges`]; no value is converted to fit it.
        value (`Any`):
            The value.

    Raises:
        ConfigurationError: It is of another type or out of range, or there is a number in it that is not finite.
    """
    value = _plain(value)
    try:
        _adapter(hint).validate_python(list(value) if isinstance(value, tuple) else value)
    except ValidationError:
        raise ConfigurationError(
            f"{name} must be {expected(hint)}; got {_shown(value)}.{nearest(value, _choices(hint))}"
        ) from None
    for part in _parts_of(value):
        if isinstance(part, float) and not math.isfinite(part):
            raise ConfigurationError(f"{name} holds a number that is not finite: {part}.")
        if isinstance(part, int) and abs(part) > _LARGEST:
            raise ConfigurationError(f"{name} holds a number of more than 64 bits: {_shown(part)}.")
    return value


def expected(hint: Any) -> str:
    """A type in words, as `a whole number of at least 1, or null`."""
    kinds = [kind(part) for part in parts(hint)]
    left_out = {types.NoneType, *([str] if dict in kinds else [])}  # text would be JSON, or a file
    alternatives = [_expected(part) for part in parts(hint) if kind(part) not in left_out]
    return " or ".join(dict.fromkeys(alternatives)) or "left out"


def parts(hint: Any) -> tuple[Any, ...]:
    """The alternatives of a type: of `int | None` these are `int` and `NoneType`."""
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return tuple(one for part in typing.get_args(hint) for one in parts(part))
    return (types.NoneType if hint is None else hint,)


def kind(hint: Any) -> Any:
    """A type without its range and what is in it: `list` of `list[str]`, `int` of a port."""
    hint = without_range(hint)
    return typing.get_origin(hint) or hint


def without_range(hint: Any) -> Any:
    """A type without its range: `list[float]` of a list of two numbers."""
    return typing.get_args(hint)[0] if typing.get_origin(hint) is Annotated else hint


def check_plugin(name: str, value: str, known: list[str]) -> None:
    """A name of this package's, or something that can be an import path: what it leads to is found out later."""
    if value not in known and not set(value) & set(".:"):
        raise ConfigurationError(
            f"{name} must be one of {', '.join(known)}, or the import path of your own class, as "
            f"package.module:Class; got {value!r}.{nearest(value, known)}"
        )


def check_given(config: object, *names: str) -> None:
    for name in names:
        if not getattr(config, name):
            raise ConfigurationError(f"{name} is missing.")


def check_url(name: str, url: str | None) -> None:
    """Refuse a URL with a user or password, which would be kept with the results. The message does not show it."""
    if url is not None and "@" in url:
        raise ConfigurationError(
            f"{name}: leave user and password out of the URL (it has an @); settings are kept with the results. A "
            "server's key is given in the environment."
        )


def as_dict(name: str, value: str) -> dict[str, Any]:
    """A mapping from JSON, as it is on the command line."""
    try:
        parsed = json.loads(value)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{name} must be a JSON object; got {_shown(value)} ({error}).") from None
    if not isinstance(parsed, dict):
        raise ConfigurationError(f"{name} must be a JSON object; got {_shown(value)}.")
    return parsed


@cache
def _hints(of: type) -> dict[str, Any]:
    return typing.get_type_hints(of, include_extras=True)


@cache
def _adapter(hint: Any) -> TypeAdapter[Any]:
    return TypeAdapter(hint, config=_STRICT)


def _plain(value: Any) -> Any:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return int(value)
    if isinstance(value, numbers.Real) and not isinstance(value, bool | numbers.Integral):
        return float(value)
    return value


def _parts_of(value: Any) -> Iterator[Any]:
    """All numbers and texts of a value."""
    if isinstance(value, Mapping):
        value = [one for pair in value.items() for one in pair]
    if isinstance(value, list | tuple):
        for one in value:
            yield from _parts_of(one)
    else:
        yield value


def _choices(hint: Any) -> list[str]:
    literals = (typing.get_args(part) for part in parts(hint) if kind(part) is Literal)
    return [str(value) for values in literals for value in values]


def _expected(hint: Any) -> str:
    if kind(hint) is Literal:
        return f"one of {', '.join(_choices(hint))}"
    words, limits = _KINDS.get(kind(hint), getattr(hint, "__name__", str(hint))), []
    if typing.get_origin(hint) is Annotated:
        hint, *limits = typing.get_args(hint)
    if kind(hint) is list and typing.get_args(hint):
        [inside] = typing.get_args(hint)
        words = f"a list of {_SEVERAL.get(kind(inside), expected(inside).replace('one of', 'some of'))}"
    if kind(hint) is dict:
        inside = (typing.get_args(hint) or (str, Any))[1]
        words = f"a mapping from names to {_SEVERAL.get(kind(inside), 'values')}"
    if kind(hint) is str and limits:
        return "text that is not empty"
    ranges = [_limit(limit) for limit in limits]
    return f"{words} {' and '.join(ranges)}" if ranges else words


def _limit(limit: Any) -> str:
    words = {Ge: "of at least {0.ge}", Gt: "above {0.gt}", Le: "at most {0.le}", Lt: "below {0.lt}"}
    words |= {MinLen: "of at least {0.min_length}", MaxLen: "of at most {0.max_length}"}
    return words[type(limit)].format(limit)


def _shown(value: Any) -> str:
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."
