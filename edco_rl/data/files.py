"""Rows of local files, one after the other, with the row and the field named where one cannot be read."""

import csv
import io
import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.ipc
import pyarrow.parquet
from datasets import Features

from ..errors import ConfigurationError
from .kinds import BINARY_KINDS, COMPRESSIONS, kind_of
from .rows import WHOLE_ROW, FieldError, RawRow

# The csv module refuses fields above 131,072 characters; which prompts are too long is decided elsewhere.
_LONGEST_CSV_FIELD = 2**31 - 1
_ARROW_BATCH = 1000


def read_rows(path: Path) -> Iterator[RawRow]:
    """Rows of a JSONL, JSON, CSV, TSV, Parquet or Arrow file, text also compressed, in constant memory (JSON: all at
    once).

    A row that cannot be read comes with its `error`; text with broken encoding keeps its bad bytes as lone surrogates.

    Raises:
        ConfigurationError: The file is of another kind, or cannot be read as a whole.
    """
    kind, compression = kind_of(path)
    if kind not in _READERS or (kind in BINARY_KINDS and compression):
        raise ConfigurationError(
            f"dataset_name {str(path)!r}: expected a file of {', '.join(_READERS)} (text also with "
            f"{', '.join(COMPRESSIONS)}); got {''.join(path.suffixes[-2:]) or 'no suffix'!r}."
        )
    try:
        yield from _READERS[kind](path)
    except (OSError, EOFError, pyarrow.ArrowException) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error


def _open(path: Path, newline: str) -> io.TextIOWrapper:
    stream = pyarrow.input_stream(str(path), compression=kind_of(path)[1])
    # Bad bytes become lone surrogates, so that the field they are in can be named.
    return io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline=newline)


def _read_jsonl(path: Path) -> Iterator[RawRow]:
    with _open(path, newline="\n") as file:
        yield from _json_lines(path, file)


def _json_lines(path: Path, lines: Iterable[str]) -> Iterator[RawRow]:
    for number, line in enumerate(lines):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:  # a number of thousands of digits is one too
            yield _broken(path, number, f"is not valid JSON ({error})")
            continue
        yield _row(path, number, values)


def _row(path: Path, number: int, values: Any) -> RawRow:
    if isinstance(values, dict):
        return RawRow(str(path), number, values)
    return _broken(path, number, f"expected an object of columns, got {type(values).__name__}")


def _broken(path: Path, number: int, problem: str, field: str = WHOLE_ROW) -> RawRow:
    return RawRow(str(path), number, {}, FieldError(field, problem))


def _read_json(path: Path) -> Iterator[RawRow]:
    """An array of objects, an object of objects by id, or JSON lines in a file of that name."""
    with _open(path, newline="\n") as file:
        first = next((line for line in file if line.strip()), "")
        if first.lstrip().startswith("{"):
            try:
                whole = json.loads(first)
            except ValueError:
                whole = None  # the object goes on in the next line
            if whole is not None:
                rest = list(itertools.islice(file, 1))
                if rest or not all(isinstance(value, dict) for value in whole.values()):
                    yield from _json_lines(path, itertools.chain([first], rest, file))
                    return
        try:
            content = json.loads(first + file.read())
        except (ValueError, RecursionError) as error:
            raise ConfigurationError(f"{path} is not valid JSON: {error}.") from None
    if isinstance(content, dict) and all(isinstance(value, dict) for value in content.values()):
        content = [{"id": key, **value} for key, value in content.items()]
    if not isinstance(content, list):
        raise ConfigurationError(f"{path}: expected an array of objects, or an object of objects by id.")
    for number, values in enumerate(content):
        yield _row(path, number, values)


def _read_csv(path: Path, delimiter: str = ",") -> Iterator[RawRow]:
    csv.field_size_limit(_LONGEST_CSV_FIELD)
    with _open(path, newline="") as file:
        # Strict: a quote that is never closed would otherwise take all rows after it into its field.
        reader = csv.DictReader(file, delimiter=delimiter, strict=True)
        for number in itertools.count():
            try:
                values: dict[Any, Any] | None = next(reader, None)
            except csv.Error as error:
                yield _broken(path, number, f"is not valid CSV ({error})")
                continue
            if values is None:
                return
            if None in values:
                fields = len(values) - 1
                yield _broken(path, number, f"has {fields + len(values[None])} fields; the header has {fields}")
                continue
            yield RawRow(str(path), number, values)


def _read_parquet(path: Path) -> Iterator[RawRow]:
    with pyarrow.parquet.ParquetFile(path) as file:
        yield from _arrow_rows(path, file.schema_arrow, file.iter_batches(batch_size=_ARROW_BATCH))


def _read_arrow(path: Path) -> Iterator[RawRow]:
    """Both of Arrow's formats: a stream, as `datasets` writes it, and a file, as Feather is."""
    with pyarrow.memory_map(str(path)) as source:
        try:
            file = pyarrow.ipc.open_file(source)
            batches: Iterable[Any] = (file.get_batch(i) for i in range(file.num_record_batches))
        except pyarrow.ArrowInvalid:
            source.seek(0)
            batches = file = pyarrow.ipc.open_stream(source)
        parts = (batch.slice(start, _ARROW_BATCH) for batch in batches for start in range(0, len(batch), _ARROW_BATCH))
        yield from _arrow_rows(path, file.schema, parts)


def _arrow_rows(path: Path, schema: Any, batches: Iterable[Any]) -> Iterator[RawRow]:
    # `datasets` keeps what has no fixed columns, such as arguments of tools, as JSON.
    features = Features.from_arrow_schema(schema) if "arrow.json" in str(schema) else None
    numbers = itertools.count()
    for batch in batches:
        try:
            rows = batch.to_pylist()
        except UnicodeDecodeError:
            yield from (_arrow_row(path, next(numbers), batch.slice(i, 1)) for i in range(len(batch)))
            continue
        for values in rows:
            yield RawRow(str(path), next(numbers), features.decode_example(values) if features else values)


def _arrow_row(path: Path, number: int, row: Any) -> RawRow:
    values = {}
    for name, column in zip(row.schema.names, row.columns, strict=True):
        try:
            values[name] = column[0].as_py()
        except UnicodeDecodeError as error:
            return _broken(path, number, f"broken encoding ({error.reason}); expected UTF-8", name)
    return RawRow(str(path), number, values)


_READERS: dict[str, Callable[[Path], Iterator[RawRow]]] = {
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".json": _read_json,
    ".csv": _read_csv,
    ".tsv": partial(_read_csv, delimiter="\t"),
    ".parquet": _read_parquet,
    ".arrow": _read_arrow,
}
