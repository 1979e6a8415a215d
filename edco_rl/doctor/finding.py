"""What an examination finds."""

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "note", "problem", "not looked at"]


@dataclass(frozen=True)
class Finding:
    """One line of the result.

    Args:
        what (`str`):
            What was looked at, as `"trl"`.
        state (`str`):
            `"ok"`; `"note"`, where it works but differs from what was tested; `"problem"`; or `"not looked at"`.
        found (`str`):
            What is there.
        advice (`str`, *optional*, defaults to `""`):
            What to do.
    """

    what: str
    state: State
    found: str
    advice: str = ""
