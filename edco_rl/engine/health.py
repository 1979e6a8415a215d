"""Whether an engine can be asked, as a state machine: it knows no network, process or thread, and is told the time."""

import time
from collections.abc import Callable
from enum import StrEnum


class Condition(StrEnum):
    """What can be expected of an engine."""

    SERVING = "serving"
    LOST = "lost"
    STALE = "stale"
    GIVEN_UP = "given up"


class EngineHealth:
    """The condition of one engine, from what is seen of it.

    ```
    SERVING --ended, or silent for too long--> LOST --answers again--> STALE --its weights are back--> SERVING
                                                | ^-------- ended --------'
                                                '--too often, or for too long--> GIVEN_UP
    ```

    There is no way from `LOST` to `SERVING`: an engine that comes back answers with the weights it was started with,
    and rollouts of those would be taken for the policy's.

    Args:
        most_silent (`float`):
            Seconds without an answer after which it is lost.
        most_restarts (`int`):
            Times it may be lost and come back.
        most_wait (`float`, *optional*):
            Seconds it is waited for once it is lost; by default for ever, as where each new start has its own limit.
        clock (`Callable[[], float]`, *optional*):
            Seconds that only grow.

    Attributes:
        condition (`Condition`): Where it is now.
        restarts (`int`): Times it was lost to be started anew, or to come back by itself.
        seconds_lost (`float`): From the last answers before it was lost to its weights being back.
        why (`str`): What was seen of it last, where it is not serving.
    """

    def __init__(
        self,
        *,
        most_silent: float,
        most_restarts: int,
        most_wait: float = float("inf"),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.most_silent = most_silent
        self.most_restarts = most_restarts
        self.most_wait = most_wait
        self.condition = Condition.SERVING
        self.restarts = 0
        self.seconds_lost = 0.0
        self.why = ""
        self._clock = clock
        self._answered = clock()
        self._answered_before = self._noticed = 0.0

    def answered(self) -> None:
        """It has answered. One that was lost has come back, with other weights."""
        if self.condition is Condition.LOST:
            self.condition = Condition.STALE
        self._answered = self._clock()

    def silent(self, why: str) -> None:
        """It has not answered, for all that is known because it is busy."""
        seconds = self._clock() - self._answered
        if self.condition in (Condition.SERVING, Condition.STALE) and seconds > self.most_silent:
            self._lose(f"{why} for {seconds:.0f} seconds")
        elif self.condition is Condition.LOST and self._clock() - self._noticed > self.most_wait:
            self._give_up(f"{self.why}, and did not come back within {self.most_wait:g} seconds")

    def ended(self, why: str) -> None:
        """It is certain that it answers no more."""
        if self.condition in (Condition.SERVING, Condition.STALE):
            self._lose(why)
        else:
            self.silent(why)

    def start_failed(self, why: str) -> None:
        """It was lost, and starting it anew has failed."""
        if self.condition is Condition.LOST:
            self._lose(why)

    def restored(self) -> None:
        """It has the weights again that it should have. Without effect where it was lost on the way."""
        if self.condition is Condition.STALE:
            self.condition = Condition.SERVING
            self._answered = self._clock()
            self.seconds_lost += self._answered - self._answered_before

    def _lose(self, why: str) -> None:
        if self.condition is Condition.SERVING:
            self._answered_before = self._answered
        self._noticed = self._clock()
        if self.restarts == self.most_restarts:
            self._give_up(f"{why}, after {self.restarts} restarts")
        else:
            self.restarts += 1
            self.condition, self.why = Condition.LOST, why

    def _give_up(self, why: str) -> None:
        self.condition, self.why = Condition.GIVEN_UP, why
