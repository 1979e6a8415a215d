"""Folders of weights on their way and of servers: those of runs that were killed are removed by the next one."""

import errno
import fcntl
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from ..errors import ConfigurationError
from .protocol import EngineError

logger = logging.getLogger(__name__)

PREFIX = "edco_rl-push-"
SERVER_PREFIX = "edco_rl-server-"
_FULL = (errno.ENOSPC, errno.EDQUOT)
# Seconds after which something empty is nobody's who is about to hold it.
_BEING_MADE = 60.0


class NoRoomError(ConfigurationError, EngineError):
    """There is no room for the weights of a push. A trainer writes a checkpoint, as where its engine fails."""


@contextmanager
def push_folder(parent: Path | None) -> Iterator[Path]:
    """A folder for the weights of one push, which is gone with the block, or else with the next run.

    Args:
        parent (`Path`, *optional*):
            Where it is made; by default where the system has temporary files.

    Raises:
        NoRoomError: There is no room for what is written to it.
    """
    try:
        with _held_folder(PREFIX, parent) as folder:
            yield folder
    except (OSError, SafetensorError) as error:
        if getattr(error, "errno", None) in _FULL or any(f"(os error {number})" in str(error) for number in _FULL):
            raise NoRoomError(
                f"{parent or tempfile.gettempdir()} is full: the weights cannot be written. Make room, or set "
                "engine_transport_dir to a folder with more of it (Docker: --shm-size)."
            ) from error
        raise


@contextmanager
def server_folder() -> Iterator[Path]:
    """A folder for a server's temporary files, as vLLM's sockets; gone with the block, or with the next run."""
    sweep(Path(tempfile.gettempdir()))
    with _held_folder(SERVER_PREFIX, None) as folder:
        yield folder


@contextmanager
def _held_folder(prefix: str, parent: Path | None) -> Iterator[Path]:
    made = tempfile.TemporaryDirectory(prefix=prefix, dir=parent, ignore_cleanup_errors=True)
    with made as folder, held(Path(folder)):
        yield Path(folder)


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Keep others from removing a folder that begins as above. The kernel lets go of it with the process.

    Hold it before anything is written to it.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks, where others cannot tell either
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def sweep(folder: Path) -> None:
    """Remove what this user's runs that were killed have left in a folder, and log how much it was."""
    removed, size = 0, 0
    for path in (*folder.glob(f"{PREFIX}*"), *folder.glob(f"{SERVER_PREFIX}*")):
        with suppress(OSError):  # gone by now, or another user's
            if path.is_symlink() or path.lstat().st_uid != os.getuid() or not _is_left(path):
                continue
            size += _size(path)
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
            removed += 1
    if removed:
        logger.warning("Removed %d leftovers of killed runs from %s (%.0f MiB).", removed, folder, size / 2**20)


def _is_left(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        found = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    return _size(path) > 0 or time.time() - found.st_mtime > _BEING_MADE


def _size(path: Path) -> int:
    files = [*path.rglob("*")] if path.is_dir() else [path]
    return sum(file.lstat().st_size for file in files if not file.is_dir())
