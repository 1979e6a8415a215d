"""Start, watch and stop a vLLM server process that is ready for weight sync."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
import requests
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from ..config import EngineConfig
from ..errors import ConfigurationError, EdcoRLError
from ..models import check_model_path
from .hardware import has_avx512, has_cuda, resolve_dtype
from .http import open_session
from .processes import (
    SERVER_VARIABLE,
    die_with_parent,
    is_resource_tracker,
    is_stopped,
    kill,
    session_of,
    shared_memory_of,
    wait_for_session,
)
from .weights import TRANSPORTS

SERVED_MODEL_NAME = "policy"
LOOKED_AT = ("/health", "/weight_info")
"""Routes that are asked once a second whether the server answers, and whether its engine does."""
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


def llm_arguments(model: str, config: EngineConfig, *, cuda: bool, avx512: bool) -> dict[str, Any]:
    """vLLM's engine arguments for `model`, the same for a server and for a colocated engine.

    Args:
        model (`str`):
            Model folder or hub id.
        config (`EngineConfig`):
            Settings. The class of the `engine_transport` names the weight-transfer backend; `"auto"` means `file`.
        cuda (`bool`):
            Whether the engine runs on CUDA.
        avx512 (`bool`):
            Whether the CPU has AVX-512; without it the default data type is float32.
    """
    eager = config.engine_enforce_eager
    transport = "file" if config.engine_transport == "auto" else config.engine_transport
    backend = TRANSPORTS.find(transport).backend
    arguments = {
        "model": model,
        "dtype": resolve_dtype(config.engine_dtype, cuda=cuda, avx512=avx512),
        "max_logprobs": config.engine_max_logprobs,
        # The importance-sampling correction of TRL wants the distribution that was sampled from.
        "logprobs_mode": "processed_logprobs",
        "weight_transfer_config": None if backend is None else {"backend": backend},
        "tensor_parallel_size": config.engine_tensor_parallel_size,
        "gpu_memory_utilization": config.engine_gpu_memory_utilization if cuda else None,
        "max_model_len": config.engine_max_model_len,
        "max_num_seqs": config.engine_max_num_seqs,
        # Prompts share a prefix in whole blocks of the cache; 32 tokens is the least a CPU takes.
        "block_size": None if cuda else 32,
        "enforce_eager": (not cuda) if eager is None else eager,
    }
    if config.engine_max_lora_rank is not None:
        # One adapter serves while the next one loads.
        arguments |= {"enable_lora": True, "max_lora_rank": config.engine_max_lora_rank, "max_loras": 2}
    return {name: value for name, value in arguments.items() if value is not None}


def server_command(arguments: dict[str, Any], config: EngineConfig, port: int) -> list[str]:
    """The command line of a server with the engine arguments of [`llm_arguments`], listening on `port`."""
    # `vllm serve` looks its version up under the name of the CUDA distribution; the module works for both.
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    arguments = arguments | {
        "served_model_name": SERVED_MODEL_NAME,
        "host": config.engine_host,
        "port": port,
        "disable_access_log_for_endpoints": ",".join(LOOKED_AT),
    }
    for name, value in arguments.items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            command += [flag] if value else []
        else:
            command += [flag, json.dumps(value) if isinstance(value, dict) else str(value)]
    return command + (config.engine_args or [])


def server_environment(config: EngineConfig) -> dict[str, str]:
    """The environment of a server. What the user has set stays as it is, but for the routes weight sync needs."""
    environment = {
        # All cores serve while the optimizer waits for rollouts; by default vLLM keeps one for itself.
        "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",
        "VLLM_CPU_KVCACHE_SPACE": str(config.engine_cpu_kv_cache_gib),
        **os.environ,
        SERVER_VARIABLE: "1",
        "VLLM_SERVER_DEV_MODE": "1",
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
    }
    # A trainer started by accelerate must not make the server join its process group.
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        environment.pop(name, None)
    return environment


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
        self._family: list[psutil.Process] = []
        self._log_mode = "w"

    @property
    def url(self) -> str:
        """Base URL of the server."""
        host = "127.0.0.1" if self.config.engine_host == "0.0.0.0" else self.config.engine_host
        return f"http://{host}:{self.port}"

    def start(self, cancelled: threading.Event | None = None) -> None:
        """Start the server and wait until it is healthy; it can be started again once it has been stopped.

        Args:
            cancelled (`threading.Event`, *optional*):
                Where it is set, the start is given up.

        Raises:
            ConfigurationError: The port is in use, the model folder does not exist, or the log cannot be written.
            EngineStartError: The server died, or was not healthy within `engine_startup_timeout` seconds.
        """
        check_model_path(self.model)
        host = self.config.engine_host
        if self.port == 0:
            self.port = free_port(host)
        check_port(host, self.port)
        try:
            self.log_path.parent.mkdir(parents=True, exist_ok=True)
            log = self.log_path.open(self._log_mode)
        except OSError as error:
            raise ConfigurationError(f"engine_log {self.log_path} cannot be written: {error.strerror}.") from None
        self._log_mode = "a"
        try:
            with log:
                self._process = process = subprocess.Popen(
                    self._command(),
                    env=server_environment(self.config),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # Ctrl-C reaches the trainer, which then stops the server in order
                    preexec_fn=partial(die_with_parent, os.getpid()),  # noqa: PLW1509 (one system call, no lock)
                )
            self._wait_until_healthy(process, cancelled or threading.Event())
            self._family = session_of(process.pid)
        except BaseException:
            self.stop()
            raise

    def _command(self) -> list[str]:
        arguments = llm_arguments(self.model, self.config, cuda=has_cuda(), avx512=has_avx512())
        return server_command(arguments, self.config, self.port)

    def _wait_until_healthy(self, process: subprocess.Popen, cancelled: threading.Event) -> None:
        deadline = time.monotonic() + self.config.engine_startup_timeout
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            progress.add_task(f"Starting vLLM for {self.model} on {self.url} (log: {self.log_path})")
            while not self.is_healthy():
                if process.poll() is not None:
                    raise EngineStartError(self._failure(f"The vLLM server ended with exit code {process.returncode}"))
                if time.monotonic() > deadline:
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

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
