"""Distillation with a curriculum."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from datasets import Dataset
from transformers import TrainingArguments
from trl import DistillationConfig

from ..config import CurriculumConfig, EngineConfig
from ..curriculum import Outcome
from ..curriculum.pool import IndexArray
from ..data.tokens import reference_text
from ..errors import ConfigurationError
from .batches import INDEX, BatchLayout
from .callbacks import ObserveCallback
from .difficulty_mixin import DifficultyMixin
from .distillation_config import CurriculumDistillationConfig
from .distillation_loss import TokenTerms, distillation_loss
from .distillation_schedule import LossSchedule, steps_of_stages
from .distillation_stages import StageCallback
from .divergence import make_divergence, squares_temperature
from .lm_head import Head
from .padded_teacher import PaddedTeacherTrainer, check_teacher
from .pass_order import repeat_sampler_order
from .rounds import schedule_in_parts
from .scoring_mixin import SCORED_COLUMNS

logger = logging.getLogger(__name__)

_IS_REFERENCE = "is_reference"


class CurriculumDistillationTrainer(DifficultyMixin, PaddedTeacherTrainer):
    """TRL's `DistillationTrainer` with a curriculum, reference responses and POCL's schedule (arXiv 2506.05695).

    Where a strategy asks for a column `difficulty` that the data set has not, as `pocl` does, it is measured with the
    student before training, kept in a Parquet file, and read from there as long as nothing it depends on changes. A
    prompt's outcome is the share of its reference's tokens that the student ranks first, or, of the student's own
    output, its mean entropy.

    Args:
        model, teacher_model, args, train_dataset, *args, **kwargs:
            As in `trl.DistillationTrainer`; `args` can be a [`CurriculumDistillationConfig`]. The training set needs
            a column `prompt`, and `completion` or `answer` for reference responses; a column `id` is kept as the
            prompt's id.
        curriculum (`str` or [`CurriculumConfig`], *optional*, defaults to `"pocl"`), engine:
            See [`CurriculumMixin`].

    Raises:
        ConfigurationError: A bad row, setting or combination; raised before a model is loaded where possible.

    Example:

    ```python
    >>> from edco_rl import CurriculumDistillationConfig, CurriculumDistillationTrainer
    >>> trainer = CurriculumDistillationTrainer(
    ...     model="Qwen/Qwen3-0.6B",
    ...     teacher_model="Qwen/Qwen3-4B",
    ...     args=CurriculumDistillationConfig(divergence="reverse_kl", lmbda=0.0),
    ...     train_dataset=dataset,
    ...     curriculum="pocl",
    ... )
    >>> trainer.train()
    ```
    """

    _tag_names: ClassVar[list[str]] = ["trl", "distillation", "edco-rl"]
    lr_scheduler: Any
    _signature_columns: list[str] | None

    def __init__(
        self,
        model: Any,
        teacher_model: Any = None,
        args: DistillationConfig | None = None,
        *positional: Any,
        curriculum: str | CurriculumConfig = "pocl",
        **kwargs: Any,
    ) -> None:
        args = CurriculumDistillationConfig.of(args or CurriculumDistillationConfig())
        self._references: list[list[int]] | None = None
        self._student_name = model if isinstance(model, str) else None
        super().__init__(model, teacher_model, args, *positional, curriculum=curriculum, **kwargs)

    def _check_given(self, given: Mapping[str, Any], config: CurriculumConfig) -> None:
        super()._check_given(given, config)
        args, teacher = given["args"], given["teacher_model"]
        if teacher is None:
            raise ConfigurationError("Distillation needs a teacher: teacher_model, or teacher_model_name_or_path.")
        check_teacher(given["model"], teacher, given.get("processing_class"), args)
        if args.lmbda < 1:
            for row in given["train_dataset"]:
                reference_text(row)

    def _set_up(self, config: CurriculumConfig, rows: Dataset, engine: EngineConfig | None) -> None:
        if self._is_vlm:
            raise ConfigurationError("Distillation with a curriculum takes text models only.")
        if self.tools and self.args.lmbda < 1:
            raise ConfigurationError(
                f"tools are for the student's own outputs: lmbda must be 1; got {self.args.lmbda}."
            )
        name = self.args.divergence or "gkd"  # TRL's: gkd, if not on the student's outputs alone
        self.divergence = make_divergence(name, skew=self.args.skew, beta=self.beta)
        self._squared = squares_temperature(name, self.args.temperature_squared, beta=self.beta)
        self._check_references()
        if engine is not None:  # it may have to measure how difficult the rows are
            self._open_engine_for_rollouts(engine)
        self.add_callback(ObserveCallback(self))
        self._init_curriculum(config, self._with_difficulty(rows, config))
        if engine is not None and self.args.lmbda > 0:
            self._check_rollouts_fit(evaluation=self.args.lmbda == 1)
        self.loss_schedule = LossSchedule.of(self.args, self.curriculum.strategy)
        self._stages = StageCallback(self)
        self.add_callback(self._stages)
        lengths = self.curriculum.strategy.stage_lengths(self.curriculum.batch_size) or [None]
        given = self.args.max_steps > 0 or self.args.num_train_epochs != TrainingArguments.num_train_epochs
        if not given and None not in lengths:
            self.args.max_steps = sum(length for length in lengths if length is not None)

    @classmethod
    def batch_layout(cls, args: Any) -> BatchLayout:
        return BatchLayout.of_optimizer_steps(args)

    def _pass_order(self, epoch: int) -> IndexArray:
        return repeat_sampler_order(len(self.train_dataset), self.args.seed, epoch, self.shuffle_dataset)

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        assert self._signature_columns is not None
        self._signature_columns = [*self._signature_columns, "completion", "answer"]

    def _check_references(self) -> None:
        """Say how many reference responses are cut, where they are used."""
        if self.args.lmbda == 1:
            return
        evaluated = [self.eval_dataset] if isinstance(self.eval_dataset, Dataset) else []
        for dataset in (self.train_dataset, *evaluated):
            columns = [name for name in SCORED_COLUMNS if name in dataset.column_names]
            rows = self.row_tokenizer.with_references(dataset.select_columns(columns).to_list())
            lengths = [len(row.reference) for row in rows]
            cut = sum(length > self.max_completion_length for length in lengths)
            if cut and self.accelerator.is_main_process:
                logger.warning(
                    "%d of %d reference responses are cut: they are longer than max_completion_length, %d tokens.",
                    cut,
                    len(lengths),
                    self.max_completion_length,
                )

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> Any:
        """TRL's learning-rate schedule over all steps, or with `lr_schedule_per_stage` anew in each stage."""
        if self.lr_scheduler is not None or not self.args.lr_schedule_per_stage:
            return super().create_scheduler(num_training_steps, optimizer)
        lengths = steps_of_stages(self.curriculum.strategy, self.curriculum.batch_size, num_training_steps)
        self.lr_scheduler = schedule_in_parts(
            self.optimizer if optimizer is None else optimizer, self.args, lengths, "lr_schedule_per_stage"
        )
        self._created_lr_scheduler = True
        return self.lr_scheduler

    def save_curriculum(self, folder: str | Path) -> None:
        if self._stages.best is not None and self.accelerator.is_main_process:
            self._stages.best.save(Path(folder))
        super().save_curriculum(folder)

    def _load_curriculum(self, folder: str | Path) -> None:
        super()._load_curriculum(folder)
        if self._stages.best is not None:
            self._stages.best.load(Path(folder))

    def loss_settings(self) -> tuple[float, float]:
        """Temperature and weight of the divergence for the current batch."""
        progress = self.curriculum.strategy.progress()
        if progress is None:  # no stages: over the steps of the run
            progress = min(self.state.global_step / max(self.state.max_steps - 1, 1), 1.0)
        return self.loss_schedule.at(progress)

    def _is_on_policy(self) -> bool:
        """Whether the student writes the completions of this batch: the same on every rank, and after a restart."""
        if not self.model.training:
            return self.args.lmbda == 1
        return np.random.default_rng((self.args.seed, self.state.global_step)).random() < self.args.lmbda

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        on_policy = self._is_on_policy()
        if not on_policy:
            rows = self.row_tokenizer.with_references(inputs)
            self._references = [row.reference[: self.max_completion_length] for row in rows]
        try:
            batch = super()._generate_and_score_completions(inputs)
        finally:
            self._references = None
        device = batch["completion_ids"].device
        if on_policy and self.model.training:
            self.tokens["generated"] += int(batch["completion_mask"].sum())
        batch[_IS_REFERENCE] = torch.full((len(inputs),), not on_policy, device=device)
        if self.model.training:
            first = self.accelerator.process_index * len(inputs)
            indices = self.curriculum.batch[first : first + len(inputs)]
            batch[INDEX] = torch.tensor(indices, device=device)
            self._metrics["train"]["distillation/on_policy"].append(float(on_policy))
        return batch

    def _generate_single_turn(self, *args: Any, **kwargs: Any) -> Any:
        if self._references is not None:
            return self._references
        if self._connection is not None:  # the engine's generation takes its own time
            return super()._generate_single_turn(*args, **kwargs)
        with self.stopwatch("rollout"), self.sampling():
            return super()._generate_single_turn(*args, **kwargs)

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        loss = super().compute_loss(model, inputs, *args, **kwargs)
        mode = "train" if self.model.training else "eval"
        divergence, nll, tokens, reference_tokens = self.accelerator.gather(self._sums).view(-1, 4).sum(dim=0).tolist()
        found = {"divergence": divergence / max(tokens, 1)}
        if reference_tokens:
            found["nll"] = nll / reference_tokens
        found["temperature"], found["weight"] = self.loss_settings()
        for name, value in found.items():
            self._metrics[mode][f"distillation/{name}"].append(value)
        return loss

    def _compute_loss(
        self, unwrapped_student: Any, inputs: dict[str, Any], num_items_in_batch: torch.Tensor | int | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        # TRL's, with another function of the hidden states.
        ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1)
        mask = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1)
        counted = inputs["completion_mask"].bool()
        if "tool_mask" in inputs:
            counted &= inputs["tool_mask"].bool()
        kept = counted.size(1)
        student_hidden = self._get_last_hidden_state(unwrapped_student, ids, mask, kept)
        self.teacher_model.eval()
        teacher = self.accelerator.unwrap_model(self.teacher_model)
        with torch.no_grad():
            teacher_hidden = self._forward_redirection(
                self.teacher_model, teacher, self._get_last_hidden_state, teacher, ids, mask, kept
            )
        heads = Head.of(unwrapped_student), Head.of(teacher)
        device = heads[0].weight.device
        if heads[1].weight.device != device:
            raise ConfigurationError(
                f"The student's LM head is on {device}, the teacher's on {heads[1].weight.device}: place both on one."
            )
        counted = counted.to(device)
        is_reference = inputs[_IS_REFERENCE].to(device)
        temperature, weight = self.loss_settings()
        total, terms = distillation_loss(
            student_hidden.to(device)[counted],
            teacher_hidden.to(device)[counted],
            *heads,
            inputs["completion_ids"].to(device)[counted],
            is_reference.unsqueeze(1).expand_as(counted)[counted].float(),
            divergence=self.divergence,
            temperature=temperature,
            weight=weight,
            squared=self._squared,
        )
        tokens = counted.sum()
        reference_tokens = counted[is_reference].sum() if weight < 1 else tokens.new_zeros(())
        self._sums = torch.stack([terms.divergence.sum(), terms.nll.sum(), tokens, reference_tokens])
        if self.model.training:
            assert self._row_indices is not None
            self._outcomes += self._row_outcomes(self._row_indices.tolist(), is_reference, counted, terms)
        items = tokens.clamp(min=1) if num_items_in_batch is None else num_items_in_batch
        return total / items, terms.entropy.sum(), tokens

    def _row_outcomes(
        self, indices: Sequence[int], is_reference: torch.Tensor, counted: torch.Tensor, terms: TokenTerms
    ) -> list[Outcome]:
        """What each row of a batch with completion tokens said; `terms` are those of the tokens that count."""
        lengths = counted.sum(dim=1).tolist()
        outcomes = []
        for index, reference, entropy, top1 in zip(
            indices, is_reference.tolist(), terms.entropy.split(lengths), terms.is_top1.split(lengths), strict=True
        ):
            if not len(entropy):
                continue
            said = {"rewards": (top1.mean().item(),)} if reference else {"entropy": entropy.mean().item()}
            outcomes.append(Outcome(index=index, version=self.state.global_step, **said))
        return outcomes
