"""transformers' own state in a checkpoint, `trainer_state.json`, read with its types and ranges checked."""

from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

from transformers import TrainerState
from transformers.trainer import TRAINER_STATE_NAME

from ..errors import ConfigurationError
from ..store import read_json

_MAPPINGS = ("stateful_callbacks", "trial_params")
_LARGEST = 1e300
_AT_LEAST_ONE = ("logging_steps", "eval_steps", "save_steps")


def read_trainer_state(folder: str | Path) -> TrainerState:
    """The trainer's state in a checkpoint.

    Raises:
        ConfigurationError: It is missing or no such state, or an entry cannot be right; the message names it.
    """
    path = Path(folder) / TRAINER_STATE_NAME
    if not path.is_file():
        raise ConfigurationError(f"{path} is missing: {folder} is no checkpoint.")
    kept = read_json(path, finite=False)  # a metric that was logged may be no number
    own = {field.name: field.type for field in fields(TrainerState)}
    if not isinstance(kept, dict) or kept.keys() != own.keys():
        differing = sorted(own.keys() ^ kept.keys()) if isinstance(kept, dict) else type(kept).__name__
        raise ConfigurationError(f"{path} is no state of this version of transformers; it differs in {differing}.")
    for name, value in kept.items():
        if not _fits(name, value, own[name]):
            raise ConfigurationError(f"{path}: {name} cannot be {str(value)[:60]!r}.")
    return TrainerState(**kept)


def _fits(name: str, value: Any, kind: Any) -> bool:
    kinds = get_args(kind) or (kind,)
    if value is None:
        return type(None) in kinds
    if name == "log_history":
        return isinstance(value, list) and all(isinstance(line, dict) for line in value)
    if name in _MAPPINGS:
        return isinstance(value, dict)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return type(value) in kinds
    if name in _AT_LEAST_ONE:  # or a share of all steps
        return 0 < value < _LARGEST
    allowed = float in kinds or (int in kinds and isinstance(value, int))
    return allowed and (name == "best_metric" or 0 <= value < _LARGEST)
