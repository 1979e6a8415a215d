"""Scores on disk: numbered parts that a killed run leaves behind, and the one file they become."""

import fcntl
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from ..entropy import Score
from ..errors import ConfigurationError
from ..store import check_same, once_value, write_whole

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("score", pa.float64()),
        ("standard_error", pa.float64()),
        ("lower", pa.float64()),
        ("upper", pa.float64()),
        ("tokens", pa.int64()),
        ("policy_version", pa.string()),
    ]
)
_METADATA_KEY = b"edco_rl.settings"


class ScoreStore:
    """Writes scores to a Parquet file by way of parts in a folder beside it.

    A part is written whole or not at all, so a run that was killed goes on after its last part. The file is the same
    as without the interruption. Use it as a context manager: it keeps a second run off the same file.

    Args:
        output (`str` or `Path`):
            The Parquet file. Parts go to a folder of that name with `.parts` added.
        settings (`dict`):
            All that the scores depend on, as JSON values. A run is only continued with the same.

    Raises:
        ConfigurationError: The file, or the parts, were made with other settings, or another run writes them.
    """

    def __init__(self, output: str | Path, settings: dict[str, Any]) -> None:
        self.output = Path(output).expanduser()
        self.folder = self.output.with_name(f"{self.output.name}.parts")
        self.settings = json.loads(json.dumps(settings, sort_keys=True))
        self._lock: IO[str] | None = None

    def __enter__(self) -> Self:
        if self.is_finished():
            return self
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = (self.folder / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise ConfigurationError(f"output {self.output}: another run is writing it.") from None
        try:
            once_value(self.folder / "settings", self.settings, lambda: None)
        except BaseException:
            self._lock.close()
            raise
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._lock is not None:
            self._lock.close()

    def is_finished(self) -> bool:
        """Whether the file is there.

        Raises:
            ConfigurationError: It is, but holds something else, or was made with other settings.
        """
        if not self.output.exists():
            return False
        try:
            metadata = pq.read_schema(self.output).metadata or {}
            settings = json.loads(metadata[_METADATA_KEY])
        except (KeyError, OSError, pa.ArrowException):
            raise ConfigurationError(f"output {self.output} exists and holds no scores.") from None
        check_same(settings, self.settings, f"{self.output} was", self.output)
        return True

    def parts(self) -> int:
        """Parts written so far."""
        number = 0
        while self._part(number).exists():
            number += 1
        return number

    def part_ids(self, number: int) -> list[str]:
        """Ids of a part, in its order."""
        return pq.read_table(self._part(number), columns=["id"])["id"].to_pylist()

    def write_part(self, number: int, ids: Sequence[str], scores: Sequence[Score], policy_version: str) -> None:
        """Write a part, whole or not at all."""
        columns = {
            "id": list(ids),
            "score": [score.value for score in scores],
            **{
                name: [getattr(score, name) for score in scores]
                for name in ("standard_error", "lower", "upper", "tokens")
            },
            "policy_version": [policy_version] * len(ids),
        }
        table = pa.table(columns, schema=SCHEMA)
        write_whole(self._part(number), lambda path: pq.write_table(table, path))

    def merge(self) -> int:
        """Make the file from its parts, in constant memory, and remove them.

        Returns:
            `int`: rows.
        """
        metadata = {_METADATA_KEY: json.dumps(self.settings, sort_keys=True)}
        rows = 0

        def write(path: Path) -> None:
            nonlocal rows
            with pq.ParquetWriter(path, SCHEMA.with_metadata(metadata)) as writer:
                for number in range(self.parts()):
                    table = pq.read_table(self._part(number), memory_map=False)
                    writer.write_table(table.replace_schema_metadata(metadata))
                    rows += len(table)

        write_whole(self.output, write)
        shutil.rmtree(self.folder)
        return rows

    def _part(self, number: int) -> Path:
        return self.folder / f"part-{number:07d}.parquet"
