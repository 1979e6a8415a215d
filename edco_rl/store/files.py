"""Files that are written whole or not at all."""

import fcntl
import json
import math
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import ConfigurationError
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


def write_lines(path: Path, values: Iterable[Any]) -> None:
    """Write JSON lines, whole or not at all."""
    write_text(path, "".join(json.dumps(value) + "\n" for value in values))


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON for people to read, whole or not at all: see [`~edco_rl.store.plain`]."""
    write_text(path, json.dumps(plain(value), indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path, *, finite: bool = True) -> Any:
    """A value that was written as JSON.

    Args:
        path (`Path`):
            The file.
        finite (`bool`, *optional*, defaults to `True`):
            Whether its numbers have to be finite.

    Raises:
        ConfigurationError: It is no JSON, names a key twice, or has a number that is not finite.
    """

    def number(text: str) -> float:
        if finite and not math.isfinite(float(text)):
            raise ValueError(f"the number {text} is not finite")
        return float(text)

    def mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError(f"a key is there twice, of {[name for name, _ in pairs][:20]}")
        return found

    try:
        text = path.read_text(encoding="utf-8")
        return json.loads(text, parse_float=number, parse_constant=number, object_pairs_hook=mapping)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error


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


@contextmanager
def removed_on_error(folder: Path) -> Iterator[None]:
    """Remove a folder where what is written to it is not written to its end: it may be what fills the disk."""
    try:
        yield
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def put_in_place(draft: Path, path: Path) -> None:
    """Give a draft its file's name once it is on disk."""
    sync(draft)
    draft.replace(path)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
