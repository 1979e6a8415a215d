"""The folder trainer and engine exchange weights in: this user's alone, and no way out of it."""

import os
import re
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import ConfigurationError, EdcoRLError

_SHARED_MEMORY = Path("/dev/shm")
_NAME = re.compile(r"([A-Za-z0-9_-]+)/([A-Za-z0-9_-]+\.safetensors)")
_HERE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC


class ExchangeError(EdcoRLError, ValueError):
    """What was named is no file of the exchange folder. The message is the same whatever lies there."""


def exchange_folder(parent: str | Path | None) -> Path:
    """Where weights are exchanged: a folder of this user's in `parent`, else in shared memory, else the system's own.

    Only its name is found; [`open_exchange_folder`] makes it.
    """
    if parent is None:
        parent = _SHARED_MEMORY if _SHARED_MEMORY.is_dir() else tempfile.gettempdir()
    return Path(parent).absolute() / f"edco_rl-{os.getuid()}"


def open_exchange_folder(folder: Path) -> int:
    """Make the folder where it does not exist, and open it. The caller closes the descriptor.

    Raises:
        ConfigurationError: The folder it would be in does not exist, or others can reach what is in it.
    """
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(folder, _HERE | os.O_DIRECTORY)
    except OSError as error:
        raise ConfigurationError(
            f"Weights cannot be exchanged in {folder}: {error.strerror}. Name a folder that exists and can be written "
            "as engine_transport_dir."
        ) from None
    found = os.fstat(descriptor)
    if found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) != 0o700:
        os.close(descriptor)
        raise ConfigurationError(
            f"Weights are not exchanged in {folder}: it is not this user's alone (mode 0700). Remove it, or name "
            "another folder as engine_transport_dir."
        )
    return descriptor


@contextmanager
def open_exchanged(folder: Path, name: str) -> Iterator[str]:
    """Open a file of the exchange folder, and give a path that leads to the open file whatever becomes of its name.

    Args:
        folder (`Path`):
            The exchange folder.
        name (`str`):
            The file's, in a folder right within it: `folder/file.safetensors`.

    Raises:
        ExchangeError: It is no regular file of the folder: a path, a link, a device, a pipe, or nothing at all.
    """
    refused = ExchangeError(
        f"No file of that name in the exchange folder {folder}. Trainer and server need the same engine_transport_dir."
    )
    parts = _NAME.fullmatch(name) if isinstance(name, str) else None
    if parts is None:
        raise refused
    opened = [open_exchange_folder(folder)]
    try:
        opened.append(os.open(parts[1], _HERE | os.O_DIRECTORY, dir_fd=opened[0]))
        # A pipe would make the reader wait for a writer.
        file = os.open(parts[2], _HERE | os.O_NONBLOCK, dir_fd=opened[1])
    except OSError:
        raise refused from None
    finally:
        for descriptor in opened:
            os.close(descriptor)
    try:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
            raise refused
        yield f"/proc/self/fd/{file}"
    finally:
        os.close(file)


def is_exchanged_folder(folder: Path, path: str) -> bool:
    """Whether a path names a folder right within the exchange folder, as an adapter's does, and no link."""
    found = Path(path)
    return found.parent == folder and found.name not in ("", "..") and not found.is_symlink() and found.is_dir()
