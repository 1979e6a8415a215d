"""The curriculum in checkpoints: its state, as JSON one can read, and how a trainer writes and resumes it."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from transformers import Trainer

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


class CheckpointMixin(Trainer if TYPE_CHECKING else object):  # type: ignore[misc]
    """Has a trainer keep its curriculum in checkpoints; inherit from it before the trainer.

    The curriculum and its sampler know by themselves where they are. So nothing is drawn to be passed over, whatever
    the trainer makes of a checkpoint's step with a pool, batches or epochs that are others now.
    """

    curriculum: Curriculum
    _batch_sampler: CurriculumBatchSampler

    def save_curriculum(self, folder: str | Path) -> None:
        """Write the curriculum's state to `curriculum.json` in a folder."""
        save_state(folder, self.curriculum, self._batch_sampler)

    def _load_curriculum(self, folder: str | Path) -> None:
        load_state(folder, self.curriculum, self._batch_sampler)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        folder = self._checkpoint_folder(trial)
        self._save_of_rank(folder)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:  # comes last: where it is, the checkpoint is whole
            self.save_curriculum(folder)

    def _save_of_rank(self, folder: Path) -> None:
        """Write what each rank has of its own to a checkpoint."""

    def _checkpoint_folder(self, trial: Any = None) -> Path:
        return Path(self._get_output_dir(trial=trial)) / f"checkpoint-{self.state.global_step}"

    def _init_training_state(
        self, max_steps: int, steps_in_pass: int, passes: int, resume_from_checkpoint: str | None, trial: Any
    ) -> tuple[int, int]:
        passes_done, batches = super()._init_training_state(
            max_steps, steps_in_pass, passes, resume_from_checkpoint, trial
        )
        if self.state.global_step >= max_steps:  # nothing is left to do: Trainer would take one step more
            return passes, 0
        self._batch_sampler.skip(batches)
        return passes_done, batches

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            self._load_curriculum(checkpoint)
