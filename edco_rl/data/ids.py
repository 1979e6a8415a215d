"""Ids of rows that stay the same when rows move: their own, or a hash of what they say."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any, overload

from datasets import Dataset

from ..errors import ConfigurationError
from ..id_hashes import first_double, hash_ids

# Rows that are read at a time.
_BLOCK = 10_000


class RowIds(Sequence[str]):
    """The column `id` of a data set as text: read from it where it lies, and not kept."""

    def __init__(self, dataset: Dataset) -> None:
        self._rows = dataset.select_columns(["id"])

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, row: int) -> str: ...

    @overload
    def __getitem__(self, row: slice) -> list[str]: ...

    def __getitem__(self, row: int | slice) -> str | list[str]:
        found = self._rows[row]["id"]
        return list(map(str, found)) if isinstance(row, slice) else str(found)

    def __iter__(self) -> Iterator[str]:
        for block in self._rows.with_format("arrow").iter(_BLOCK):
            yield from map(str, block["id"].to_pylist())


def prompt_ids(dataset: Dataset) -> Sequence[str]:
    """A stable id for each row: its column `id` where there is one, else a hash of the prompt.

    Equal prompts without an id are told apart by their number of occurrence.

    Raises:
        ConfigurationError: The column `id` holds a value twice.
    """
    if "id" in dataset.column_names:
        ids = RowIds(dataset)
        double = first_double(hash_ids(ids))
        if double is not None:
            first, row = double
            same = f"is also the id of row {first}"
            problem = same if ids[first] == ids[row] else f"has the hash of {ids[first]!r}, row {first}: rename one"
            raise ConfigurationError(f"Row {row}, column 'id': {ids[row]!r} {problem}.")
        return ids
    hashes: list[str] = []
    met: dict[str, int] = {}
    prompts = dataset.select_columns(["prompt"])
    for first in range(0, len(prompts), _BLOCK):
        for prompt in prompts[first : first + _BLOCK]["prompt"]:
            base = content_id(prompt)
            met[base] = met.get(base, 0) + 1
            hashes.append(base if met[base] == 1 else f"{base}-{met[base]}")
    return hashes


def content_id(content: Any) -> str:
    """A hash of what a prompt is made from, the same wherever its row stands."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
