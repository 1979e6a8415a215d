"""From a command line, a YAML file or settings by name to dataclasses: every value checked, every message a line."""

import contextlib
import pkgutil
import re
import typing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .config.checks import checked, kind, parts, without_range
from .declarations import Field, fields_of
from .errors import ConfigurationError, nearest
from .flags import Flags, Names, from_words
from .plugins import search_in
from .yaml_file import Settings, read_yaml

# To YAML 1.1 these are text: it wants a point in the number and a sign in the exponent.
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)[eE][-+]?\d+")


@dataclass(frozen=True)
class Group:
    """Settings that belong together: the fields of one dataclass.

    Args:
        title (`str`):
            What the help text calls them.
        source (`type` or `str`):
            The dataclass of this package, or the import path of TRL's, whose import takes long.
        usual (`frozenset[str]`):
            Of TRL's: fields that the help text lists. The others need `--help-all`.
    """

    title: str
    source: type | str
    usual: frozenset[str] = frozenset()

    @property
    def ours(self) -> bool:
        """Whether it is this package's."""
        return not isinstance(self.source, str)

    @property
    def fields(self) -> tuple[Field, ...]:
        """Its settings."""
        return fields_of(self.source)

    def make(self, values: dict[str, Any], name: str) -> Any:
        """The dataclass with those of the values that are its own; `name` is where they are from.

        Raises:
            ConfigurationError: It refuses one, or two that contradict each other.
        """
        given = {field.name: values[field.name] for field in self.fields if field.name in values}
        with _from(name):
            if not isinstance(self.source, str):
                return self.source(**given)
            made = pkgutil.resolve_name(self.source)
            try:
                return made(**given)
            except Exception as error:  # how TRL's and transformers' classes refuse a value; any type can come
                raise ConfigurationError(str(error) or repr(error)) from error


class Parser:
    """Reads the settings of a command.

    Args:
        prog (`str`):
            What messages call the command.
        groups (`Sequence[Group]`):
            Its settings; no name is in two of them.
        complete (`Callable`, *optional*):
            Adds defaults that are only known once torch is imported.
    """

    def __init__(
        self,
        prog: str,
        groups: Sequence[Group],
        complete: Callable[[dict[str, Any]], dict[str, Any]] = lambda values: values,
    ) -> None:
        self.prog = prog
        self.groups = tuple(groups)
        self.fields = {field.name: field for group in groups for field in group.fields}
        self._complete = complete

    def read(self, arguments: Sequence[str]) -> Settings:
        """Settings from flags, and from the YAML file that `--config` names. Torch and TRL are not imported.

        Raises:
            ConfigurationError: There is no such file, setting or value.
        """
        words = self.flags().parse(arguments)
        path = words.pop("config", None)
        settings = Settings({})
        if path is not None:
            settings = self.check(read_yaml(path, "--config"))
            search_in(Path(path).expanduser().parent)
        for name, given in words.items():
            hint = self.fields[name].hint
            settings.values[name] = checked(f"--{name}", hint, from_words(hint, given))
            settings.lines.pop(name, None)
        return settings

    def check(self, settings: Settings) -> Settings:
        """Settings of a file, or by name, as their fields take them.

        Raises:
            ConfigurationError: There is no such setting, or one has a value it cannot have.
        """
        values = {}
        for name, value in settings.values.items():
            with _from(settings.place(name)):
                if name not in self.fields:
                    raise ConfigurationError(f"{self.prog} has no setting {name!r}.{nearest(name, self.fields)}")
                hint = self.fields[name].hint
                values[name] = checked(name, hint, _as_meant(hint, value))
        return Settings(values, settings.lines, settings.name)

    def make_own(self, settings: Settings) -> tuple[Any, ...]:
        """The dataclasses of this package alone, in the order of their groups: TRL's take seconds.

        Raises:
            ConfigurationError: One refuses a value, or two that contradict each other.
        """
        return tuple(group.make(settings.values, settings.name) for group in self.groups if group.ours)

    def make(self, settings: Settings) -> tuple[Any, ...]:
        """The dataclasses of the groups, in their order. Those of this package are made first.

        Raises:
            ConfigurationError: One refuses a value, or two that contradict each other.
        """
        own = self.make_own(settings)
        if len(own) == len(self.groups):
            return own
        mine, values = iter(own), self._complete(settings.values)
        return tuple(next(mine) if group.ours else group.make(values, settings.name) for group in self.groups)

    def flags(self, names: Names | None = None, *, everything: bool = False) -> Flags:
        """The flags of the settings; names that they can have are only needed to list or complete them."""
        listed = [(group.title, group.fields) for group in self.groups if group.ours]
        hidden = []
        for group in self.groups:
            if not group.ours:
                usual = [field for field in group.fields if everything or field.name in group.usual]
                hidden += [field for field in group.fields if field not in usual]
                listed.append((group.title, tuple(usual)))
        return Flags(self.prog, listed, hidden, names)


@contextlib.contextmanager
def _from(place: str) -> Iterator[None]:
    """Errors within say where the value is from."""
    try:
        yield
    except ConfigurationError as error:
        raise ConfigurationError(f"{place}: {error}" if place else str(error)) from error


def _as_meant(hint: Any, value: Any) -> Any:
    """A value of YAML as its field takes it: one where there can be several is a list of it, and 5e-1 a number."""
    kinds = {kind(part): part for part in parts(hint)}
    if isinstance(value, str) and list in kinds and str not in kinds:
        return [value]
    if value is False and bool not in kinds and Literal in kinds and "no" in typing.get_args(kinds[Literal]):
        return "no"  # to YAML 1.1 that word is false
    texts = list in kinds and typing.get_args(without_range(kinds[list])) in ((), (str,))
    if isinstance(value, dict) or (isinstance(value, list) and not texts) or (float in kinds and str not in kinds):
        return _with_numbers(value)
    return value


def _with_numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _with_numbers(one) for name, one in value.items()}
    if isinstance(value, list):
        return list(map(_with_numbers, value))
    return float(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else value
