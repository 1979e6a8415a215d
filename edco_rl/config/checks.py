"""Checks that name the setting, and what was expected of it."""

import json
from typing import Any

from ..errors import ConfigurationError


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigurationError(f"{name} must be one of {', '.join(choices)}; got {value!r}.")


def check_plugin(name: str, value: str, known: list[str]) -> None:
    """A name of this package's, or something that can be an import path: what it leads to is found out later."""
    if value not in known and not set(value) & set(".:"):
        raise ConfigurationError(
            f"{name} must be one of {', '.join(known)}, or the import path of your own class, as "
            f"package.module:Class; got {value!r}."
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


def check_at_least(name: str, value: float | None, minimum: float) -> None:
    if value is not None and value < minimum:
        raise ConfigurationError(f"{name} must be at least {minimum}; got {value}.")


def as_dict(name: str, value: dict[str, Any] | str | None) -> dict[str, Any] | None:
    """A mapping from YAML, or from JSON on the command line."""
    if not isinstance(value, str):
        return value
    try:
        parsed = json.loads(value)
    except json.JSONDecodeError as error:
        raise ConfigurationError(f"{name} must be a JSON object; got {value!r} ({error}).") from None
    if not isinstance(parsed, dict):
        raise ConfigurationError(f"{name} must be a JSON object; got {value!r}.")
    return parsed
