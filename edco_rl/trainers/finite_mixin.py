"""The mixin that keeps numbers which are not finite out of the weights, and their prompts out of training."""

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import gather_object
from transformers import Trainer

from ..config import CurriculumConfig
from ..curriculum import Curriculum
from ..errors import EdcoRLError
from ..finite_weights import NotFiniteError, check_finite_weights
from ..store import write_lines

logger = logging.getLogger(__name__)

QUARANTINE_FILE = "quarantine.jsonl"
_SHOWN = 8


class FiniteMixin(Trainer if TYPE_CHECKING else object):  # type: ignore[misc]
    """Gives a trainer with a curriculum a quarantine; inherit from it before the trainer.

    An optimizer step whose loss or gradient is not finite is left out, before it changes a weight. Under DeepSpeed,
    which steps by itself, only the weights are checked; gradients that overflow in float16 are its loss scaler's.
    """

    curriculum: Curriculum
    step_skipped: bool
    """Whether the latest optimizer step was left out."""
    _curriculum_config: CurriculumConfig
    _suspects: list[tuple[int, str]]
    _rows_in_step: list[int]

    def _trained_modules(self) -> list[torch.nn.Module]:
        """The model, and what else the optimizer trains."""
        return [self.model]

    def check_weights(self, consequence: str, *, frozen: bool = False) -> None:
        """Refuse weights that are not finite, see [`~edco_rl.finite_weights.check_finite_weights`].

        A collective where they are sharded. Otherwise they are the same on all ranks, and one may save them alone.
        """
        sharded = self.is_fsdp_enabled or self.is_deepspeed_enabled
        step = self.state.global_step
        check_finite_weights(self._trained_modules(), step, consequence, frozen=frozen, gather=sharded)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model as the trainer does, unless its weights are not finite.

        Raises:
            NotFiniteError: They are not; nothing is written.
        """
        folder = output_dir if output_dir is not None else self.args.output_dir
        self.check_weights(f"they are not saved to {folder}")
        super().save_model(output_dir, _internal_call)

    def quarantine(self, found: Sequence[tuple[int, str]]) -> None:
        """Put prompts in quarantine, the same on every rank: they are not drawn again.

        Args:
            found (`Sequence[tuple[int, str]]`):
                Prompts, as indices into the pool, and why.

        Raises:
            NotFiniteError: There are now more than `max_quarantined_prompts`.
        """
        step = self.state.global_step
        reasons = [reason for index, reason in found if self.curriculum.quarantine.add(index, step, reason)]
        self._report_quarantine(reasons)

    def _report_quarantine(self, reasons: Sequence[str]) -> None:
        if not reasons:
            return
        entries, most = self.curriculum.quarantine.entries, self._curriculum_config.max_quarantined_prompts
        path = Path(self.args.output_dir) / QUARANTINE_FILE
        if self.accelerator.is_main_process:
            write_lines(path, ({"id": key, **entry} for key, entry in entries.items()))
            for reason in reasons:
                logger.warning("%s The prompt is not drawn again; %d are in %s.", reason, len(entries), path)
        if len(entries) > most:
            raise NotFiniteError(
                f"At optimizer step {self.state.global_step} {len(entries)} prompts are in quarantine, and "
                f"max_quarantined_prompts is {most}. {path} has all, the last is: {reasons[-1]}"
            )

    def _note_loss(self, loss: torch.Tensor, indices: torch.Tensor | None) -> None:
        """Remember the rows of a micro-batch, and that its loss is not finite."""
        rows = [] if indices is None else indices.tolist()
        self._rows_in_step += rows
        value = loss.detach().mean().item()
        if math.isfinite(value):
            return
        reason = f"The loss of a micro-batch was {value}; its prompts were {self._name_prompts(rows)}."
        self._suspects += [(row, reason) for row in self._rows_at_fault(rows)] or [(-1, reason)]

    def _rows_at_fault(self, rows: list[int]) -> list[int]:
        """Of the rows of a micro-batch whose loss is not finite, those that it can come from."""
        return rows

    def _name_prompts(self, rows: Sequence[int]) -> str:
        ids = self.curriculum.pool.ids_of(list(dict.fromkeys(rows)))
        more = f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else ""
        return ", ".join(map(repr, ids[:_SHOWN])) + more if ids else "not known"

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        """The norm as the trainer takes it before each optimizer step; `None` where that step is left out."""
        norm = super()._get_grad_norm(model, grad_norm)
        return norm if self._may_step([norm, *map(gradient_norm, self._trained_modules()[1:])]) else None

    def _may_step(self, norms: Sequence[Any]) -> bool:
        """Whether losses and gradients are finite, on all ranks; otherwise gradients are cleared, and it is counted.

        Raises:
            NotFiniteError: More than `max_skipped_steps` in a row were left out.
        """
        suspects, rows = self._suspects, self._rows_in_step
        self._suspects, self._rows_in_step = [], []
        wrong = [float(norm) for norm in norms if norm is not None and not math.isfinite(norm)]
        if getattr(self.accelerator, "scaler", None) is not None and not suspects:
            wrong = []  # it lowers its scale, and leaves the step out by itself
        if self.accelerator.num_processes > 1:
            everyone = gather_object([(suspects, rows, wrong)])
            suspects, rows, wrong = (list(chain(*parts)) for parts in zip(*everyone, strict=True))
        self.step_skipped = bool(suspects or wrong)
        quarantine = self.curriculum.quarantine
        if not self.step_skipped:
            self._report_quarantine([quarantine.entries[prompt_id]["reason"] for prompt_id in quarantine.done()])
            return True
        self.optimizer.zero_grad()  # a parameter without a gradient is left alone, by weight decay as well
        quarantine.skip(self.state.global_step, [(row, reason) for row, reason in suspects if row >= 0])
        why = suspects[0][1] if suspects else f"The norm of the gradients was {wrong[0]}."
        if not suspects:
            why += f" The prompts were {self._name_prompts(rows)}."
        said = f"Optimizer step {self.state.global_step + 1} is left out, before it changes the weights. {why}"
        if quarantine.skipped_in_a_row > self._curriculum_config.max_skipped_steps:
            raise NotFiniteError(
                f"{said} That makes {quarantine.skipped_in_a_row} in a row, and max_skipped_steps is "
                f"{self._curriculum_config.max_skipped_steps}. {self._advice()}"
            )
        if self.accelerator.is_main_process:
            logger.warning(said)
        return False

    def _advice(self) -> str:
        return (
            f"Training has probably diverged: lower learning_rate, {self.args.learning_rate}, and resume from a "
            "checkpoint before that."
        )

    def _note_rewards(self, given: bool, names: Sequence[str]) -> None:
        """Count a generation batch, with any reward or without.

        Raises:
            EdcoRLError: More than `max_skipped_steps` in a row had none.
        """
        quarantine, most = self.curriculum.quarantine, self._curriculum_config.max_skipped_steps
        quarantine.reward(given)
        if quarantine.unrewarded_in_a_row > most:
            raise EdcoRLError(
                f"At optimizer step {self.state.global_step} {quarantine.unrewarded_in_a_row} generation batches in a "
                f"row got no reward at all from {', '.join(names)}, and max_skipped_steps is {most}. Do the reward "
                "functions fit the data set?"
            )

    def check_end(self) -> None:
        """Refuse to end well where the last optimizer step was left out or ruined the weights, or no completion ever
        got a reward.

        Raises:
            EdcoRLError: The run has nothing to show.
        """
        quarantine = self.curriculum.quarantine
        if quarantine.skipped_in_a_row:
            raise NotFiniteError(
                f"Training ended with {quarantine.skipped_in_a_row} optimizer steps left out, because a loss or "
                f"gradient was not finite, and none after them. {self._advice()}"
            )
        if quarantine.unrewarded_in_a_row and not quarantine.rewarded:
            raise EdcoRLError(
                "Training has ended, and no completion got a reward. Do the reward functions fit the data set?"
            )
        self.check_weights("training has nothing to show")

    @contextmanager
    def sampling(self) -> Iterator[None]:
        """Says what is wrong where transformers finds next-token probabilities that nothing can be sampled from."""
        try:
            yield
        except RuntimeError as error:
            if "probability tensor contains" not in str(error):
                raise
            raise NotFiniteError(
                f"After optimizer step {self.state.global_step} the model's next-token probabilities are not finite. "
                f"{self._advice()}"
            ) from None


def gradient_norm(module: torch.nn.Module) -> torch.Tensor:
    """Norm of the gradients of a module, 0 without any."""
    gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    return torch.nn.utils.get_total_norm(gradients)
