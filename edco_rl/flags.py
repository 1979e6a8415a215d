"""Settings as flags of a command line: reading, listing and completing them."""

import argparse
import contextlib
import dataclasses
import json
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, NoReturn

from .config.checks import kind, parts, without_range
from .declarations import Field
from .errors import ConfigurationError, nearest

_TRUE, _FALSE, _NONE = ("true", "yes", "1"), ("false", "no", "0"), ("none", "null")
_PLACEHOLDERS = {int: "N", float: "X", bool: "true|false", dict: "JSON", list: "LIST"}
_NEGATIVE = re.compile(r"-(\d|\.\d|inf|nan)")
Names = Mapping[str, Callable[[], list[str]]]
"""What settings that name something can have, beside import paths."""


class Flags(argparse.ArgumentParser):
    """Flags of settings. What they are given stays words; `-` in a name is `_`; a wrong one is an error of one line.

    Args:
        prog (`str`):
            What the command is called.
        groups (`Iterable[tuple[str, Sequence[Field]]]`):
            Titles of groups, and the settings that the help text lists under each.
        hidden (`Iterable[Field]`):
            Further settings, which it counts.
        names (`Names`, *optional*):
            Names that settings can have.
    """

    def __init__(
        self,
        prog: str,
        groups: Iterable[tuple[str, Sequence[Field]]],
        hidden: Sequence[Field] = (),
        names: Names | None = None,
    ) -> None:
        usage = f"{prog} [--config FILE] [--SETTING VALUE ...]"
        super().__init__(prog, usage, add_help=False, allow_abbrev=False, argument_default=argparse.SUPPRESS)
        self.formatter_class = _Formatter
        self._negative_number_matcher = _NEGATIVE  # that of argparse knows no exponents
        self._names = names or {}
        reading = self.add_argument_group("where settings are from")
        reading.add_argument(
            "--config",
            metavar="FILE",
            help="YAML file of settings by the names below, as max_steps: 100. A flag comes before it.",
        )
        reading.add_argument("--help", "-h", action="store_true", help="show this text")
        everything = f"show the other {len(hidden)} settings too, which are TRL's" if hidden else argparse.SUPPRESS
        reading.add_argument("--help-all", action="store_true", help=everything)
        for title, fields in groups:
            group = self.add_argument_group(title)
            for field in fields:
                self._add(group, field, self._describe(field))
        for field in hidden:
            self._add(self, field, argparse.SUPPRESS)

    def parse(self, arguments: Sequence[str]) -> dict[str, Any]:
        """Words that each flag was given.

        Raises:
            ConfigurationError: There is no such flag, or it lacks its value.
        """
        found, unknown = self.parse_known_args([_with_underscores(word) for word in arguments])
        if unknown and unknown[0].startswith("--"):
            flag = unknown[0].partition("=")[0]
            raise ConfigurationError(f"{self.prog} has no flag {flag}.{nearest(flag, self._option_string_actions)}")
        if unknown:
            raise ConfigurationError(f"{self.prog}: {unknown[0]!r} is given to no flag.")
        return vars(found)

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print below its usage."""
        raise ConfigurationError(f"{self.prog}: {message.removeprefix('argument ')}.")

    def _add(self, group: Any, field: Field, text: str) -> None:
        kinds = {kind(part) for part in parts(field.hint)}
        placeholder = next((word for one, word in _PLACEHOLDERS.items() if one in kinds), "TEXT")
        many: dict[str, Any] = {}
        if list in kinds:
            many, placeholder = {"nargs": "+"}, "TEXT"
        elif bool in kinds:
            many = {"nargs": "?", "const": "true"}
        flag = group.add_argument(f"--{field.name}", metavar=placeholder, help=text, **many)
        flag.completer = lambda **_: self._choices(field)  # as argcomplete asks for
        if field.default is True:
            no = {"dest": field.name, "action": "store_const", "const": "false"}
            group.add_argument(f"--no_{field.name}", help=argparse.SUPPRESS, **no)

    def _choices(self, field: Field) -> list[str]:
        if field.name in self._names:
            return self._names[field.name]()
        hints = [inside for part in parts(field.hint) for inside in (part, *_inside(part))]
        return [str(value) for hint in hints if kind(hint) is Literal for value in typing.get_args(hint)]

    def _describe(self, field: Field) -> str:
        text = " ".join(field.help.replace("%%", "%").split())
        choices = self._choices(field)
        if any(choice not in text for choice in choices):
            own = ", or the import path of your own" if field.name in self._names else ""
            text = f"{text} One of {', '.join(choices)}{own}."
        if field.default not in (None, dataclasses.MISSING, [], ""):
            default = str(field.default).lower() if isinstance(field.default, bool) else str(field.default)
            text = f"{text} Default: {default}"
        return text.replace("%", "%%")


class _Formatter(argparse.HelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30)


def from_words(hint: Any, words: str | list[str]) -> Any:
    """What words of a command line stand for as a setting of a type; words that are none of it stay what they are."""
    if isinstance(words, str):
        return _from_text(hint, words)
    alternatives = parts(hint)
    lists = [part for part in alternatives if kind(part) is list]
    if len(words) == 1 and len(lists) < len(alternatives):
        value = _from_text(hint, words[0])
        if not isinstance(value, str) or str in map(kind, alternatives):
            return value
    [inside] = _inside(lists[0]) or [str]
    return [_from_text(inside, word) for word in words]


def _inside(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(without_range(hint)) if kind(hint) is list else ()


def _from_text(hint: Any, text: str) -> Any:
    kinds = {kind(part): part for part in parts(hint)}
    for value in typing.get_args(kinds[Literal]) if Literal in kinds else ():
        if str(value) == text:
            return value
    if types.NoneType in kinds and str not in kinds and text.lower() in _NONE:
        return None
    if bool in kinds and text.lower() in _TRUE + _FALSE:
        return text.lower() in _TRUE
    if (dict in kinds and text.startswith("{")) or (list in kinds and text.startswith("[")):
        with contextlib.suppress(ValueError, RecursionError):
            return json.loads(text)
    for number in (int, float):
        if number in kinds:
            with contextlib.suppress(ValueError):
                return number(text)
    return text


def _with_underscores(word: str) -> str:
    if not word.startswith("--"):
        return word
    name, equals, value = word.partition("=")
    return f"--{name[2:].replace('-', '_')}{equals}{value}"
