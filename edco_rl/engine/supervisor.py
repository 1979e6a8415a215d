"""A thread that looks after an engine: notices that it is lost, and starts it again or waits for it."""

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import requests

from ..config import EngineConfig
from ..errors import EdcoRLError
from .health import Condition, EngineHealth
from .http import open_session
from .protocol import EngineLostError
from .server import STOPPED, VLLMServer
from .server_arguments import LOOKED_AT

logger = logging.getLogger(__name__)

# Looks in a row that must find a process stopped: it may be only for a moment.
_LOOKS_STOPPED = 3


def health_of(config: EngineConfig, *, patient: bool) -> EngineHealth:
    """The health of an engine with the limits of settings.

    `patient` is whether it is waited for however long it takes: each start has its own limit, or others serve
    meanwhile.
    """
    return EngineHealth(
        most_silent=config.engine_hang_timeout,
        most_restarts=config.engine_max_restarts,
        most_wait=math.inf if patient else config.engine_wait_timeout,
    )


class Supervisor:
    """Looks at an engine once a second, also while nothing is asked of it.

    Args:
        url (`str`):
            Where it answers.
        health (`EngineHealth`):
            What is known of it.
        on_lost (`Callable[[str], None]`):
            Told why it is lost, at once; it must not wait.
        server (`VLLMServer`, *optional*):
            The server, where it is to be started again.
    """

    interval = 1.0
    """Seconds between two looks."""
    patience = 5.0
    """Seconds it has for an answer to a look; how long it may give none is its health's to say."""
    moment = 5.0
    """Seconds in which a server whose engine core or worker has died says so."""

    def __init__(
        self,
        url: str,
        health: EngineHealth,
        on_lost: Callable[[str], None],
        server: VLLMServer | None = None,
    ) -> None:
        self.url = url
        self.health = health
        self.server = server
        self._on_lost = on_lost
        self._stopped = 0
        self._round_trip = True
        self._updates = 0
        self._changed = threading.Condition()
        self._looking = threading.RLock()  # a look is not to find what was before a start, and tell it after it
        self._closing = threading.Event()
        # It lives as long as the server: the kernel kills what a thread has started when the thread ends.
        self._thread = threading.Thread(target=self._run, name="engine supervisor", daemon=True)
        self._thread.start()

    @contextmanager
    def updating(self) -> Iterator[None]:
        """While its weights are updated, it answers nothing else."""
        self._updates += 1
        try:
            yield
        finally:
            self._updates -= 1

    def find_out(self) -> None:
        """Look at it after a request has failed, for a moment: one that dies may answer looks for some of that."""
        deadline = time.monotonic() + self.moment
        while self.health.condition in (Condition.SERVING, Condition.STALE) and time.monotonic() < deadline:
            self.look()
            time.sleep(0.1)

    def look(self) -> bool:
        """Look at it now; whether what was seen leaves no doubt."""
        with self._looking:
            fault, certain = self._fault()
            with self._changed:
                before = self.health.condition
                if fault is None:
                    self.health.answered()
                elif certain:
                    self.health.ended(fault)
                else:
                    self.health.silent(fault)
                self._tell(before)
        return fault is None or certain

    def resume(self, begin: Callable[[], None]) -> None:
        """Wait until it answers, and call `begin`, unless it is lost again before.

        Raises:
            EngineLostError: It was given up.
        """
        with self._changed:
            while self.health.condition is Condition.LOST:
                if not self._thread.is_alive():
                    raise EngineLostError(f"The engine at {self.url} {self.health.why}, and is not looked after.")
                self._changed.wait(1.0)
            if self.health.condition is Condition.GIVEN_UP:
                raise EngineLostError(f"The engine at {self.url} {self.health.why}.")
            begin()

    def restored(self) -> None:
        """Told that it has the weights again that it should have."""
        with self._changed:
            before = self.health.seconds_lost
            self.health.restored()
            if self.health.condition is Condition.SERVING:
                lost = self.health.seconds_lost - before
                logger.warning("The engine at %s serves again, %.1f seconds after its last answer.", self.url, lost)

    def interruptions(self) -> tuple[int, float]:
        """Times it was lost so far, and the seconds that has cost."""
        with self._changed:
            return self.health.restarts, self.health.seconds_lost

    def close(self) -> None:
        """Look no more, and stop a server that was started."""
        self._closing.set()
        with self._looking:
            if self.server is not None:
                self.server.stop()
        self._thread.join()

    def _run(self) -> None:
        while not self._closing.wait(self.interval):
            with self._looking:
                self.look()
                lost = self.health.condition is Condition.LOST and not self._closing.is_set()
                if self.server is not None and lost:
                    self._start_again(self.server)

    def _start_again(self, server: VLLMServer) -> None:
        self._stopped = 0
        server.stop(grace=0)
        try:
            server.start(self._closing)
        except (EdcoRLError, OSError) as error:
            if not self._closing.is_set():
                with self._changed:
                    self.health.start_failed(f"could not be started again. {error}")
                    self._tell(Condition.LOST)
        else:
            self.look()

    def _tell(self, before: Condition) -> None:
        after = self.health.condition
        if after is before:
            return
        if before is Condition.SERVING or before is Condition.STALE:
            self._on_lost(self.health.why)
            wait = self.health.most_wait
            what = f"waiting {wait:g} seconds" if math.isfinite(wait) else "going on with the others until it is back"
            what = "starting it again" if self.server is not None else what
            what = "given up" if after is Condition.GIVEN_UP else what
            logger.warning("The engine at %s %s: %s.", self.url, self.health.why, what)
        self._changed.notify_all()

    def _fault(self) -> tuple[str | None, bool]:
        """What is wrong, and whether that is certain rather than that it is busy."""
        if self.server is not None:
            fault = self.server.fault()
            self._stopped = self._stopped + 1 if fault == STOPPED else 0
            if fault is not None:
                return fault, fault != STOPPED or self._stopped >= _LOOKS_STOPPED
        health, engine = LOOKED_AT
        try:
            with open_session(self.url) as session:
                if session.get(f"{self.url}{health}", timeout=self.patience).status_code == 503:
                    return "reports that its engine is dead", True
                if self._round_trip and not self._updates:  # /health is answered beside an engine that hangs
                    answer = session.get(f"{self.url}{engine}", timeout=self.patience)
                    self._round_trip = answer.status_code == 200  # a server need not have this route
        except requests.Timeout:
            return "has not answered", False
        except requests.RequestException:
            # A server started here that lives may be starting, or about to end.
            return "takes no connections", self.server is None
        return None, False
