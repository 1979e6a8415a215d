"""Rows of local files, one after the other, with the row and the field named where one cannot be read."""

import csv
import gzip
import itertools
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pyarrow
import pyarrow.parquet

from ..errors import ConfigurationError
from .rows import WHOLE_ROW, FieldError, RawRow

# The csv module refuses fields above 131,072 characters; which prompts are too long is decided elsewhere.
_LONGEST_CSV_FIELD = 2**31 - 1
_PARQUET_BATCH = 1000


def read_rows(path: Path) -> Iterator[RawRow]:
    """Rows of a JSONL, JSON, Parquet or CSV file, also gzipped, in constant memory (JSON: all at once).

    A row that cannot be read comes with its `error`; text with broken encoding keeps its bad bytes as lone surrogates.

    Raises:
        ConfigurationError: The file is of another kind, or cannot be read as a whole.
    """
    reader = _reader(path)
    try:
        yield from reader(path)
    except (OSError, EOFError, zlib.error, pyarrow.ArrowException) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error


def is_data_file(name: str) -> bool:
    """Whether a name ends as the files do that [`read_rows`] reads."""
    return _suffix(Path(name)) in _READERS


def _suffix(path: Path) -> str:
    return Path(path.stem).suffix if path.suffix == ".gz" else path.suffix


def _reader(path: Path) -> Callable[[Path], Iterator[RawRow]]:
    suffix = _suffix(path)
    if suffix not in _READERS or (suffix == ".parquet" and path.suffix == ".gz"):
        raise ConfigurationError(
            f"dataset_name {str(path)!r}: expected a file of {', '.join(_READERS)} (text also with .gz); "
            f"got {''.join(path.suffixes[-2:]) or 'no suffix'!r}."
        )
    return _READERS[suffix]


def _open(path: Path, newline: str | None = None) -> IO[str]:
    opener: Any = gzip.open if path.suffix == ".gz" else open
    # Bad bytes become lone surrogates, so that the field they are in can be named.
    return opener(path, "rt", encoding="utf-8-sig", errors="surrogateescape", newline=newline)


def _read_jsonl(path: Path) -> Iterator[RawRow]:
    with _open(path, newline="\n") as file:
        yield from _json_lines(file)


def _json_lines(lines: Iterator[str] | IO[str]) -> Iterator[RawRow]:
    for number, line in enumerate(lines):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            yield RawRow(number, {}, FieldError(WHOLE_ROW, f"is not valid JSON ({error})"))
            continue
        yield _row(number, values)


def _row(number: int, values: Any) -> RawRow:
    if isinstance(values, dict):
        return RawRow(number, values)
    return RawRow(number, {}, FieldError(WHOLE_ROW, f"expected an object of columns, got {type(values).__name__}"))


def _read_json(path: Path) -> Iterator[RawRow]:
    """An array of objects, an object of objects by id, or JSON lines in a file of that name."""
    with _open(path, newline="\n") as file:
        first = next((line for line in file if line.strip()), "")
        if first.lstrip().startswith("{"):
            try:
                whole = json.loads(first)
            except json.JSONDecodeError:
                whole = None  # the object goes on in the next line
            if whole is not None:
                rest = list(itertools.islice(file, 1))
                if rest or not all(isinstance(value, dict) for value in whole.values()):
                    yield from _json_lines(itertools.chain([first], rest, file))
                    return
        try:
            content = json.loads(first + file.read())
        except json.JSONDecodeError as error:
            raise ConfigurationError(f"{path} is not valid JSON: {error}.") from None
    if isinstance(content, dict) and all(isinstance(value, dict) for value in content.values()):
        content = [{"id": key, **value} for key, value in content.items()]
    if not isinstance(content, list):
        raise ConfigurationError(f"{path}: expected an array of objects, or an object of objects by id.")
    for number, values in enumerate(content):
        yield _row(number, values)


def _read_csv(path: Path) -> Iterator[RawRow]:
    csv.field_size_limit(_LONGEST_CSV_FIELD)
    with _open(path, newline="") as file:
        reader = csv.DictReader(file)
        for number in itertools.count():
            try:
                values: dict[Any, Any] | None = next(reader, None)
            except csv.Error as error:
                yield RawRow(number, {}, FieldError(WHOLE_ROW, f"is not valid CSV ({error})"))
                continue
            if values is None:
                return
            if None in values:
                problem = f"has {len(values) - 1 + len(values[None])} fields; the header has {len(values) - 1}"
                yield RawRow(number, {}, FieldError(WHOLE_ROW, problem))
                continue
            yield RawRow(number, values)


def _read_parquet(path: Path) -> Iterator[RawRow]:
    number = 0
    with pyarrow.parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=_PARQUET_BATCH):
            try:
                rows = [RawRow(number + i, values) for i, values in enumerate(batch.to_pylist())]
            except UnicodeDecodeError:
                rows = [_parquet_row(number + i, batch.slice(i, 1)) for i in range(len(batch))]
            yield from rows
            number += len(batch)


def _parquet_row(number: int, row: pyarrow.RecordBatch) -> RawRow:
    values = {}
    for name, column in zip(row.schema.names, row.columns, strict=True):
        try:
            values[name] = column[0].as_py()
        except UnicodeDecodeError as error:
            return RawRow(number, {}, FieldError(name, f"broken encoding ({error.reason}); expected UTF-8"))
    return RawRow(number, values)


_READERS: dict[str, Callable[[Path], Iterator[RawRow]]] = {
    ".jsonl": _read_jsonl,
    ".json": _read_json,
    ".parquet": _read_parquet,
    ".csv": _read_csv,
}
