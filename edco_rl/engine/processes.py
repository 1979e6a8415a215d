"""Processes of a server, and what they leave in shared memory when they are killed."""

import contextlib
import ctypes
import multiprocessing
import os
import re
import signal
import time
from collections.abc import Iterable
from pathlib import Path

import psutil

_PR_SET_PDEATHSIG = 1
_SEGMENT = re.compile(r"/dev/shm/([^/\s]+)$")


def die_with_parent() -> None:
    """Have the kernel kill this process when the thread that started it ends, however that happens."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def die_with_parent_process() -> None:
    """As [`die_with_parent`], in a process of `multiprocessing` that runs already: its parent may be gone by now."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    die_with_parent()
    if os.getppid() != parent.pid:
        os.kill(os.getpid(), signal.SIGKILL)


def session_of(leader: int) -> list[psutil.Process]:
    """The running processes of a session, also those whose parents are gone.

    Args:
        leader (`int`):
            Process id of the one that began it.
    """
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError, PermissionError):
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def wait_for_session(leader: int, timeout: float) -> list[psutil.Process]:
    """Wait until a session has ended, and return what of it still runs after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while (alive := session_of(leader)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return alive


def is_stopped(processes: Iterable[psutil.Process]) -> bool:
    """Whether any of them is stopped, by SIGSTOP or a debugger."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            if process.status() in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP):
                return True
    return False


def is_resource_tracker(process: psutil.Process) -> bool:
    """Whether it is one of Python's, which remove leaked shared memory once the others are gone, and then end."""
    try:
        return "resource_tracker" in " ".join(process.cmdline())
    except psutil.Error:
        return False


def kill(processes: Iterable[psutil.Process]) -> None:
    """Kill those that still run."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def shared_memory_of(processes: Iterable[psutil.Process]) -> set[Path]:
    """Files in `/dev/shm` that processes have mapped."""
    found = set()
    for process in processes:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{process.pid}/maps").read_text().splitlines():
                if match := _SEGMENT.search(line):
                    found.add(Path("/dev/shm") / match[1])
    return found
