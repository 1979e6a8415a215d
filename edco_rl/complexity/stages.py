"""Stages of a run: what each made, from what, and whether that has to be made again."""

import dataclasses
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset
from rich.console import Console
from rich.progress import track

from ..errors import ConfigurationError
from ..store import write_whole

MANIFEST = "manifest.json"


@dataclasses.dataclass(frozen=True)
class Artefact:
    """What a stage made.

    Args:
        folder (`Path`):
            The stage's folder.
        file (`Path`):
            The artefact itself, or the folder where it is more than one file.
        digest (`str`):
            SHA-256 of its files.
        results (`dict`):
            What the stage noted about it, as JSON values.
        seconds (`float`):
            Time the stage took; of one that was interrupted, since it was last continued.
        attempts (`int`):
            Times the stage was begun or continued.
    """

    folder: Path
    file: Path
    digest: str
    results: dict[str, Any]
    seconds: float
    attempts: int


class Stages:
    """Runs stages, each in a folder of its own with a manifest, and skips those whose inputs are what they were.

    The manifest holds the stage's inputs (settings, and digests of what it was made from), the SHA-256 of each file it
    made, versions, and its time. A stage that was interrupted is continued in its folder; one whose inputs changed is
    made anew.

    Args:
        root (`Path`):
            Folder of the run.
        versions (`Mapping[str, str]`):
            Versions to note in manifests.
        replaced (`Mapping[str, str]`, *optional*):
            Files to use in place of a stage's, by its name.
        console (`Console`, *optional*):
            Where progress is told.
    """

    def __init__(
        self,
        root: Path,
        versions: Mapping[str, str],
        replaced: Mapping[str, str] | None = None,
        console: Console | None = None,
    ) -> None:
        self.root = root
        self.versions = dict(versions)
        self.replaced = dict(replaced or {})
        self.console = console or Console(stderr=True)

    def run(
        self, name: str, file: str, inputs: Mapping[str, Any], make: Callable[[Path], Mapping[str, Any]]
    ) -> Artefact:
        """Run a stage, or skip it.

        Args:
            name (`str`):
                Its folder below the root.
            file (`str`):
                The file it makes; with `*`, all files that match are the artefact, in their folder.
            inputs (`Mapping[str, Any]`):
                All that the artefact depends on, as JSON values.
            make (`Callable`):
                Makes it in the folder it is given, which holds what an interrupted run left there. Returns results to
                note.

        Raises:
            ConfigurationError: The artefact was changed by hand, or something else is in its folder.
        """
        if name in self.replaced:
            return self._replacement(name, file)
        folder = self.root / name
        inputs = json.loads(json.dumps(inputs, sort_keys=True, default=str))
        before = self._manifest(folder)
        if before is not None and before["inputs"] != inputs:
            shutil.rmtree(folder)
            before = None
        elif before is not None and before["complete"]:
            self._check_unchanged(folder, file, before)
            self.console.print(f"{name}: skipped, its inputs did not change", style="dim")
            return self._artefact(folder, file, before)
        folder.mkdir(parents=True, exist_ok=True)
        manifest = {
            "stage": name,
            "inputs": inputs,
            "complete": False,
            "attempts": 1 if before is None else before["attempts"] + 1,
            "versions": self.versions,
        }
        _write(folder, manifest)
        started = time.perf_counter()
        self.console.print(f"{name}: {'begun' if before is None else 'continued'}", style="dim")
        manifest["results"] = json.loads(json.dumps(make(folder), default=str))
        manifest |= {"complete": True, "files": _hashes(folder, file), "seconds": time.perf_counter() - started}
        _write(folder, manifest)
        return self._artefact(folder, file, manifest)

    def _replacement(self, name: str, file: str) -> Artefact:
        path = Path(self.replaced[name]).expanduser()
        wanted = path.is_dir() if "*" in file else path.is_file()
        if not wanted:
            raise ConfigurationError(f"replace_artefacts {name}: {path} is no {'folder' if '*' in file else 'file'}.")
        folder = path if path.is_dir() else path.parent
        hashes = _hashes(folder, file if path.is_dir() else path.name)
        self.console.print(f"{name}: {path} is used in its place", style="dim")
        return Artefact(folder, path, _digest(hashes.values()), {"replaced_by": str(path)}, 0.0, 0)

    def _manifest(self, folder: Path) -> dict[str, Any] | None:
        path = folder / MANIFEST
        if path.is_file():
            return json.loads(path.read_text())
        if folder.is_dir() and any(folder.iterdir()):
            raise ConfigurationError(f"{folder} holds something else than a stage of a run: it has no {MANIFEST}.")
        return None

    def _check_unchanged(self, folder: Path, file: str, manifest: dict[str, Any]) -> None:
        found = _hashes(folder, file)
        for name in sorted(found.keys() | manifest["files"].keys()):
            if found.get(name) != manifest["files"].get(name):
                raise ConfigurationError(
                    f"{folder / name} is not what its stage made. Remove {folder} to make it again, or copy the file "
                    f"elsewhere and name it in replace_artefacts, as {{{manifest['stage']}: path}}."
                )

    @staticmethod
    def _artefact(folder: Path, file: str, manifest: dict[str, Any]) -> Artefact:
        path = folder if "*" in file else folder / file
        digest = _digest(manifest["files"].values())
        return Artefact(folder, path, digest, manifest["results"], manifest["seconds"], manifest["attempts"])


def in_parts(
    folder: Path, rows: Dataset, size: int, compute: Callable[[Dataset], pa.Table], description: str
) -> pa.Table:
    """A table over rows that is computed part after part; a killed run goes on after its last part.

    Args:
        folder (`Path`):
            Folder of the stage; parts are kept in `parts` below it until the caller removes that.
        rows (`datasets.Dataset`):
            The rows.
        size (`int`):
            Rows in a part.
        compute (`Callable`):
            From some of the rows to a table.
        description (`str`):
            What the progress bar says.
    """
    parts = folder / "parts"
    parts.mkdir(exist_ok=True)
    starts = range(0, len(rows), size)
    tables = []
    for start in track(starts, description=description, console=Console(stderr=True), transient=True):
        path = parts / f"{start:09d}.parquet"
        if not path.is_file():
            table = compute(rows.select(range(start, min(start + size, len(rows)))))
            write_whole(path, lambda unfinished, table=table: pq.write_table(table, unfinished))  # type: ignore[misc]
        tables.append(pq.read_table(path))
    return pa.concat_tables(tables)


def check_table(artefact: Artefact, columns: Sequence[str], rows: Dataset) -> None:
    """Check that a table has these columns and the rows it should, in their order.

    Raises:
        ConfigurationError: It has not; that is so only of a file that was put in a stage's place.
    """
    table = pq.read_table(artefact.file)
    missing = [name for name in columns if name not in table.column_names]
    if missing:
        raise ConfigurationError(f"{artefact.file} has no column {missing[0]!r}; expected {', '.join(columns)}.")
    found, expected = table["id"].to_pylist(), list(rows["id"])
    if found != expected:
        differing = next((i for i, pair in enumerate(zip(found, expected, strict=False)) if pair[0] != pair[1]), None)
        where = (
            f"row {differing} is {found[differing]!r}, not {expected[differing]!r}" if differing is not None else ""
        )
        raise ConfigurationError(
            f"{artefact.file} does not have the rows it should: {where or f'{len(found)} instead of {len(expected)}'}."
        )


def write_table(path: Path, table: pa.Table) -> None:
    """Write a table as Parquet, whole or not at all."""
    write_whole(path, lambda unfinished: pq.write_table(table, unfinished))


def content_digest(rows: Dataset) -> str:
    """SHA-256 of what rows hold, whatever file they came from."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(row, sort_keys=True, default=str).encode())
    return digest.hexdigest()


def _hashes(folder: Path, file: str) -> dict[str, str]:
    paths = [path for path in sorted(folder.glob(file)) if path.is_file() and path.name != MANIFEST]
    return {path.name: _file_hash(path) for path in paths}


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest(hashes: Sequence[str] | Any) -> str:
    return hashlib.sha256("".join(hashes).encode()).hexdigest()


def _write(folder: Path, manifest: dict[str, Any]) -> None:
    text = json.dumps(manifest, indent=1, sort_keys=True) + "\n"
    write_whole(folder / MANIFEST, lambda path: path.write_text(text))
