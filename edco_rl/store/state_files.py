"""The state of something that goes on after a restart: JSON one can read, and its arrays beside it."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from ..errors import ConfigurationError
from .files import read_json, write_text, write_whole

_ARRAY, _BELONGS_TO = "array", "sha256_of_json"

ARRAYS_SUFFIX = ".arrays"
"""Ends the name of a safetensors file beside a model: an engine takes each `*.safetensors` of a folder for weights."""


def write_state(path: Path, state: Any) -> None:
    """Write a state, whole or not at all: plain values as JSON, NumPy arrays beside it.

    Args:
        path (`Path`):
            The JSON file. An array is named in it, and is under that name in a safetensors file of the same stem that
            ends in `.arrays`. It is written last: where it is new, its arrays are.
        state (plain values and NumPy arrays):
            The state.

    Raises:
        TypeError: It holds something else.
    """
    arrays: dict[str, np.ndarray] = {}
    text = json.dumps(_without_arrays(state, "", arrays), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    metadata = {_BELONGS_TO: _hash(text)}
    write_whole(_arrays_of(path), lambda draft: save_file(arrays, draft, metadata))
    write_text(path, text)


def read_state(path: Path) -> Any:
    """The state that [`write_state`] wrote.

    Raises:
        FileNotFoundError: There is none.
        ConfigurationError: The two files are not of one state, or cannot be read.
    """
    value, beside = read_json(path), _arrays_of(path)
    try:
        with safe_open(beside, "numpy") as file:
            if (file.metadata() or {}).get(_BELONGS_TO) != _hash(path.read_text(encoding="utf-8")):
                raise ConfigurationError(f"{beside} does not belong to {path}: one of them was altered, or replaced.")
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
        return _with_arrays(value, arrays)
    except (OSError, SafetensorError, LookupError, TypeError, ValueError) as error:
        raise ConfigurationError(f"{path} with {beside.name} cannot be read: {error}.") from error


def _arrays_of(path: Path) -> Path:
    return path.with_suffix(ARRAYS_SUFFIX)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _without_arrays(value: Any, name: str, arrays: dict[str, np.ndarray]) -> Any:
    """The value with the names of its arrays in their places."""
    if isinstance(value, np.ndarray):
        arrays[name] = np.ascontiguousarray(value)
        return {_ARRAY: name, "type": str(value.dtype), "shape": list(value.shape)}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {
            str(key): _without_arrays(inner, f"{name}.{key}" if name else str(key), arrays)
            for key, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [_without_arrays(inner, f"{name}.{number}", arrays) for number, inner in enumerate(value)]
    if value is None or isinstance(value, str | int | float):
        return value
    raise TypeError(f"{name} is of type {type(value).__name__}; a state holds plain values and NumPy arrays.")


def _with_arrays(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(value, dict):
        if _ARRAY in value and value.keys() == {_ARRAY, "type", "shape"}:
            return arrays[value[_ARRAY]]
        return {key: _with_arrays(inner, arrays) for key, inner in value.items()}
    return [_with_arrays(inner, arrays) for inner in value] if isinstance(value, list) else value
