"""From a command line, a YAML file or settings by name to dataclasses: TRL's parser, its complaints as messages."""

import re
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml
from trl import TrlParser

from .errors import ConfigurationError
from .plugins import search_in

_SCALARS = {bool, int, float, str}
_CONTAINERS = {list, tuple, dict, str}  # a mapping can be text: JSON on the command line
# To YAML 1.1 these are text: it wants a point in the number and a sign in the exponent.
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)[eE][-+]?\d+")


class Parser(TrlParser):
    """TRL's parser. Settings of a file are checked, and read as they are meant."""

    def set_defaults_with_config(self, **values: Any) -> list[str]:
        """Take settings as defaults; words of those that are no field come back."""
        return super().set_defaults_with_config(**_as_meant(self, values))


def parse_command_line(parser: Parser, arguments: list[str]) -> tuple[Any, ...]:
    """The parser's dataclasses from flags, and from the YAML file that `--config` names.

    Raises:
        ConfigurationError: There is no such file or setting, or a class refuses a value.
    """
    if "--config" in arguments[:-1]:
        read_file(arguments[arguments.index("--config") + 1], "--config")
    try:
        return parser.parse_args_and_config(args=arguments, fail_with_unknown_args=True)
    except ValueError as error:  # how TRL's classes and ours refuse a value
        raise ConfigurationError(str(error)) from error


def parse_values(parser: Parser, values: Mapping[str, Any], what: str) -> tuple[Any, ...]:
    """The parser's dataclasses from settings by name.

    Args:
        parser ([`Parser`]):
            The parser.
        values (`Mapping[str, Any]`):
            The settings.
        what (`str`):
            What they are, for messages.

    Raises:
        ConfigurationError: There is no such setting, or a class refuses a value.
    """
    try:
        unknown = parser.set_defaults_with_config(**values)
        if unknown:
            names = ", ".join(word.removeprefix("--") for word in unknown[::2])
            raise ConfigurationError(f"{parser.prog} has no setting that is called {names}.")
        return parser.parse_args_into_dataclasses(args=[], look_for_args_file=False)
    except ValueError as error:
        raise ConfigurationError(f"{what}: {error}") from error


def read_file(path: str | Path, what: str) -> dict[str, Any]:
    """Settings by name from a YAML file. A user's own modules are looked for beside it from then on.

    Args:
        path (`str` or `Path`):
            The file.
        what (`str`):
            The setting that names it.

    Raises:
        ConfigurationError: There is no such file, or something else in it.
    """
    if not Path(path).is_file():
        raise ConfigurationError(f"{what} {path}: there is no such file.")
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{what} {path}: {error}") from error
    if not isinstance(values, dict):
        raise ConfigurationError(f"{what} {path}: expected settings by name.")
    search_in(Path(path).parent)
    return values


def _as_meant(parser: Parser, values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as their fields take them: one name where there can be several is a list of it, and 5e-1 a number.

    Values of a kind their field does not take are refused. Other text is left to the parser, which converts it.
    """
    meant = dict(values)
    for dataclass in parser.dataclass_types:
        hints = typing.get_type_hints(dataclass)
        for name in values.keys() & {field.name for field in fields(dataclass)}:
            value, kinds = values[name], set(_kinds(hints[name]))
            if isinstance(value, list | dict) and kinds <= _SCALARS:
                raise ConfigurationError(f"{name}: expected one value, got {value!r}.")
            if isinstance(value, bool | int | float) and kinds <= _CONTAINERS:
                raise ConfigurationError(f"{name}: expected a list or mapping, got {value!r}.")
            if isinstance(value, float) and kinds == {int}:
                raise ConfigurationError(f"{name}: expected a whole number, got {value!r}.")
            if isinstance(value, str) and list in kinds and str not in kinds:
                meant[name] = [value]
            elif isinstance(value, dict) or (isinstance(value, list) and list[str] not in _parts(hints[name])):
                meant[name] = _with_numbers(value)
    return meant


def _with_numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _with_numbers(one) for name, one in value.items()}
    if isinstance(value, list):
        return list(map(_with_numbers, value))
    return float(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else value


def _parts(hint: Any) -> Iterator[Any]:
    """The types a field takes, `None` left out: of `list[str] | None` this is `list[str]`."""
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        for part in typing.get_args(hint):
            yield from _parts(part)
    elif hint is not types.NoneType:
        yield hint


def _kinds(hint: Any) -> Iterator[Any]:
    """The types a field takes, without what is in them: of `list[str] | None` this is `list`."""
    return (typing.get_origin(part) or part for part in _parts(hint))
