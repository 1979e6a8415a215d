"""A file of weights: written in one pass, and read whole and checked before any of it is used."""

import json
import mmap
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
import xxhash
from safetensors import SafetensorError, safe_open

from ..errors import EdcoRLError

Shapes = Mapping[str, tuple[int, ...]]
# As safetensors' format calls them.
_DTYPES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
# Values of a piece: what is cast is in the processor's cache when its checksum is made and it is written.
_PIECE = 1 << 20
# For less than 2**15 values torch uses one thread. More of them wait for each other, and for those of the engine and
# of checksums: on two busy cores casts took seven times the processor's time.
_ONE_THREAD = (1 << 15) - 64
_MOST_THREADS = 8
_NAMES_SHOWN = 3


class WeightsRefusedError(EdcoRLError, ValueError):
    """Weights an engine does not take; it goes on with those it has."""


def write_weights(
    path: Path, named_parameters: Iterable[tuple[str, torch.Tensor]], dtype: torch.dtype
) -> dict[str, str]:
    """Write parameters to a safetensors file, each as it comes, and return their checksums by name.

    A file that is there is written over: where it is in memory, that takes a third of the time of a new one.

    Args:
        path (`Path`):
            The file. Others cannot read it.
        named_parameters (`Iterable[tuple[str, torch.Tensor]]`):
            Parameters of any data type and device.
        dtype (`torch.dtype`):
            What they are written in.
    """
    header: dict[str, Any] = {}
    checksums: dict[str, str] = {}
    scratch = torch.empty(_PIECE, dtype=dtype)
    opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(opened, "r+b") as file, ThreadPoolExecutor(1) as pool:
        # The header comes first and is known last. That of the weights before is as long, as a rule.
        begin = 8 + int.from_bytes(file.read(8), "little")
        file.seek(begin)
        size = 0
        for name, parameter in named_parameters:
            digest = xxhash.xxh3_128()
            start = size
            for piece in _pieces(parameter.detach(), scratch):
                made = pool.submit(digest.update, piece)
                size += file.write(piece)
                made.result()
            shape = list(parameter.shape)
            header[name] = {"dtype": _DTYPES[dtype], "shape": shape, "data_offsets": [start, size]}
            checksums[name] = digest.hexdigest()
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        if begin != 8 + len(text):
            file.write(bytes(len(text)))  # room for it, if there is any: a map would fail without a word
            file.flush()
            with mmap.mmap(opened, 0) as content:
                content.move(8 + len(text), begin, size)
        file.seek(0)
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + size)
    return checksums


def _pieces(tensor: torch.Tensor, scratch: torch.Tensor) -> Iterator[memoryview]:
    """The bytes of a tensor in the data type of `scratch`. Each piece is good until the next is asked for."""
    for piece in tensor.reshape(-1).split(len(scratch)):
        written, here = piece, piece.device.type == "cpu"
        if piece.dtype != scratch.dtype or not here or piece.stride() != (1,):
            written, step = scratch[: len(piece)], _ONE_THREAD if here else _PIECE
            for target, source in zip(written.split(step), piece.split(step), strict=True):
                target.copy_(source)
        yield written.view(torch.uint8).numpy().data


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
            Their checksums, as [`write_weights`] has made them.

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
    cores = _cores()
    threads = min(len(cores), _MOST_THREADS)
    with ThreadPoolExecutor(threads, initializer=os.sched_setaffinity, initargs=(0, cores)) as pool:
        for name, (finite, checksum) in zip(tensors, pool.map(_look_at, tensors.values()), strict=True):
            if not finite:
                raise WeightsRefusedError(f"Parameter {name} has values that are not finite.")
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


def _cores() -> set[int]:
    """Cores of this process: vLLM on a CPU ties each thread to one of them, and those it starts with it."""
    cores: set[int] = set()
    for thread in os.listdir("/proc/self/task"):
        with suppress(ProcessLookupError):  # it has ended
            cores |= os.sched_getaffinity(int(thread))
    return cores


def _look_at(tensor: torch.Tensor) -> tuple[bool, str]:
    """Whether all values are finite, and the checksum."""
    flat = tensor.reshape(-1)
    checksum = xxhash.xxh3_128_hexdigest(flat.view(torch.uint8).numpy() if len(flat) else b"")
    # A sum is an order of magnitude faster; what is not finite leaves it not finite, and so may float16.
    finite = torch.stack([piece.sum() for piece in flat.split(_ONE_THREAD)]).isfinite().all()
    return bool(finite or flat.isfinite().all()), checksum
