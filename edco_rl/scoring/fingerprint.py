"""What tells one model's weights from another's."""

import hashlib
from pathlib import Path
from typing import Any

import torch


def fingerprint(model: str) -> dict[str, list[int]] | None:
    """Sizes and times of a model folder's weight files: scores of two models must not end in one file."""
    files = sorted(path for path in Path(model).glob("*") if path.suffix in (".safetensors", ".bin", ".json"))
    return {path.name: [path.stat().st_size, path.stat().st_mtime_ns] for path in files} or None


def parameters_digest(model: Any) -> str:
    """A hash of a model's parameters, whatever file they came from."""
    digest = hashlib.blake2b(digest_size=16)
    for name, parameter in sorted(model.named_parameters()):
        digest.update(f"{name} {parameter.dtype} {tuple(parameter.shape)}".encode())
        digest.update(parameter.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
