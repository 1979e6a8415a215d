"""Requests to one server: repeated within a bound, and ended at once where the server is known to be lost."""

import logging
import socket
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from tenacity import (
    RetryCallState,
    Retrying,
    before_sleep_log,
    retry_if_exception,
    sleep_using_event,
    stop_after_attempt,
    stop_when_event_set,
    wait_random_exponential,
)
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, Retry
from urllib3.exceptions import InvalidHeader

from .http import open_session

logger = logging.getLogger(__name__)

# A server that says so has not begun to work on the request.
_BUSY = (429, 503)
_LONGEST_WAIT = 120.0
_BACKOFF = wait_random_exponential(multiplier=0.5, max=30.0)


class BusyError(requests.RequestException):
    """The server was too busy to take the request, each time it was asked."""


class Channel:
    """Sends requests to one server, from any thread.

    Args:
        url (`str`):
            Base URL.
        timeout (`float`):
            Seconds to wait for each answer.
        retries (`int`):
            Times a request is repeated at most.
        connections (`int`):
            Connections kept open.

    Attributes:
        lost (`threading.Event`): Set where the server is known to be lost: requests fail at once, also those sent.
        why (`str`): Why it is.
    """

    def __init__(self, url: str, timeout: float, retries: int, connections: int) -> None:
        self.url = url
        self.timeout = timeout
        self.retries = retries
        self.connections = connections
        self.lost = threading.Event()
        self.why = ""
        self._connect()

    def open(self) -> None:
        """Connect anew, after [`~Channel.abort`]."""
        self._session.close()
        self._connect()
        self.lost.clear()

    def _connect(self) -> None:
        self._session = open_session(self.url)
        self._adapter = _TrackingAdapter(self.lost.is_set, pool_maxsize=self.connections)
        self._session.mount("http://", self._adapter)
        self._session.mount("https://", self._adapter)

    def send(self, method: str, path: str, *, repeat: bool = True, **kwargs: Any) -> requests.Response:
        """Send a request, again where the server is busy, and where the connection breaks or no answer comes in time.

        Args:
            method (`str`), path (`str`), **kwargs:
                As of `requests`.
            repeat (`bool`, *optional*, defaults to `True`):
                Whether it may be sent again where the server may have begun to work on it.

        Raises:
            requests.RequestException: No answer; those with an error status are returned.
        """

        def once() -> requests.Response:
            if self.lost.is_set():
                raise requests.ConnectionError(self.why)
            response = self._session.request(method, f"{self.url}{path}", timeout=self.timeout, **kwargs)
            if response.status_code in _BUSY:
                raise BusyError(response=response)
            return response

        def passes(error: BaseException) -> bool:
            if isinstance(error, requests.exceptions.SSLError | requests.exceptions.ProxyError):
                return False
            broken = isinstance(error, requests.ConnectionError | requests.Timeout)
            broken = broken or isinstance(error, requests.exceptions.ChunkedEncodingError)
            return isinstance(error, BusyError) or (repeat and broken)

        retrying = Retrying(
            stop=stop_after_attempt(1 + self.retries) | stop_when_event_set(self.lost),
            wait=_wait,
            retry=retry_if_exception(passes),
            sleep=sleep_using_event(self.lost),
            before_sleep=before_sleep_log(logger, logging.WARNING),
            reraise=True,
        )
        try:
            return retrying(once)
        except BusyError as error:
            assert error.response is not None
            return error.response

    def abort(self, why: str) -> None:
        """End all requests in flight, and let new ones fail, until it is opened anew."""
        self.why = why
        self.lost.set()
        self._adapter.shut_down()

    def close(self) -> None:
        """Close the connections."""
        self._session.close()


def _wait(state: RetryCallState) -> float:
    """Seconds before the next try: what the server asks for, within a bound, or a random time that grows."""
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, BusyError) and error.response is not None and "Retry-After" in error.response.headers:
        with suppress(InvalidHeader):
            return min(Retry().parse_retry_after(error.response.headers["Retry-After"]), _LONGEST_WAIT)
    return _BACKOFF(state)


class _TrackingAdapter(HTTPAdapter):
    """Knows its connections, so that threads that wait for an answer on them can be woken."""

    def __init__(self, closed: Callable[[], bool], **kwargs: Any) -> None:
        self._closed = closed
        self._open: weakref.WeakSet[Any] = weakref.WeakSet()
        super().__init__(**kwargs)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {
            "http": self._tracked(HTTPConnectionPool),
            "https": self._tracked(HTTPSConnectionPool),
        }

    def _tracked(self, pool: type[HTTPConnectionPool]) -> type[HTTPConnectionPool]:
        connections, closed = self._open, self._closed

        class Connection(pool.ConnectionCls):  # type: ignore[name-defined]
            def connect(self) -> None:
                super().connect()
                connections.add(self)
                if closed():
                    raise ConnectionAbortedError

        return type(pool.__name__, (pool,), {"ConnectionCls": Connection})

    def shut_down(self) -> None:
        """End what is waited for on any connection."""
        for connection in list(self._open):
            sock = connection.sock
            if sock is not None:
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
