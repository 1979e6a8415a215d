"""The one way to hash what a result depends on: SHA-256 of canonical JSON, or of a file's bytes."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .files import without_nan


def plain(value: Any) -> Any:
    """A value as JSON gives it back: tuples are lists, keys are text, a number that is not finite is null, what JSON
    does not know is its `str`."""
    return json.loads(json.dumps(without_nan(value), sort_keys=True, default=str))


def fingerprint(value: Any) -> str:
    """The same for values that are the same as JSON."""
    return _digest([json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)])


def rows_fingerprint(rows: Iterable[Mapping[str, Any]]) -> str:
    """The same for rows that hold the same in the same order, whatever file they came from."""
    return _digest(json.dumps(dict(row), sort_keys=True, ensure_ascii=False, default=str) + "\n" for row in rows)


def file_checksum(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def model_fingerprint(model: str) -> dict[str, list[int]] | None:
    """Sizes and times of a model folder's weight files: scores of two models must not end in one file."""
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


def _digest(texts: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode(errors="surrogatepass"))
    return digest.hexdigest()
