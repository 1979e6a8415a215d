"""A time limit for Python code in the main thread that leaves the timers of graders alone."""

import signal
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from ..errors import ConfigurationError

T = TypeVar("T")


class TimeIsUp(BaseException):
    """Raised in what takes too long. No `Exception`, which graders are used to catching."""


def call_within(seconds: float | None, call: Callable[[], T]) -> T:
    """What a call returns, if it takes no longer than that.

    The limit interrupts Python code and blocking calls such as `time.sleep`; what runs within a single call of a C
    extension is interrupted when that returns. It is the signal SIGVTALRM, sent by a thread: math-verify has the one
    real-time timer of the process, and would switch it off.

    Args:
        seconds (`float`, *optional*):
            `None` is no limit.
        call (`Callable`):
            Called without arguments.

    Raises:
        TimeIsUp: It takes longer. Raised in the code that is running, and again as long as it goes on.
        ConfigurationError: This is not the main thread, the only one that signals interrupt.
    """
    if seconds is None:
        return call()
    if threading.current_thread() is not threading.main_thread():
        raise ConfigurationError(
            "reward_timeout is a signal, which interrupts the main thread only: train in that one."
        )
    running, interrupted, over, main = True, False, threading.Event(), threading.get_ident()

    def interrupt(signum: int, frame: Any) -> None:
        nonlocal interrupted
        if running:
            interrupted = True
            raise TimeIsUp

    def watch() -> None:
        while not over.wait(seconds):
            signal.pthread_kill(main, signal.SIGVTALRM)

    before = signal.signal(signal.SIGVTALRM, interrupt)
    watcher = threading.Thread(target=watch, name="reward_timeout", daemon=True)
    try:
        watcher.start()
        result = call()
        if interrupted:  # it has caught everything, and gone on with what it had
            raise TimeIsUp
        return result
    finally:
        running = False  # before any call, in which a signal on its way could interrupt
        over.set()
        watcher.join()
        signal.signal(signal.SIGVTALRM, before)
