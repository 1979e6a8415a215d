"""What a setting names: something of this package, or a user's own by its import path."""

import importlib
from collections.abc import Sequence
from typing import Any, TypeVar

from .checks import ConfigurationError

Plugin = TypeVar("Plugin")


def import_named(kind: str, name: str, available: Sequence[str], own: str) -> Any:
    """What an import path (`package.module:attribute` or `package.module.attribute`) leads to.

    Args:
        kind (`str`):
            What messages call it, as `"strategy"`.
        name (`str`):
            The import path.
        available (`Sequence[str]`):
            Names of this package, for the message where `name` is no import path.
        own (`str`):
            How that message ends: what a user can give instead.

    Raises:
        ConfigurationError: `name` is no import path, or cannot be imported.
    """
    module_name, _, attribute = name.replace(":", ".").rpartition(".")
    if not module_name:
        raise ConfigurationError(
            f"Unknown {kind} {name!r}. Available: {', '.join(available)}, or the import path of your own{own}."
        )
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(f"Cannot import {kind} {name!r}: {error}.") from error


def find_class(kind: str, name: str, known: dict[str, type[Plugin]], base: type[Plugin]) -> type[Plugin]:
    """The class of that name, or a user's own by its import path.

    Args:
        kind (`str`):
            What messages call it.
        name (`str`):
            A key of `known`, `package.module:Class` or `package.module.Class`.
        known (`dict[str, type]`):
            Classes of this package by name.
        base (`type`):
            What a user's class must be a subclass of; its package exports it.

    Raises:
        ConfigurationError: There is no such class, or it is not a subclass of `base`.
    """
    if name in known:
        return known[name]
    found = import_named(kind, name, list(known), " class, as package.module:Class")
    if not (isinstance(found, type) and issubclass(found, base)):
        package = base.__module__.rpartition(".")[0]
        raise ConfigurationError(f"{kind} {name!r} is not a subclass of {package}.{base.__name__}.")
    return found
