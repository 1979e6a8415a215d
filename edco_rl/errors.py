"""Errors a user can mend. The command line prints their message alone; anything else is a bug, with a traceback."""

import difflib
from collections.abc import Iterable
from typing import Any, ClassVar


class EdcoRLError(Exception):
    """Base class of errors whose message says what to change."""

    exit_code: ClassVar[int] = 1
    """What the command line ends with."""


class ConfigurationError(EdcoRLError, ValueError):
    """A setting, file or data row the user has to change."""

    exit_code = 2


def nearest(word: Any, known: Iterable[str]) -> str:
    """The end of a message that says which name was probably meant; empty where none is near."""
    found = difflib.get_close_matches(word, list(known), n=1) if isinstance(word, str) else []
    return f" Did you mean {found[0]}?" if found else ""
