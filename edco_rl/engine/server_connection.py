"""Requests to a server that is looked after: where it is lost and comes back, they are made again."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import requests

from .channel import Channel
from .health import Condition, EngineHealth
from .http import why_refused, why_unreachable
from .protocol import EngineError, EngineLostError
from .server import VLLMServer
from .supervisor import Supervisor

T = TypeVar("T")


class ServerConnection:
    """Sends requests, from any thread, and knows whether the engine is lost.

    Args:
        url (`str`), timeout (`float`), retries (`int`), connections (`int`):
            As of [`~edco_rl.engine.channel.Channel`].
    """

    def __init__(self, url: str, timeout: float, retries: int, connections: int) -> None:
        self.url = url
        self._channel = Channel(url, timeout, retries, connections)
        self._supervisor: Supervisor | None = None
        self._restoring = threading.RLock()
        self._here = threading.local()

    def supervise(self, health: EngineHealth, server: VLLMServer | None) -> None:
        """Have the engine looked after from now on.

        Args:
            health (`EngineHealth`):
                What is known of it, and how much it is let do.
            server (`VLLMServer` or `None`):
                The server, where it is to be started again, and to be stopped at the end.
        """
        self._supervisor = Supervisor(self.url, health, self._channel.abort, server)

    def send(self, method: str, path: str, *, repeat: bool = True, **kwargs: Any) -> bytes:
        """Send a request and return its answer.

        Args:
            method (`str`), path (`str`):
                As of HTTP.
            repeat (`bool`, *optional*, defaults to `True`):
                Whether it may be sent again where the server may have begun to work on it.
            **kwargs:
                As of `requests`.

        Raises:
            EngineError: The server does not answer, or reports an error; the message holds its answer.
            EngineLostError: It is gone, or hangs.
        """
        try:
            response = self._channel.send(method, path, repeat=repeat, **kwargs)
        except requests.RequestException as error:
            self._check_lost()
            raise EngineError(
                f"No answer from the vLLM server at {self.url}{path} ({type(error).__name__}). "
                f"{why_unreachable(self.url, error)}"
            ) from error
        if response.status_code != 200:
            if response.status_code >= 500:
                # A server closes the connection after an error of its own: the next request would be reset on it.
                self._channel.close()
                self._check_lost()
            raise EngineError(
                f"The vLLM server at {self.url} answered {path} with {response.status_code}: {response.text[:1000]}"
                f"{why_refused(self.url, response.status_code, response.text)}"
            )
        return response.content

    def update(self, path: str, body: Any = None) -> None:
        """Send a request that changes weights: the engine answers nothing else meanwhile, and it is not sent twice.

        Raises:
            EngineError, EngineLostError: As [`~ServerConnection.send`].
        """
        if self._supervisor is None:
            self.send("POST", path, json=body, repeat=False)
            return
        with self._supervisor.updating():
            self.send("POST", path, json=body, repeat=False)

    def again_if_lost(self, work: Callable[[], T], restore: Callable[[], None]) -> T:
        """The result of work that sends requests; it is done again where the engine is lost on the way and comes back.

        Args:
            work (`Callable`):
                The work.
            restore (`Callable[[], None]`):
                Gives an engine that has come back the weights it should have.

        Raises:
            EngineLostError: It does not come back.
        """
        if getattr(self._here, "without_recovery", False):
            return work()
        while True:
            with self._restoring:
                while self._channel.lost.is_set():
                    self._come_back(restore)
            try:
                return work()
            except EngineLostError:
                if not self._channel.lost.is_set():
                    raise

    @contextmanager
    def without_recovery(self) -> Iterator[None]:
        """In this thread, [`~ServerConnection.again_if_lost`] does its work once, and tells where it is lost."""
        self._here.without_recovery = True
        try:
            yield
        finally:
            self._here.without_recovery = False

    def _come_back(self, restore: Callable[[], None]) -> None:
        """Wait for it and restore it; without effect where it is lost again on the way."""
        self.begin_again()
        try:
            restore()
        except EngineLostError:
            return
        self.restored()

    def condition(self) -> Condition:
        """What can be expected of the engine."""
        return Condition.SERVING if self._supervisor is None else self._supervisor.health.condition

    def begin_again(self) -> None:
        """Wait until an engine that was lost answers, and connect anew.

        Raises:
            EngineLostError: It does not come back.
        """
        assert self._supervisor is not None
        self._supervisor.resume(self._channel.open)

    def restored(self) -> None:
        """Told that the engine has the weights again that it should have."""
        assert self._supervisor is not None
        self._supervisor.restored()

    def _check_lost(self) -> None:
        """Raise [`EngineLostError`] where a request has failed because the engine is lost."""
        if self._supervisor is not None and not self._channel.lost.is_set():
            self._supervisor.find_out()
        if self._channel.lost.is_set():
            raise EngineLostError(f"The engine at {self.url} {self._channel.why}.")

    def interruptions(self) -> tuple[int, float]:
        """Times the engine was lost so far, and the seconds that has cost."""
        return (0, 0.0) if self._supervisor is None else self._supervisor.interruptions()

    def close(self) -> None:
        """Close the connections, and stop a server that was started for this."""
        if self._supervisor is not None:
            self._supervisor.close()
        self._channel.close()
