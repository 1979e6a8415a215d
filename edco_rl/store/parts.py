"""A table too long to make at once: numbered parts that a killed run leaves behind, and the artefact they become."""

import fcntl
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import ConfigurationError
from .artefact import Artefact, Changed, check_same, load, load_same, manifest_of, remove, save_file, save_value
from .files import drafts
from .fingerprint import plain


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

    def __init__(self, path: Path, made_from: dict[str, Any], changed: Changed = "refuse") -> None:
        self.path = path
        self.made_from = plain(made_from)
        self.changed: Changed = changed
        self.folder = path.with_name(f"{path.name}.parts")
        self._held = ExitStack()

    def finished(self) -> Artefact | None:
        """The whole artefact, where it is there."""
        found = load_same(self.path, self.made_from, self.changed)
        if found is None and self.path.exists() and not manifest_of(self.path).exists():
            raise ConfigurationError(f"{self.path} exists, and nothing says what made it. Remove it, or name another.")
        return found

    def __enter__(self) -> Self:
        if self.finished() is not None:
            shutil.rmtree(self.folder, ignore_errors=True)  # where a run was killed while it removed them
            return self
        self.folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as held:
            lock = held.enter_context((self.folder / "lock").open("w"))
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ConfigurationError(f"{self.path}: another run is writing it.") from None
            if self.finished() is None:  # still
                self._begin()
            self._held = held.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._held.close()

    def _begin(self) -> None:
        """Make sure that the parts in the folder, if any, are of the same artefact."""
        for left in drafts(self.path):  # of a run that was killed while it merged
            left.unlink()
        begun = self.folder / "begun"
        found = load(begun)
        if found is not None and found.made_from == self.made_from:
            return
        if found is not None and self.changed == "refuse":
            check_same(found.made_from, self.made_from, f"{self.folder} was", self.folder)
        remove(begun)
        for left in self.folder.glob("part-*"):
            left.unlink()
        save_value(begun, self.made_from, None)

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
            with pq.ParquetWriter(path, pq.read_schema(self._part(0))) as writer:
                for number in range(count):
                    writer.write_table(self.read(number))
            return value

        made = save_file(self.path, self.made_from, write, seconds)
        shutil.rmtree(self.folder, ignore_errors=True)
        return made

    def _part(self, number: int) -> Path:
        return self.folder / f"part-{number:07d}.parquet"
