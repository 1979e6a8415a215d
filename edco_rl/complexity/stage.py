"""Stages: tables that are made once. Each says what its table is made from and how; the shelf keeps them."""

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset
from rich.console import Console
from rich.progress import track

from ..config import ComplexityConfig
from ..errors import ConfigurationError
from ..store import Artefact, Parts, file_checksum, load_same, rows_fingerprint, save_file
from ..store.artefact import manifest_of
from .judge import Judge
from .student import Student


@dataclass(frozen=True)
class Given:
    """What all stages of a run are given.

    Args:
        config (`ComplexityConfig`), seed (`int`):
            Settings.
        train (`datasets.Dataset`), held_out (`datasets.Dataset`):
            Rows with a right answer, as of [`~edco_rl.data.load.load_prompts`].
        student (`Student`), judge (`Judge`):
            Whose complexity it is, and what says which answers are right.
    """

    config: ComplexityConfig
    seed: int
    train: Dataset
    held_out: Dataset
    student: Student
    judge: Judge

    @cached_property
    def train_digest(self) -> str:
        """What stands for the content of the training rows."""
        return rows_fingerprint(self.train)

    @cached_property
    def held_out_digest(self) -> str:
        """What stands for the content of the held-out rows."""
        return rows_fingerprint(self.held_out)

    def answers_to(self, rows_digest: str) -> dict[str, Any]:
        """What the student's answers to rows, and whether they are right, are made from beside the settings."""
        return {"student": self.student.identity, "rows": rows_digest, "judge": asdict(self.judge)}

    def some(self, *names: str) -> dict[str, Any]:
        """Settings by name."""
        return {name: getattr(self.config, name) for name in names}


@dataclass
class Stage(ABC):
    """A table over rows, what it is made from, and how.

    Subclasses have the `columns` that are read from the table; where it has no `line_a_row`, they say so.

    Args:
        given (`Given`):
            What it shares with others.
    """

    given: Given

    columns: ClassVar[Sequence[str]]
    line_a_row: ClassVar[bool] = True

    @property
    @abstractmethod
    def name(self) -> str:
        """Name of the table: that of its file in the run's folder, without its suffix."""

    @property
    def rows(self) -> Dataset:
        """The rows it is made over; by default those of training."""
        return self.given.train

    @abstractmethod
    def made_from(self) -> dict[str, Any]:
        """All that the table depends on, as JSON values."""

    @abstractmethod
    def save(self, path: Path) -> Artefact:
        """Make the table, and keep it at a path."""


class StageAtOnce(Stage):
    """A table that is made at once."""

    @abstractmethod
    def make(self) -> tuple[pa.Table, Any]:
        """The table, and what to note beside it, as a JSON value."""

    def save(self, path: Path) -> Artefact:
        def write(draft: Path) -> Any:
            table, noted = self.make()
            pq.write_table(table, draft)
            return noted

        return save_file(path, self.made_from(), write)


class StageInParts(Stage):
    """A table that is made part after part; a killed run goes on after its last part."""

    @abstractmethod
    def make_part(self, rows: Dataset) -> pa.Table:
        """The table for some of the rows."""

    def save(self, path: Path) -> Artefact:
        """Make the table, and keep it at a path. Its seconds are those since it was last continued."""
        started, size = time.perf_counter(), self.given.config.complexity_part_prompts
        with Parts(path, self.made_from(), "remake") as parts:
            count = len(parts)
            done = sum(len(parts.read(number)["id"].unique()) for number in range(count))
            starts = list(enumerate(range(done, len(self.rows), size), count))
            for number, start in track(starts, self.name, console=Console(stderr=True), transient=True):
                part = range(start, min(start + size, len(self.rows)))
                parts.write(number, self.make_part(self.rows.select(part)))
            return parts.merge(seconds=time.perf_counter() - started)


class Shelf:
    """Keeps the tables of a run, and makes those that are not there or were made from something else.

    Args:
        folder (`Path`):
            The run's folder.
        replaced (`Mapping[str, str]`):
            Files to use in place of tables, by their names.
        known (`Sequence[str]`):
            Names of the run's tables.
        console (`Console`):
            Where progress is told.

    Raises:
        ConfigurationError: The run has no such table, or there is no such file.
    """

    def __init__(self, folder: Path, replaced: Mapping[str, str], known: Sequence[str], console: Console) -> None:
        self.folder = folder
        self.replaced = {name: Path(path).expanduser() for name, path in replaced.items()}
        self.console = console
        for name, path in self.replaced.items():
            if name not in known:
                raise ConfigurationError(
                    f"complexity_replace_artefacts: this run has no {name!r}; it has {', '.join(known)}."
                )
            if not path.is_file():
                raise ConfigurationError(f"complexity_replace_artefacts {name}: there is no file {path}.")

    def get(self, stage: Stage) -> Artefact:
        """The table of a stage.

        Raises:
            ConfigurationError: It was altered, or one put in its place does not have the columns and rows it should.
        """
        replacement = self.replaced.get(stage.name)
        if replacement is not None:
            self.console.print(f"{stage.name}: {replacement} is used in its place", style="dim")
            artefact = Artefact(replacement, {}, None, file_checksum(replacement), 0.0)
        else:
            artefact = self._kept(stage)
        _check_table(artefact.path, stage)
        return artefact

    def _kept(self, stage: Stage) -> Artefact:
        path = self.folder / f"{stage.name}.parquet"
        if path.exists() and not manifest_of(path).exists():
            raise ConfigurationError(
                f"{path} exists, and nothing says what made it. Remove it, or move it away and name it in "
                f"complexity_replace_artefacts, as {{{stage.name}: path}}."
            )
        kept = load_same(path, stage.made_from(), "remake")
        state = "begun" if kept is None else "skipped, its inputs did not change"
        self.console.print(f"{stage.name}: {state}", style="dim")
        return kept or stage.save(path)


def _check_table(path: Path, stage: Stage) -> None:
    columns = pq.read_schema(path).names
    missing = [name for name in stage.columns if name not in columns]
    if missing:
        raise ConfigurationError(f"{path} has no column {missing[0]!r}; expected {', '.join(stage.columns)}.")
    found, expected = pq.read_table(path, columns=["id"])["id"].to_pylist(), list(stage.rows["id"])
    if stage.line_a_row and found != expected:
        pairs = enumerate(zip(found, expected, strict=False))
        where = (f"row {row} is {was!r}, not {wanted!r}" for row, (was, wanted) in pairs if was != wanted)
        problem = next(where, f"{len(found)} instead of {len(expected)}")
        raise ConfigurationError(f"{path} does not have the rows it should: {problem}.")
