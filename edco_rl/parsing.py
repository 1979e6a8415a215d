"""From a command line, a YAML file or settings by name to dataclasses: TRL's parser, its complaints as messages."""

import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml
from trl import TrlParser

from .errors import ConfigurationError

_SCALARS = {bool, int, float, str}
_CONTAINERS = {list, tuple, dict, str}  # a mapping can be text: JSON on the command line


def parse_command_line(parser: TrlParser, arguments: list[str]) -> tuple[Any, ...]:
    """The parser's dataclasses from flags, and from the YAML file that `--config` names.

    Raises:
        ConfigurationError: There is no such file or setting, or a class refuses a value.
    """
    if "--config" in arguments[:-1]:
        _check_values(parser, _read_file(arguments[arguments.index("--config") + 1]))
    try:
        return parser.parse_args_and_config(args=arguments, fail_with_unknown_args=True)
    except ValueError as error:  # how TRL's classes and ours refuse a value
        raise ConfigurationError(str(error)) from error


def parse_values(parser: TrlParser, values: Mapping[str, Any], what: str) -> tuple[Any, ...]:
    """The parser's dataclasses from settings by name.

    Args:
        parser (`TrlParser`):
            The parser.
        values (`Mapping[str, Any]`):
            The settings.
        what (`str`):
            What they are, for messages.

    Raises:
        ConfigurationError: There is no such setting, or a class refuses a value.
    """
    try:
        _check_values(parser, values)
        unknown = parser.set_defaults_with_config(**values)
        if unknown:
            names = ", ".join(word.removeprefix("--") for word in unknown[::2])
            raise ConfigurationError(f"{parser.prog} has no setting that is called {names}.")
        return parser.parse_args_into_dataclasses(args=[], look_for_args_file=False)
    except ValueError as error:
        raise ConfigurationError(f"{what}: {error}") from error


def _read_file(path: str) -> Mapping[str, Any]:
    if not Path(path).is_file():
        raise ConfigurationError(f"--config {path}: there is no such file.")
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"--config {path}: {error}") from error
    if not isinstance(values, dict):
        raise ConfigurationError(f"--config {path}: expected settings by name.")
    return values


def _check_values(parser: TrlParser, values: Mapping[str, Any]) -> None:
    """Refuse values of a kind their field does not take. Text is left to the parser, which converts it."""
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


def _kinds(hint: Any) -> Iterator[Any]:
    """The types a field takes, `None` left out: of `list[str] | None` this is `list`."""
    origin = typing.get_origin(hint)
    if origin in (types.UnionType, typing.Union):
        for part in typing.get_args(hint):
            yield from _kinds(part)
    elif hint is not types.NoneType:
        yield origin or hint
