"""A table too long to make at once: numbered parts that a killed run leaves behind, and the artefact they become."""

import fcntl
import shutil
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import ConfigurationError
from .artefact import Artefact, load, load_same, once_value, remove, save_file


class Parts:
    """Makes a Parquet artefact part after part.

    A part is written whole or not at all, so a run that was killed goes on after its last part, and ends with the file
    it would have made without the interruption. Use it as a context manager: it keeps a second run off the same file.

    Args:
        path (`Path`):
            The Parquet file. Parts go to a folder of that name with `.parts` added.
        made_from (`dict`):
            All it depends on. A run is only continued with the same.
        changed (`str`, *optional*, defaults to `"refuse"`):
            What becomes of a file, or of parts, that were made from something else: see
            [`~edco_rl.store.load_same`].

    Raises:
        ConfigurationError: The file, or the parts, were made from something else, or another run writes them.
    """

    def __init__(self, path: Path, made_from: dict[str, Any], changed: Any = "refuse") -> None:
        self.path = path
        self.made_from = made_from
        self.changed = changed
        self.folder = path.with_name(f"{path.name}.parts")
        self._lock: IO[str] | None = None

    def finished(self) -> Artefact | None:
        """The whole artefact, where it is there."""
        if self.path.exists() and load(self.path) is None:
            raise ConfigurationError(f"{self.path} exists, and nothing says what made it. Remove it, or name another.")
        return load_same(self.path, self.made_from, self.changed)

    def __enter__(self) -> Self:
        if self.finished() is not None:
            return self
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = (self.folder / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise ConfigurationError(f"{self.path}: another run is writing it.") from None
        try:
            begun = self.folder / "begun"
            if load_same(begun, self.made_from, self.changed) is None:
                for left in self.folder.glob("part-*"):
                    left.unlink()
                remove(begun)
                once_value(begun, self.made_from, lambda: None)
        except BaseException:
            self._lock.close()
            raise
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._lock is not None:
            self._lock.close()

    def __len__(self) -> int:
        """Parts written so far."""
        number = 0
        while load(self._part(number)) is not None:
            number += 1
        return number

    def read(self, number: int) -> pa.Table:
        """A part."""
        return pq.read_table(self._part(number), memory_map=False)

    def write(self, number: int, table: pa.Table) -> None:
        """Write a part, whole or not at all."""
        save_file(self._part(number), {}, lambda path: pq.write_table(table, path))

    def merge(self, value: Any = None, seconds: float = 0.0) -> Artefact:
        """Make the artefact from its parts, one of them in memory at a time, and remove them.

        Args:
            value (JSON value, *optional*):
                What to note beside it.
            seconds (`float`, *optional*):
                Seconds it took to make.
        """
        count = len(self)

        def write(path: Path) -> Any:
            schema = pq.read_schema(self._part(0))
            with pq.ParquetWriter(path, schema) as writer:
                for number in range(count):
                    writer.write_table(self.read(number))
            return value

        made = save_file(self.path, self.made_from, write, seconds)
        shutil.rmtree(self.folder)
        return made

    def _part(self, number: int) -> Path:
        return self.folder / f"part-{number:07d}.parquet"
