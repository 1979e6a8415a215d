"""The curriculum's state in a checkpoint, as JSON one can read."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from ..curriculum import Curriculum, CurriculumBatchSampler
from ..errors import ConfigurationError
from ..store import write_text

CURRICULUM_FILE = "curriculum.json"


def save_state(folder: str | Path, curriculum: Curriculum, sampler: CurriculumBatchSampler) -> None:
    """Write the state to `curriculum.json` in a folder, whole or not at all."""
    state = {"curriculum": curriculum.state_dict(), "sampler": sampler.state_dict()}
    write_text(Path(folder) / CURRICULUM_FILE, json.dumps(state, default=_to_plain))


def load_state(folder: str | Path, curriculum: Curriculum, sampler: CurriculumBatchSampler) -> None:
    """Restore what [`save_state`] wrote.

    Raises:
        ConfigurationError: The folder holds no state, or one of other settings or another data set.
    """
    path = Path(folder) / CURRICULUM_FILE
    if not path.is_file():
        raise ConfigurationError(f"The checkpoint {folder} has no {CURRICULUM_FILE}: it is not one of a curriculum.")
    state = json.loads(path.read_text(encoding="utf-8"))
    curriculum.load_state_dict(state["curriculum"])
    sampler.load_state_dict(state["sampler"])


def _to_plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"Cannot write {type(value).__name__} to {CURRICULUM_FILE}.")
