"""What can begin anew with each round of a curriculum: the optimizer's moments, and the learning-rate schedule."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.optim.lr_scheduler import LambdaLR
from transformers import Trainer, TrainingArguments, get_scheduler

from ..config import CurriculumConfig
from ..curriculum import Curriculum
from ..errors import ConfigurationError


class RoundsMixin(Trainer if TYPE_CHECKING else object):  # type: ignore[misc]
    """Gives a trainer with a curriculum rounds; inherit from it before the trainer."""

    lr_scheduler: Any
    curriculum: Curriculum
    _curriculum_config: CurriculumConfig

    def _check_rounds(self, config: CurriculumConfig) -> None:
        """Refuse what cannot begin anew.

        Raises:
            ConfigurationError: It names the setting.
        """
        if config.curriculum_reset_optimizer and self.is_deepspeed_enabled:
            raise ConfigurationError("curriculum_reset_optimizer: DeepSpeed keeps the optimizer's moments to itself.")
        if config.curriculum_lr_schedule_per_round and getattr(self.args, "lr_schedule_per_stage", False):
            raise ConfigurationError(
                "curriculum_lr_schedule_per_round and lr_schedule_per_stage both say when the learning-rate schedule "
                "begins anew: give one."
            )

    def _begin_round(self, stage: bool = False) -> None:
        """Let the optimizer forget, where it should. Called on every rank, at each renewal and each new stage.

        Args:
            stage (`bool`, *optional*, defaults to `False`):
                Whether a stage of the strategy begins: with a strategy that has stages, a round is one.
        """
        staged = self.curriculum.strategy.progress() is not None
        if self._curriculum_config.curriculum_reset_optimizer and stage == staged:
            self.optimizer.state.clear()  # a parameter without state gets a new one with its next gradient

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> Any:
        """The learning-rate schedule over all steps, or with `curriculum_lr_schedule_per_round` one for each round."""
        if self.lr_scheduler is not None or not self._curriculum_config.curriculum_lr_schedule_per_round:
            return super().create_scheduler(num_training_steps, optimizer)
        length = self._curriculum_config.curriculum_interval
        self.lr_scheduler = schedule_in_parts(
            self.optimizer if optimizer is None else optimizer,
            self.args,
            [length] * -(-num_training_steps // length),
            "curriculum_lr_schedule_per_round",
        )
        self._created_lr_scheduler = True
        return self.lr_scheduler


def schedule_in_parts(
    optimizer: torch.optim.Optimizer, args: TrainingArguments, lengths: Sequence[int], setting: str
) -> LambdaLR:
    """A learning-rate schedule that begins anew in each part of training.

    Args:
        optimizer (`torch.optim.Optimizer`):
            The optimizer.
        args (`TrainingArguments`):
            The schedule's settings.
        lengths (`Sequence[int]`):
            Optimizer steps of each part; the last one goes on as long as training does.
        setting (`str`):
            What asks for it, for the message.

    Raises:
        ConfigurationError: The schedule is not one that depends on the step alone.
    """
    factors, begins = [], []
    for number, length in enumerate(lengths):
        begins.append(sum(lengths[:number]))
        scheduler = get_scheduler(
            args.lr_scheduler_type,
            # A schedule sets its optimizer's learning rate as it is made: each is made on one of its own.
            optimizer=torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=args.learning_rate),
            num_warmup_steps=args.get_warmup_steps(length),
            num_training_steps=length,
            scheduler_specific_kwargs=args.lr_scheduler_kwargs,
        )
        if not isinstance(scheduler, LambdaLR):
            raise ConfigurationError(f"{setting} needs a schedule of the step alone, not {type(scheduler).__name__}.")
        factors.append(scheduler.lr_lambdas[0])

    def factor(step: int) -> float:
        part = max(number for number, begin in enumerate(begins) if begin <= step)
        return factors[part](step - begins[part])

    return LambdaLR(optimizer, factor)
