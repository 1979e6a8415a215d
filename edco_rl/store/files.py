"""Files that are written whole or not at all."""

import fcntl
import json
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from .fingerprint import plain

T = TypeVar("T")

UNFINISHED = ".unfinished"


def write_whole(path: Path, write: Callable[[Path], T]) -> T:
    """Let `write` make a file under another name, give it its own once it is on disk, and return what `write` did.

    Several processes can write the same file: the last one to finish wins, and none sees a part of another's.
    """
    with unfinished(path) as draft:
        value = write(draft)
        put_in_place(draft, path)
    return value


def write_text(path: Path, text: str) -> None:
    """Write text, whole or not at all."""
    write_whole(path, lambda draft: draft.write_text(text, encoding="utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON for people to read, whole or not at all: see [`~edco_rl.store.plain`]."""
    write_text(path, json.dumps(plain(value), indent=2, ensure_ascii=False) + "\n")


def write_table(path: Path, table: pa.Table) -> None:
    """Write a table as Parquet, whole or not at all."""
    write_whole(path, lambda draft: pq.write_table(table, draft))


@contextmanager
def unfinished(path: Path) -> Iterator[Path]:
    """A name beside a file for a draft of it, which is gone at the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}{UNFINISHED}")
    try:
        yield draft
    finally:
        draft.unlink(missing_ok=True)


def put_in_place(draft: Path, path: Path) -> None:
    """Give a draft its file's name once it is on disk."""
    with draft.open("rb") as file:
        os.fsync(file.fileno())
    draft.replace(path)


def drafts(path: Path) -> Iterator[Path]:
    """Drafts of a file, of processes that write it or were killed when they did."""
    return path.parent.glob(f"{escape(path.name)}.*{UNFINISHED}")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Wait for other processes that hold the folder, and hold it; not where the file system knows no locks."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
