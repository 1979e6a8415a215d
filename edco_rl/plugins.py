"""Plug-ins: classes of this package by name, and a user's own by import path."""

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

from .errors import ConfigurationError, nearest

Plugin = TypeVar("Plugin")


class Registry(Generic[Plugin]):
    """Plug-ins of one kind.

    Args:
        kind (`str`):
            What messages call them, as `"strategy"`.
        base (`type`):
            What each must be a subclass of; its package exports it.
        known (`Mapping[str, type or str]`):
            Classes of this package by name; an import path is followed when the plug-in is asked for.
    """

    def __init__(self, kind: str, base: type[Plugin], known: Mapping[str, type[Plugin] | str]) -> None:
        self.kind = kind
        self.base = base
        self._known = dict(known)

    def names(self) -> list[str]:
        """Names of this package's, in order."""
        return sorted(self._known)

    def find(self, name: str) -> type[Plugin]:
        """The class of that name, or the one `package.module:Class` leads to.

        Raises:
            ConfigurationError: There is no such class, or it is not a subclass of `base`.
        """
        known = self._known.get(name, name)
        found = (
            import_named(self.kind, known, self.names(), " class, as package.module:Class")
            if isinstance(known, str)
            else known
        )
        if not (isinstance(found, type) and issubclass(found, self.base)):
            package = self.base.__module__.rpartition(".")[0]
            raise ConfigurationError(f"{self.kind} {name!r} is not a subclass of {package}.{self.base.__name__}.")
        return found

    def make(self, name: str, *arguments: Any, settings: Mapping[str, Any] | None = None) -> Plugin:
        """An instance, made with positional arguments of this package and a user's settings.

        What goes wrong within the constructor is the author's to see, with its traceback.

        Raises:
            ConfigurationError: There is no such class, or it does not take the settings.
        """
        found = self.find(name)
        check_settings(f"{self.kind} {name!r}", found, settings or {}, f"{self.kind}_kwargs", *arguments)
        return found(*arguments, **(settings or {}))


def check_settings(
    what: str,
    function: Callable[..., Any],
    settings: Mapping[str, Any],
    source: str,
    *arguments: Any,
    partial: bool = False,
) -> None:
    """Check that a call fits the signature, without making it.

    Args:
        what (`str`):
            What is called, for the message.
        function (`Callable`):
            What is called.
        settings (`Mapping[str, Any]`):
            A user's keyword arguments.
        source (`str`):
            The setting they come from.
        arguments:
            Positional arguments of this package.
        partial (`bool`, *optional*, defaults to `False`):
            Whether further arguments follow when it is called.

    Raises:
        ConfigurationError: It does not.
    """
    try:
        signature = inspect.signature(function)
    except ValueError:  # builtins have none
        return
    try:
        (signature.bind_partial if partial else signature.bind)(*arguments, **settings)
    except TypeError as error:
        raise ConfigurationError(f"{what} with {source} {dict(settings)}: {error}.") from None


def search_in(folder: str | Path) -> None:
    """Let plug-ins be found in a folder, after all that is installed. A script such as `edco-rl` has its own alone.

    Args:
        folder (`str` or `Path`):
            The folder of a recipe, or the current one.
    """
    if (path := str(Path(folder).resolve())) not in sys.path:
        sys.path.append(path)


def import_named(kind: str, name: str, available: list[str], own: str) -> Any:
    """What an import path (`package.module:attribute` or `package.module.attribute`) leads to.

    Args:
        kind (`str`):
            What messages call it, as `"strategy"`.
        name (`str`):
            The import path.
        available (`list[str]`):
            Names of this package, for the message where `name` is no import path.
        own (`str`):
            How that message ends: what a user can give instead.

    Raises:
        ConfigurationError: `name` is no import path, or leads nowhere.
    """
    module_name, _, attribute = name.replace(":", ".").rpartition(".")
    if not module_name:
        raise ConfigurationError(
            f"Unknown {kind} {name!r}. Available: {', '.join(available)}, or the import path of your own{own}."
            f"{nearest(name, available)}"
        )
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # the module is there, and lacks another: its author has to see where
        raise ConfigurationError(
            f"Cannot import {kind} {name!r}: {error}. It is looked for among what is installed, in the folder of the "
            "recipe and in the current one."
        ) from error
    if not hasattr(module, attribute):
        raise ConfigurationError(f"Cannot import {kind} {name!r}: {module_name} has no {attribute!r}.")
    return getattr(module, attribute)
