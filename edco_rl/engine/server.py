"""Start, watch and stop a vLLM server process that is ready for weight sync."""

import os
import signal
import socket
import subprocess
import threading
import time
from collections import deque
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
import requests
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from ..config import EngineConfig
from ..errors import ConfigurationError, EdcoRLError
from ..models import check_model_path
from .hardware import has_avx512, has_cuda
from .http import KEY_VARIABLE, is_reached_from_elsewhere, open_session
from .leftovers import server_folder
from .processes import (
    die_with_parent,
    is_resource_tracker,
    is_stopped,
    kill,
    session_of,
    shared_memory_of,
    wait_for_session,
)
from .server_arguments import llm_arguments, server_command, server_environment

STOPPED = "is stopped (SIGSTOP)"
"""What [`VLLMServer.fault`] calls a process that can be continued."""
_LOG_LINES_SHOWN = 20


class EngineStartError(EdcoRLError, RuntimeError):
    """The server died or did not become healthy in time. The message ends with the last lines of its log."""


def free_port(host: str) -> int:
    """A port no process listens on right now."""
    with socket.socket() as sock:
        sock.bind((host, 0))
        return sock.getsockname()[1]


def check_port(host: str, port: int) -> None:
    """Raise [`ConfigurationError`] when `port` is taken or `host` is not an address of this machine."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, port))
        except OSError as error:
            raise ConfigurationError(
                f"Cannot listen on {host}:{port}: {error.strerror}. Choose another port."
            ) from None


class VLLMServer:
    """A vLLM server in a session of its own.

    Use it as a context manager, or call [`~VLLMServer.start`] and [`~VLLMServer.stop`]. The kernel kills it, with its
    engine core and workers, when the thread that started it ends: a trainer that is killed outright leaves none.

    Args:
        model (`str`):
            Model folder or hub id.
        config (`EngineConfig`):
            Settings; `engine_port` 0 takes a free port.
        log_path (`str` or `Path`):
            File for the server's output; overwritten by the first start, added to by later ones.

    Example:

    ```python
    >>> with VLLMServer("Qwen/Qwen3-0.6B", EngineConfig(), "engine.log") as server:
    ...     print(server.url)
    ```
    """

    def __init__(self, model: str, config: EngineConfig, log_path: str | Path) -> None:
        self.model = model
        self.config = config
        self.log_path = Path(log_path)
        self.port = config.engine_port
        self._process: subprocess.Popen | None = None
        self._deadline = 0.0
        self._family: list[psutil.Process] = []
        self._log_mode = "w"
        self._held = ExitStack()

    @property
    def url(self) -> str:
        """Base URL of the server."""
        host = "127.0.0.1" if self.config.engine_host == "0.0.0.0" else self.config.engine_host
        return f"http://{host}:{self.port}"

    def start(self, cancelled: threading.Event | None = None) -> None:
        """Launch the server, unless that was done, and wait until it is healthy.

        It can be started again once it has been stopped.

        Args:
            cancelled (`threading.Event`, *optional*):
                Where it is set, the start is given up.

        Raises:
            ConfigurationError: See [`~VLLMServer.launch`].
            EngineStartError: The server died, or was not healthy `engine_startup_timeout` seconds after its launch.
        """
        try:
            if self._process is None:
                self.launch()
            assert self._process is not None
            self._wait_until_healthy(self._process, cancelled or threading.Event())
            self._family = session_of(self._process.pid)
        except BaseException:
            self.stop()
            raise

    def launch(self) -> None:
        """Start the process of the server and return: until it is healthy, other work can be done beside it.

        Raises:
            ConfigurationError: The port is in use, the model folder does not exist, the log cannot be written, or the
                server would be reached from elsewhere without a key.
        """
        check_model_path(self.model)
        host = self.config.engine_host
        if is_reached_from_elsewhere(host) and not os.environ.get(KEY_VARIABLE):
            raise ConfigurationError(
                f"engine_host {host}: a server that others can reach needs an API key. Set the environment variable "
                f"{KEY_VARIABLE} for it and for its trainers, or leave engine_host at 127.0.0.1."
            )
        if self.port == 0:
            self.port = free_port(host)
        check_port(host, self.port)
        try:
            self.log_path.parent.mkdir(parents=True, exist_ok=True)
            log = self.log_path.open(self._log_mode)
        except OSError as error:
            raise ConfigurationError(f"engine_log {self.log_path} cannot be written: {error.strerror}.") from None
        self._log_mode = "a"
        self._deadline = time.monotonic() + self.config.engine_startup_timeout
        temporary = self._held.enter_context(server_folder())
        with log:
            self._process = subprocess.Popen(
                self._command(),
                env=server_environment(self.config, temporary),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches the trainer, which then stops the server in order
                preexec_fn=partial(die_with_parent, os.getpid()),  # noqa: PLW1509 (one system call, no lock)
            )

    def _command(self) -> list[str]:
        arguments = llm_arguments(self.model, self.config, cuda=has_cuda(), avx512=has_avx512())
        return server_command(arguments, self.config, self.port)

    def _wait_until_healthy(self, process: subprocess.Popen, cancelled: threading.Event) -> None:
        columns = (SpinnerColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))  # what is long comes last
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            progress.add_task(f"Starting vLLM, log {self.log_path}, for {self.model} on {self.url}")
            while not self.is_healthy():
                if process.poll() is not None:
                    raise EngineStartError(self._failure(f"The vLLM server ended with exit code {process.returncode}"))
                if time.monotonic() > self._deadline:
                    raise EngineStartError(
                        self._failure(
                            f"The vLLM server was not healthy after {self.config.engine_startup_timeout:g} seconds "
                            "(engine_startup_timeout)"
                        )
                    )
                if cancelled.wait(0.2):
                    raise EngineStartError("The start of the vLLM server was given up.")

    def _failure(self, what: str) -> str:
        with self.log_path.open(errors="replace") as log:
            lines = "".join(deque(log, maxlen=_LOG_LINES_SHOWN))
        return f"{what}. The last lines of {self.log_path}:\n{lines}"

    def is_healthy(self) -> bool:
        """Whether the server answers and its engine is alive."""
        try:
            with open_session(self.url) as session:
                return session.get(f"{self.url}/health", timeout=5).status_code == 200
        except requests.RequestException:
            return False

    def wait(self) -> int:
        """Block until the server ends, and return its exit code."""
        if self._process is None:
            raise RuntimeError("The server has not been started.")
        return self._process.wait()

    def fault(self) -> str | None:
        """What is wrong with its processes, as far as the operating system shows it; `None` where nothing is."""
        if self._process is None:
            return "was not started"
        code = self._process.poll()
        if code is not None:
            return f"ended with exit code {code}" if code >= 0 else f"was ended by {signal.Signals(-code).name}"
        return STOPPED if is_stopped(self._family) else None

    def stop(self, grace: float = 15.0) -> None:
        """End the server and every process it started. Safe to call more than once.

        Args:
            grace (`float`, *optional*, defaults to `15.0`):
                Seconds to end in order, releasing shared memory, before it is killed.
        """
        process, self._process = self._process, None
        if process is None:
            return
        segments = shared_memory_of(session_of(process.pid))
        if grace > 0 and process.poll() is None:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(grace)
                wait_for_session(process.pid, 1.0)
        kill(member for member in session_of(process.pid) if not is_resource_tracker(member))
        kill(wait_for_session(process.pid, 5.0))
        process.wait()
        for segment in segments:  # what its resource tracker has not come to
            segment.unlink(missing_ok=True)
        self._held.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
