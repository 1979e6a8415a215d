"""A Ray cluster that work is spread over. Ray is imported when one is asked for, and is an extra of this package."""

import logging
import math
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from ..config import RunnerConfig
from ..errors import ConfigurationError, EdcoRLError
from ..plugins import search_in
from ..terminal import tell


class WorkerLostError(EdcoRLError, RuntimeError):
    """A worker was killed more often than it may be started again, or cannot be started."""


def check_ray_installed(config: RunnerConfig) -> None:
    """Raise [`ConfigurationError`], saying which extra to install, where Ray is asked for and not installed."""
    if config.runner == "ray" and find_spec("ray") is None:
        raise ConfigurationError('runner ray: Ray is not installed: pip install "edco-rl[ray]".')


@contextmanager
def ray_cluster(config: RunnerConfig) -> Iterator[dict[str, float]]:
    """A cluster for the time of a context; one this process is connected to already is used, and left as it is.

    Args:
        config (`RunnerConfig`):
            Where it is, and what its workers need.

    Returns:
        `dict[str, float]`: what a task or an actor of a worker asks Ray for: `num_cpus` and `num_gpus`.

    Raises:
        ConfigurationError: It has fewer GPUs than its workers need.
        EdcoRLError: None answers at `ray_address`.
    """
    import ray

    connected = ray.is_initialized()
    if not connected:
        _connect(config)
    try:
        there = ray.cluster_resources()
        gpus = float(there.get("GPU", 0) > 0) if config.ray_num_gpus is None else config.ray_num_gpus
        needed = {"CPU": config.ray_workers * config.ray_num_cpus, "GPU": config.ray_workers * gpus}
        lacking = [f"{there.get(kind, 0):g} {kind}s of {count:g}" for kind, count in needed.items() if count]
        short = any(there.get(kind, 0) < count for kind, count in needed.items())
        if short and config.ray_address == "local":
            raise ConfigurationError(
                f"ray_workers {config.ray_workers}: this machine has {', '.join(lacking)} for them."
            )
        if short:  # a cluster can grow, or be free later
            tell(f"{config.ray_workers} Ray workers need more than the cluster has: {', '.join(lacking)}.")
        yield {"num_cpus": config.ray_num_cpus, "num_gpus": gpus}
    finally:
        if not connected:
            ray.shutdown()


def _connect(config: RunnerConfig) -> None:
    import ray

    # A number of CPUs is what Ray shares out; it starts no threads by it.
    cpus = math.ceil(config.ray_workers * config.ray_num_cpus)
    own: dict[str, Any] = {"num_cpus": cpus, "include_dashboard": False} if config.ray_address == "local" else {}
    stop = signal.getsignal(signal.SIGTERM)
    try:
        # What workers print stays in Ray's logs: standard output and the progress bar are this command's.
        ray.init(address=config.ray_address, log_to_driver=False, logging_level=logging.ERROR, **own)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise EdcoRLError(f"ray_address {config.ray_address}: no Ray cluster was reached there ({error}).") from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, stop)  # Ray has set one that ends with another exit code


def answer_of(reference: Any) -> Any:
    """What a worker has returned.

    Raises:
        Exception: What the worker has raised.
        WorkerLostError: It was killed too often, or could not be started.
    """
    import ray
    from ray.exceptions import RayError, RayTaskError

    try:
        return ray.get(reference)
    except RayTaskError as error:
        if isinstance(error.cause, EdcoRLError):
            raise error.cause from None
        raise
    except RayError as error:
        raise WorkerLostError(f"A Ray worker was lost: {str(error).strip()}") from error


def here() -> tuple[str, list[str]]:
    """Where this process works and looks for plug-ins, for [`enter`]."""
    return os.getcwd(), list(sys.path)


def enter(folder: str, path: Sequence[str]) -> None:
    """Have a worker work where the command does, and find its plug-ins, if its machine has these folders."""
    if os.path.isdir(folder):
        os.chdir(folder)
    for one in path:
        search_in(one)
