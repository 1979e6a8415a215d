"""The one way to hash what a result depends on: SHA-256 of canonical JSON, or XXH3 of a file's bytes."""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import xxhash


def plain(value: Any) -> Any:
    """A value as JSON gives it back.

    Tuples are lists, sets sorted lists, arrays and scalars of NumPy and torch lists and numbers, and keys are text. A
    number that is not finite is null: what the data do not determine. What JSON does not know is its `str`.
    """
    if value is None or isinstance(value, str | int):
        return value
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(map(plain, value), key=str)
    return str(value) if isinstance(value, bytes) or not isinstance(value, Sequence) else [plain(x) for x in value]


def fingerprint(value: Any) -> str:
    """The same for values that are the same as JSON: see [`plain`]."""
    return rows_fingerprint([value])


def rows_fingerprint(rows: Iterable[Any]) -> str:
    """The same for rows that hold the same in the same order, whatever file they came from."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(plain(row), sort_keys=True).encode() + b"\n")
    return digest.hexdigest()


def file_checksum(path: Path) -> str:
    """XXH3 (128 bits) of a file. It finds what was altered by accident as SHA-256 does, in a sixth of the time."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, xxhash.xxh3_128).hexdigest()


def model_fingerprint(model: str) -> dict[str, list[int]] | None:
    """Sizes and times of a model folder's files: results of two models must not end in one file.

    Args:
        model (`str`):
            Model folder, or a hub id, of which there is nothing to tell.
    """
    files = sorted(path for path in Path(model).glob("*") if path.suffix in (".safetensors", ".bin", ".json"))
    return {path.name: [path.stat().st_size, path.stat().st_mtime_ns] for path in files} or None


def parameters_fingerprint(model: Any) -> str:
    """The same for the same parameters, whatever file they came from.

    Args:
        model (`torch.nn.Module`):
            The model.
    """
    import torch

    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        digest.update(f"{name} {parameter.dtype} {tuple(parameter.shape)}".encode())
        digest.update(parameter.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
