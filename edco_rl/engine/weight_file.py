"""A file of weights: read whole and checked before any of it is used."""

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch
import xxhash
from safetensors import SafetensorError, safe_open

from ..errors import EdcoRLError

Shapes = Mapping[str, tuple[int, ...]]
_NAMES_SHOWN = 3


class WeightsRefusedError(EdcoRLError, ValueError):
    """Weights an engine does not take; it goes on with those it has."""


@contextmanager
def checksums(tensors: Mapping[str, torch.Tensor]) -> Iterator[Mapping[str, str]]:
    """Checksums of tensors by name, filled in at the end of the block: they are made while it does something else."""
    found: dict[str, str] = {}
    with ThreadPoolExecutor(1) as pool:
        made = pool.map(_checksum, tensors.values())
        yield found
        found.update(zip(tensors, made, strict=True))


def read_weights(
    path: str, shapes: Shapes, dtype: torch.dtype, expected: Mapping[str, str]
) -> dict[str, torch.Tensor]:
    """Read a file of weights and check all of it.

    Args:
        path (`str`):
            A safetensors file. It is mapped, not copied: it must not be written to while the tensors are used.
        shapes (`Mapping[str, tuple[int, ...]]`):
            Every parameter of the model, by name.
        dtype (`torch.dtype`):
            Their data type.
        expected (`Mapping[str, str]`):
            Their checksums ([`checksums`]), as the trainer made them.

    Raises:
        WeightsRefusedError: It is no such file; names, shapes or data types are others; a value is not finite; or a
            checksum is not the one expected. The parameter is named.
    """
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            _check_names(file.keys(), shapes)
            for name, shape in shapes.items():
                found = tuple(file.get_slice(name).get_shape())
                if found != shape:
                    raise WeightsRefusedError(f"Parameter {name} has shape {found}; the model's has {shape}.")
            tensors = {name: file.get_tensor(name) for name in shapes}
    except (SafetensorError, OSError, OverflowError) as error:
        raise WeightsRefusedError(f"This is no whole safetensors file: {error}.") from None
    for name, tensor in tensors.items():
        if tensor.dtype != dtype:
            raise WeightsRefusedError(f"Parameter {name} is {tensor.dtype}; the engine's weights are {dtype}.")
    with checksums(tensors) as made:
        for name, tensor in tensors.items():
            # The sum is an order of magnitude faster; what is not finite leaves it not finite, and so may float16.
            if not tensor.sum().isfinite() and not tensor.isfinite().all():
                raise WeightsRefusedError(f"Parameter {name} has values that are not finite.")
    for name, checksum in made.items():
        if expected.get(name) != checksum:
            raise WeightsRefusedError(f"Parameter {name} did not arrive as it was sent: its checksum is another.")
    return tensors


def _check_names(names: Iterable[str], shapes: Shapes) -> None:
    found = set(names)
    for what, wrong in (
        ("misses parameters of the model", shapes.keys() - found),
        ("has parameters the model has not", found - shapes.keys()),
    ):
        if wrong:
            shown = ", ".join(sorted(wrong)[:_NAMES_SHOWN])
            more = f" and {len(wrong) - _NAMES_SHOWN} more" if len(wrong) > _NAMES_SHOWN else ""
            raise WeightsRefusedError(f"The file {what}: {shown}{more}.")


def _checksum(tensor: torch.Tensor) -> str:
    return xxhash.xxh3_128_hexdigest(tensor.reshape(-1).view(torch.uint8).numpy() if tensor.numel() else b"")
