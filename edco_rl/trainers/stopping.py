"""A stop that is asked for by a signal: after the optimizer step and a checkpoint, not in the middle of them."""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

from accelerate import PartialState
from accelerate.utils import gather_object

logger = logging.getLogger(__name__)

# Within so many seconds a second signal is the launcher's copy of what the terminal sent to all processes.
_COPIES = 2.0


class StopSignals:
    """Holds back SIGTERM and SIGINT (Ctrl-C) while a trainer trains. A second signal takes its usual course at once.

    Use it as a context manager: at its end a signal that was held back takes its usual course too, also where training
    or the checkpoint failed. What they failed with is logged: whoever catches errors would go on with other work.

    Args:
        enabled (`bool`):
            Whether signals are held back. They never are outside of a process's main thread.
        something_to_save (`Callable[[], bool]`):
            Whether anything is not in a checkpoint yet; where nothing is, a signal takes its course at once.
    """

    def __init__(self, enabled: bool, something_to_save: Callable[[], bool]) -> None:
        self.enabled = enabled and threading.current_thread() is threading.main_thread()
        self.something_to_save = something_to_save
        self._asked: int | None = None
        self._asked_at = 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if self.enabled:
            # A shell lets what it starts in the background ignore Ctrl-C.
            heard = [one for one in (signal.SIGTERM, signal.SIGINT) if signal.getsignal(one) is not signal.SIG_IGN]
            self._before = {number: signal.signal(number, self._handle) for number in heard}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self._asked is not None and (error is None or isinstance(error, Exception)):
            if error is not None:
                logger.error("Asked to stop; what was not in a checkpoint is lost.", exc_info=error)
            self._take_course(self._asked)
        self._let_through()

    def asked(self) -> bool:
        """Whether any process was asked to stop. A collective."""
        return self.enabled and any(gather_object([self._asked is not None]))

    def stop(self) -> None:
        """Let the signal take its usual course, on processes that got none too."""
        self._take_course(self._asked or signal.SIGTERM)

    def _take_course(self, number: int) -> None:
        self._asked = None
        self._let_through()
        signal.raise_signal(number)

    def _let_through(self) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
        self._before = {}

    def _handle(self, number: int, frame: FrameType | None) -> None:
        alone = PartialState().num_processes == 1
        if self._asked is None and (self.something_to_save() or not alone):
            self._asked, self._asked_at = number, time.monotonic()
            if PartialState().is_main_process:  # in a handler nothing may be logged: it may have interrupted just that
                text = f"\n{signal.Signals(number).name}: stopping after this optimizer step and a checkpoint. "
                os.write(2, f"{text}A second one stops at once.\n".encode())
        elif alone or self._asked is None or time.monotonic() - self._asked_at > _COPIES:
            self._take_course(number)
