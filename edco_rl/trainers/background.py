"""What an engine does beside the trainer's own thread: one piece of work after the other, in the order they began."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import AbstractContextManager
from typing import TypeVar

T = TypeVar("T")


class Background:
    """Does work in threads of its own that a program's end does not wait for.

    Pieces of work never overlap, and are done in the order in which they were begun: what comes of them does not
    depend on how long each takes.

    Args:
        timer (`Callable[[str], AbstractContextManager]`):
            Context manager that is told what the time goes to that is spent waiting.

    Example:

    ```python
    >>> background = Background(Stopwatch())
    >>> scores = background.begin("scoring", lambda: score(rows, engine))
    >>> optimize()
    >>> background.result(scores)
    ```
    """

    def __init__(self, timer: Callable[[str], AbstractContextManager[None]]) -> None:
        self._timer = timer
        self._begun: list[tuple[str, Future]] = []

    def begin(self, part: str, work: Callable[[], T]) -> "Future[T]":
        """Begin work as soon as all that was begun before is done.

        Args:
            part (`str`):
                What waiting for it is counted towards, one of [`~edco_rl.trainers.stopwatch.PARTS`].
            work (`Callable`):
                The work. It must not use what the trainer's thread changes meanwhile: weights, or the tokenizer.
        """
        future: Future[T] = Future()
        before = [other for _, other in self._begun]

        def run() -> None:
            wait(before)
            try:
                future.set_result(work())
            except BaseException as error:  # raised where the result is asked for
                future.set_exception(error)

        self._begun = [(part, other) for part, other in self._begun if not other.done()] + [(part, future)]
        threading.Thread(target=run, name=f"{part} beside training", daemon=True).start()
        return future

    def result(self, future: "Future[T]") -> T:
        """What came of work, once it is done; raises what the work raised."""
        self._wait_for([begun for begun in self._begun if begun[1] is future])
        return future.result()

    def idle(self) -> None:
        """Wait until all work is done. What it raised is raised where its result is asked for."""
        begun, self._begun = self._begun, []
        self._wait_for(begun)

    def _wait_for(self, begun: list[tuple[str, Future]]) -> None:
        for part, future in begun:
            if not future.done():
                with self._timer(part):
                    wait([future])
