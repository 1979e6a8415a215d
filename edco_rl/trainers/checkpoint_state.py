"""The curriculum in checkpoints: its state, as JSON one can read, and which of a run's settings are other ones."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ..config import CurriculumConfig
from ..curriculum import Curriculum, CurriculumBatchSampler
from ..curriculum.state import StateError, changed_settings, entry, known_only, no_later_than, whole, within
from ..errors import ConfigurationError
from ..store import plain, read_state, write_state

CURRICULUM_FILE = "curriculum.json"


def settings_of(config: CurriculumConfig, curriculum: Curriculum, sampler: CurriculumBatchSampler) -> dict[str, Any]:
    """The settings of a run's curriculum that neither curriculum nor sampler keep, by the names users know."""
    kept = curriculum.settings.keys() | sampler.settings.keys()
    return plain({name: value for name, value in asdict(config).items() if name not in kept})


def save_state(
    folder: str | Path,
    curriculum: Curriculum,
    sampler: CurriculumBatchSampler,
    step: int,
    settings: dict[str, Any],
) -> None:
    """Write the state to `curriculum.json` in a folder, and its arrays beside it, whole or not at all."""
    state = {
        "step": step,
        "settings": settings,
        "curriculum": curriculum.state_dict(),
        "sampler": sampler.state_dict(),
    }
    write_state(Path(folder) / CURRICULUM_FILE, state)


def load_state(
    folder: str | Path,
    curriculum: Curriculum,
    sampler: CurriculumBatchSampler,
    step: int,
    settings: Mapping[str, Any],
) -> dict[str, str]:
    """Restore what [`save_state`] wrote.

    Returns:
        `dict[str, str]`: what is to be said of each setting that is other than it was, by its name, and of `prompts`.

    Raises:
        ConfigurationError: The folder holds no state, one of other settings, another data set or another optimizer
            step, or one that cannot be right; the message names the entry.
    """
    path = Path(folder) / CURRICULUM_FILE
    if not path.is_file():
        raise ConfigurationError(f"The checkpoint {folder} has no {CURRICULUM_FILE}: it is not one of a curriculum.")
    state = read_state(path)
    try:
        known_only(state, ("step", "settings", "curriculum", "sampler"))
        if whole(state, "step") != step:
            raise StateError(("step",), f"is {state['step']}, and the rest of the checkpoint is of step {step}")
        changed: dict[str, str] = {}
        for place, now in (
            (("settings",), settings),
            (("curriculum", "settings"), plain(curriculum.settings)),
            (("sampler", "settings"), sampler.settings),
        ):
            with within(*place):
                changed |= changed_settings(entry(state, *place), now)
        with no_later_than(step):
            for name, part in (("curriculum", curriculum), ("sampler", sampler)):
                with within(name):
                    known_only(entry(state, name), part.state_dict())
                    part.load_state_dict(entry(state, name))
        if step > 0 and curriculum.renewed_at is None:  # it is before the first step
            raise StateError(("curriculum", "renewed_at"), f"is null, and {step} optimizer steps are done")
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from error
    kept, now = state["curriculum"]["keys"], curriculum.pool.keys
    if len(kept) < len(now):
        changed["prompts"] = f"{len(kept)} prompts, this run has {len(now)}"
    elif not np.array_equal(kept, now):
        changed["prompts"] = "prompts in another order"
    return changed
