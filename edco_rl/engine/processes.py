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

SERVER_VARIABLE = "EDCO_RL_SERVER"
"""Environment variable that servers started here have, with all of their processes."""
_LIBC = ctypes.CDLL(None)  # loaded here: a process that was just forked is to take no locks
_PR_SET_PDEATHSIG = 1
# Python's own: a file that a user keeps in shared memory, and a server has mapped, is none of it.
_SEGMENT = re.compile(r"/dev/shm/((psm_|sem\.)[^/\s]+)$")


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when the thread that started it ends, however that happens.

    Args:
        parent (`int`):
            Process id of the parent, which may be gone by now.
    """
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def die_with_server() -> None:
    """Have the kernel kill this process with the one that started it, where both are of a server started here."""
    parent = multiprocessing.parent_process()
    if parent is not None and SERVER_VARIABLE in os.environ:
        assert parent.pid is not None
        die_with_parent(parent.pid)


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
    """Whether any of them is stopped (SIGSTOP)."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            if process.status() == psutil.STATUS_STOPPED:
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
    """Segments and semaphores in `/dev/shm` that processes have mapped."""
    found = set()
    for process in processes:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{process.pid}/maps").read_text().splitlines():
                if match := _SEGMENT.search(line):
                    found.add(Path("/dev/shm") / match[1])
    return found
