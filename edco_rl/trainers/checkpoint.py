"""How a trainer with a curriculum writes checkpoints and resumes from them: whole, and with what was learned."""

import logging
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import Trainer
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME, TRAINER_STATE_NAME
from transformers.trainer_jit_checkpoint import JITCheckpointCallback
from transformers.trainer_utils import sort_checkpoints

from ..config import CurriculumConfig
from ..curriculum import Curriculum, CurriculumBatchSampler
from ..errors import ConfigurationError
from ..store import (
    UNFINISHED_FOLDER,
    UNFINISHED_MODEL,
    begin_checkpoint,
    begin_model,
    finish_checkpoint,
    put_model_in_place,
    remove_checkpoint,
    removed_on_error,
)
from .checkpoint_state import load_state, save_state, settings_of
from .find_checkpoint import find_checkpoint, reading
from .stopping import StopSignals
from .trainer_state import read_trainer_state

logger = logging.getLogger(__name__)

# Of the optimizers' state, what has the shape of its parameter.
_MOMENTS = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer")


class CheckpointMixin(Trainer if TYPE_CHECKING else object):  # type: ignore[misc]
    """Has a trainer keep its curriculum in checkpoints, which are whole or absent; inherit from it before the trainer.

    The curriculum and its sampler know by themselves where they are. So nothing is drawn to be passed over, whatever
    the trainer makes of a checkpoint's step with a pool, batches or epochs that are others now.
    """

    curriculum: Curriculum
    _curriculum_config: CurriculumConfig
    _batch_sampler: CurriculumBatchSampler
    _writing_to: Path | None = None
    _saved_at: int | None = None
    _same_processes: bool
    control: Any
    _stop_signals: StopSignals

    def _take_over_signals(self) -> None:
        """Take the place of transformers' own callback of `enable_jit_checkpoint`.

        That one saves within an optimizer step too, leaves Ctrl-C alone, and lets a run that was stopped end as one
        that is complete.
        """
        callback = self.pop_callback(JITCheckpointCallback)
        if callback is not None and callback.jit_manager is not None:
            signal.signal(signal.SIGTERM, callback.jit_manager._original_sigterm_handler)

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """Train, as transformers' `Trainer` does, from a checkpoint that is complete and unaltered.

        With `enable_jit_checkpoint`, SIGTERM and SIGINT (Ctrl-C) are held back until an optimizer step is done and a
        checkpoint is written, and then take their usual course.

        Raises:
            ConfigurationError: The checkpoint is not complete, was altered or is of other settings; with `True`, none
                is complete.
        """
        checkpoint = find_checkpoint(resume_from_checkpoint, self.args.output_dir)
        self._saved_at = 0 if checkpoint is None else read_trainer_state(checkpoint).global_step
        self.state.global_step = self._saved_at  # what a signal compares it with
        self._stop_signals = StopSignals(
            self.args.enable_jit_checkpoint, lambda: self.state.global_step != self._saved_at
        )
        with self._stop_signals:
            return super().train(checkpoint, *args, **kwargs)

    def save_curriculum(self, folder: str | Path) -> None:
        """Write the curriculum's state to `curriculum.json` in a folder."""
        settings = settings_of(self._curriculum_config, self.curriculum, self._batch_sampler)
        save_state(folder, self.curriculum, self._batch_sampler, self.state.global_step, settings)

    def _load_curriculum(self, folder: str | Path) -> None:
        settings = settings_of(self._curriculum_config, self.curriculum, self._batch_sampler)
        changed = load_state(folder, self.curriculum, self._batch_sampler, self.state.global_step, settings)
        self._same_processes = "processes" not in changed
        if changed and self.accelerator.is_main_process:
            logger.warning("Resuming from %s with something changed: %s.", folder, "; ".join(changed.values()))

    def _get_output_dir(self, trial: Any) -> str:
        return super()._get_output_dir(trial) if self._writing_to is None else str(self._writing_to)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        if self._writing_to is None:  # otherwise it is about to be moved
            super()._push_from_checkpoint(checkpoint_folder)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        run, step = Path(self._get_output_dir(trial)), self.state.global_step
        folder = run / f"checkpoint-{step}"
        if self.args.should_save:
            begin_checkpoint(run)
        self.accelerator.wait_for_everyone()
        self._writing_to = run / UNFINISHED_FOLDER
        try:
            with removed_on_error(self._writing_to):
                super()._save_checkpoint(model, trial)
        finally:
            self._writing_to = None
        draft = run / UNFINISHED_FOLDER / folder.name
        self._save_of_rank(draft)
        best = run / f"checkpoint-{self.state.best_global_step}"
        if self.state.best_global_step and (best == folder or best.is_dir()):
            self.state.best_model_checkpoint = str(best)
        self.accelerator.wait_for_everyone()  # all have written theirs
        if self.args.should_save:
            self.state.save_to_json(str(draft / TRAINER_STATE_NAME))  # names the best checkpoint by where it will be
            self.save_curriculum(draft)
            finish_checkpoint(folder, {"step": step, "processes": self.args.world_size})
            self._remove_old_checkpoints(run)
        self.accelerator.wait_for_everyone()
        self._saved_at = step
        if self.args.push_to_hub:
            self._push_from_checkpoint(str(folder))

    def _remove_old_checkpoints(self, run: Path) -> None:
        """Keep the newest `save_total_limit` checkpoints, and the best one, as transformers does."""
        limit, best = self.args.save_total_limit or 0, self.state.best_model_checkpoint
        folders = sort_checkpoints(str(run), use_mtime=True, best_model_checkpoint=best)
        keep = max(limit, 2 if best in folders[:-1] else 1)
        for old in folders[:-keep] if limit > 0 else ():
            remove_checkpoint(Path(old))

    def _save_of_rank(self, folder: Path) -> None:
        """Write what each rank has of its own to a checkpoint."""

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model, as transformers' `Trainer` does. A process that is killed leaves a whole model or none."""
        if _internal_call:
            super().save_model(output_dir, _internal_call=True)
            return
        folder = Path(output_dir or self.args.output_dir)
        draft = folder / UNFINISHED_MODEL
        if self.args.should_save:
            begin_model(draft)
        self.accelerator.wait_for_everyone()
        with removed_on_error(draft):
            super().save_model(str(draft), _internal_call=True)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            put_model_in_place(draft, folder)
        if self.args.push_to_hub:
            self.push_to_hub(commit_message="Model save", revision=self.args.hub_revision)

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        super()._maybe_log_save_evaluate(*args, **kwargs)
        self._stop_if_asked()

    def _finalize_training(self, *args: Any) -> Any:
        self._stop_if_asked()
        return super()._finalize_training(*args)

    def _stop_if_asked(self) -> None:
        if self._stop_signals.asked():
            if self._saved_at != self.state.global_step:
                self._save_checkpoint(self.model, None)
                self.control = self.callback_handler.on_save(self.args, self.state, self.control)
            self._stop_signals.stop()

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

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        with reading(resume_from_checkpoint, "model"):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            for name, parameter in self.model.named_parameters():
                if not parameter.isfinite().all():
                    raise ConfigurationError(f"the model's {name} has numbers that are not finite.")

    def _load_rng_state(self, checkpoint: str | None) -> None:
        own = f"rng_state_{self.args.process_index}.pth" if self.args.world_size > 1 else "rng_state.pth"
        if checkpoint is not None and self._same_processes and not (Path(checkpoint) / own).is_file():
            raise ConfigurationError(f"{checkpoint} has no {own}: training cannot go on from it as it would have.")
        with reading(checkpoint, "random state"):
            super()._load_rng_state(checkpoint)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        whole = not (self.is_deepspeed_enabled or self.is_fsdp_enabled)  # others have files of their own names
        for name in (OPTIMIZER_NAME, SCHEDULER_NAME) if whole else ():
            if not (Path(checkpoint) / name).is_file():
                raise ConfigurationError(f"{checkpoint} has no {name}: training cannot go on from it.")
        with reading(checkpoint, "optimizer or learning-rate schedule"):
            super()._load_optimizer_and_scheduler(checkpoint)
            self._check_optimizer()
        self._load_curriculum(checkpoint)

    def _check_optimizer(self) -> None:
        """Refuse moments and steps that no training leaves."""
        for parameter, values in self.optimizer.state.items():
            for name, value in values.items():
                if not isinstance(value, torch.Tensor | int | float) or not torch.as_tensor(value).isfinite().all():
                    raise ConfigurationError(f"the optimizer's {name} must hold finite numbers.")
                if name in _MOMENTS and torch.as_tensor(value).shape != parameter.shape:
                    raise ConfigurationError(f"the optimizer's {name} is not of shape {tuple(parameter.shape)}.")
        for group in self.optimizer.param_groups:
            if not 0 <= float(group["lr"]) < float("inf"):
                raise ConfigurationError(f"the optimizer's learning rate is {group['lr']}.")
        reached = getattr(self.lr_scheduler, "last_epoch", None)
        if isinstance(reached, int) and not 0 <= reached <= self.state.global_step:
            raise ConfigurationError(f"the learning-rate schedule is at step {reached} of {self.state.global_step}.")
