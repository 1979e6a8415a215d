"""Raw rows, what can be wrong with them, and what becomes of those that are."""

import json
import logging
import math
import os
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ..errors import ConfigurationError

logger = logging.getLogger(__name__)

SKIPPED_ROWS_FILE = "skipped_rows.jsonl"
WHOLE_ROW = "(whole row)"


class FieldError(ValueError):
    """A field of a row that cannot be used.

    Args:
        field (`str`):
            The column as the source names it.
        problem (`str`):
            What is wrong with it, and what was expected.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"field {field!r}: {problem}")
        self.field = field
        self.problem = problem


@dataclass(frozen=True)
class RawRow:
    """One row as the source has it.

    Args:
        source (`str`):
            The file, or the split of a data set.
        number (`int`):
            Its position there, counted from 0: the line of a JSONL file, the record of any other.
        values (`dict`):
            Its columns.
        error (`FieldError`, *optional*):
            Why it could not be read.
    """

    source: str
    number: int
    values: dict[str, Any]
    error: FieldError | None = None


class InvalidRows:
    """Raises for an invalid row, or lists and counts it.

    Args:
        skip (`bool`):
            Whether invalid rows are left out instead of being errors.
        path (`str` or `Path`, *optional*, defaults to `"skipped_rows.jsonl"`):
            File that lists them: one JSON object a line, with `file`, `row`, `field` and `problem`. It is
            written anew, and only when there are any.
    """

    def __init__(self, skip: bool, path: str | Path | None = None) -> None:
        self.skip = skip
        self.path = Path(path or SKIPPED_ROWS_FILE).expanduser()
        self.count = 0
        self._file: IO[str] | None = None

    def add(self, source: str, number: int, error: FieldError) -> None:
        """Take note of an invalid row.

        Raises:
            ConfigurationError: Invalid rows are not to be skipped; it names file, row and field.
        """
        if not self.skip:
            raise ConfigurationError(f"{source}, row {number} (counted from 0), {error}.") from None
        self.count += 1
        if int(os.environ.get("RANK", "0")) != 0:  # of several processes, one writes the list
            return
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("w", encoding="utf-8")
        entry = {"file": source, "row": number, "field": error.field, "problem": error.problem}
        self._file.write(json.dumps(entry) + "\n")

    def report(self, source: str, skipped: int, rows: int) -> None:
        """Say on the log how many rows of a source were skipped."""
        if skipped and self._file is not None:
            self._file.flush()
            logger.warning("Skipped %d invalid rows of %d in %s; %s lists them.", skipped, rows, source, self.path)

    def close(self) -> None:
        """Finish the list."""
        if self._file is not None:
            self._file.close()
            self._file = None


class SeenIds:
    """The ids met so far, in a temporary database on disk: a million take no more memory than ten."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", check_same_thread=False)
        self._database.execute(
            "CREATE TABLE seen (id TEXT PRIMARY KEY, source TEXT, row INTEGER, count INTEGER) WITHOUT ROWID"
        )

    def add(self, identifier: str, row: RawRow) -> tuple[int, str]:
        """Note the id of a row.

        Returns:
            `tuple[int, str]`: how often it was met, this time included, and the row it was met in first.
        """
        [(count, source, first)] = self._database.execute(
            "INSERT INTO seen VALUES (?, ?, ?, 1) ON CONFLICT (id) DO UPDATE SET count = count + 1 "
            "RETURNING count, source, row",
            (identifier, row.source, row.number),
        ).fetchall()
        return count, f"row {first}" if source == row.source else f"row {first} of {source}"

    def close(self) -> None:
        """Delete the database."""
        self._database.close()


class Row:
    """A row's fields under the names this package knows, checked as they are read.

    Args:
        values (`dict`):
            Columns of the source.
        columns (`set[str]`):
            Columns the source has, also where this row lacks one.
        mapping (`Mapping[str, str]`):
            Names of this package to columns of the source, where they differ.
    """

    def __init__(self, values: dict[str, Any], columns: set[str], mapping: Mapping[str, str]) -> None:
        self.values = values
        self.columns = columns
        self.mapping = mapping
        self.used: set[str] = set()

    def column(self, *names: str) -> str | None:
        """The source's column for the first of these names it has."""
        for name in names:
            column = self.mapping.get(name, name)
            if column in self.columns:
                self.used.add(column)
                return column
        return None

    def value(self, *names: str) -> tuple[str, Any]:
        """The column for the first of these names the source has, and its value.

        Raises:
            FieldError: There is none, or this row lacks it.
        """
        column = self.column(*names)
        if column is None:
            raise FieldError(self.mapping.get(names[0], names[0]), "is missing")
        value = self.values.get(column)
        if is_missing(value):
            raise FieldError(column, "is missing" if value is None else "is missing: it is NaN")
        return column, value

    def text(self, *names: str) -> tuple[str, str]:
        """As [`~Row.value`], for text that is not empty.

        Raises:
            FieldError: It is missing, empty or no text.
        """
        column, value = self.value(*names)
        return column, check_text(column, value)

    def optional_text(self, *names: str) -> str | None:
        """Text that may be empty (`""`); `None` where the source has no such column.

        Raises:
            FieldError: It is no text.
        """
        column = self.column(*names)
        if column is None:
            return None
        value = self.values.get(column)
        if isinstance(value, list) and all(isinstance(part, str) for part in value):
            value = "\n".join(value)
        if is_missing(value) or value == "":
            return ""
        return check_text(column, value, empty=True)

    def rest(self) -> dict[str, Any]:
        """The columns nobody has asked for."""
        return {name: value for name, value in self.values.items() if name not in self.used}


def is_missing(value: Any) -> bool:
    """Whether a value stands for none: null, or NaN, which pandas writes for it."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def check_text(field: str, value: Any, what: str = "the text", *, empty: bool = False) -> str:
    """`value`, if it is text that can be written as UTF-8.

    Raises:
        FieldError: It is not.
    """
    if not isinstance(value, str):
        raise FieldError(field, f"expected text, got {type(value).__name__} ({str(value)[:50]!r})")
    if not empty and not value.strip():
        raise FieldError(field, f"{what} is empty")
    check_storable(field, value)
    return value


def check_storable(field: str, value: Any) -> None:
    """Raise [`FieldError`] where text in `value` cannot be written as UTF-8, or a whole number in 64 bits."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise FieldError(field, f"broken encoding at character {error.start}; expected UTF-8") from None
    elif isinstance(value, int) and not -(2**63) <= value < 2**64:
        raise FieldError(field, f"a whole number of more than 64 bits ({str(value)[:80]})")
    elif isinstance(value, list):
        for part in value:
            check_storable(field, part)
    elif isinstance(value, dict):
        for part in (*value, *value.values()):
            check_storable(field, part)
