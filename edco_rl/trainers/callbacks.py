"""When a trainer with a curriculum observes, renews and reports."""

import time
from typing import Any

import numpy as np
import torch
from transformers import TrainerCallback

from ..errors import ConfigurationError
from ..finite_weights import NotFiniteError


class ObserveCallback(TrainerCallback):
    """Tells the curriculum what a step's rows said, where no rollouts do. Comes before the one that renews it."""

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.trainer.observe_step()


class CurriculumCallback(TrainerCallback):
    """Renews the curriculum at step 0 and every `curriculum_interval` steps, tells it of evaluations and its trainer
    of new stages, and times the steps."""

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer
        self._began = 0.0
        self._before: dict[str, float] = {}
        self._stage: float | None = None
        self._save_later = False

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        loader = kwargs.get("train_dataloader")
        if loader is not None and getattr(loader, "batch_sampler", None) is not self.trainer._batch_sampler:
            raise ConfigurationError(
                "The training data loader is not the curriculum's, which could not know what is trained on: let a "
                "get_train_dataloader of your own hand on what super().get_train_dataloader() returns."
            )
        self.trainer.check_weights("they cannot be trained", frozen=True)
        self._stage = self.trainer.curriculum.strategy.progress()
        self.trainer._batch_sampler.step_done()
        self._renew_if_due(state)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.trainer.check_end()

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: dict[str, float] | None = None, **kwargs: Any
    ) -> None:
        if metrics and "eval_loss" in metrics:
            if not np.isfinite(metrics["eval_loss"]):
                raise NotFiniteError(f"After optimizer step {state.global_step} eval_loss is {metrics['eval_loss']}.")
            self.trainer.curriculum.validate(metrics["eval_loss"])

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        stage = self.trainer.curriculum.strategy.progress()
        if stage != self._stage:  # the batches of this step are drawn already
            self._stage = stage
            self.trainer._begin_round(stage=True)
        self._began = time.perf_counter()
        self._before = dict(self.trainer.stopwatch.seconds)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.trainer._batch_sampler.step_done()
        control.should_save |= self._save_later
        self._save_later = control.should_save and self.trainer.step_skipped
        control.should_save &= not self._save_later  # the weights may be ruined: older checkpoints stay
        self._renew_if_due(state)
        seconds = self.trainer.stopwatch.seconds
        total = time.perf_counter() - self._began
        parts = {part: seconds[part] - self._before.get(part, 0.0) for part in seconds if part != "optimizer"}
        parts["optimizer"] = total - sum(parts.values())  # what no other part has claimed
        seconds["optimizer"] = seconds.get("optimizer", 0.0) + parts["optimizer"]
        for part, value in {**parts, "step": total}.items():
            self.trainer._metrics["train"][f"time/{part}"].append(value)

    def _renew_if_due(self, state: Any) -> None:
        step = state.global_step
        if self.trainer.renews_at(step) and self.trainer.curriculum.renewed_at != step:
            self.trainer.renew_curriculum()


class ValueFunctionCallback(TrainerCallback):
    """Clips and clears the value function's gradients, as the trainer does with those of its model."""

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if args.max_grad_norm > 0:  # apart from the policy's: neither is to shrink the other's
            torch.nn.utils.clip_grad_norm_(self.trainer.value_function.parameters(), args.max_grad_norm)

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.trainer.optimizer.zero_grad()
        self.trainer.repeat_value_steps()
