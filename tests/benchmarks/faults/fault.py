"""What a fault is, and what is seen of one."""

import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any


class MissedError(AssertionError):
    """Something else was seen than what is expected."""


def expect(condition: Any, seen: str) -> None:
    """Raise `MissedError` with what was seen, unless the condition holds."""
    if not condition:
        raise MissedError(seen)


@dataclass(frozen=True)
class Fault:
    """A fault, and how a run is to meet it.

    Args:
        name (`str`):
            Its room's name, a dot, and its own.
        done (`str`), expected (`str`):
            What is done, and what is to be seen, in words.
        inject (`Callable[[Place], str]`):
            Does it, and returns what was seen; raises `MissedError` where that is something else.
    """

    name: str
    done: str
    expected: str
    inject: Callable[[Any], str]


@dataclass(frozen=True)
class Finding:
    """What came of a fault."""

    name: str
    done: str
    expected: str
    seen: str
    passed: bool
    seconds: float

    def __str__(self) -> str:
        verdict = "ok    " if self.passed else "MISSED"
        return f"{verdict} {self.name} ({self.seconds:.1f} s): {self.done} | expected: {self.expected} | {self.seen}"

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def find(fault: Fault, place: Any) -> Finding:
    """Inject a fault, and see that nothing is left of the runs it was injected into."""
    began = time.monotonic()
    try:
        seen = fault.inject(place)
        left = place.left_behind()
        expect(not left, f"{seen}; left behind: {', '.join(left)}")
        passed = True
    except MissedError as missed:
        seen, passed = str(missed), False
    except Exception:  # the others are still to be tried
        seen, passed = traceback.format_exc(), False
    finally:
        place.clear()
    return Finding(fault.name, fault.done, fault.expected, seen, passed, time.monotonic() - began)
