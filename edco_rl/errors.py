"""Errors a user can mend. The command line prints their message alone; anything else is a bug, with a traceback."""

from typing import ClassVar


class EdcoRLError(Exception):
    """Base class of errors whose message says what to change."""

    exit_code: ClassVar[int] = 1
    """What the command line ends with."""


class ConfigurationError(EdcoRLError, ValueError):
    """A setting, file or data row the user has to change."""

    exit_code = 2
