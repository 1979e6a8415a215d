"""Between the stages of a distillation: the weights the next one starts from, and its optimizer."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import broadcast
from datasets import Dataset
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback

from ..data.lengths import check_prompts_fit
from ..data.tokens import reference_text
from ..engine.protocol import GenerationBackend, Sampling
from ..errors import ConfigurationError
from ..rewards import rouge_l
from ..store import ARRAYS_SUFFIX, load, remove
from ..store import save_file as keep_file
from .distillation_config import BEST_ROUGE_L

BEST_FILE = f"stage_best{ARRAYS_SUFFIX}"


class BestOfStage:
    """The weights of a stage whose outputs overlap most with references: measured, kept on disk, and put back.

    Those of equal overlap that come first are kept. They are those of the trained parameters, in their own type.

    Args:
        trainer ([`CurriculumDistillationTrainer`]):
            Whose weights.
        rows (`datasets.Dataset`):
            Rows with `prompt`, and `completion` or `answer`.
        temperature (`float`):
            Temperature the outputs are sampled at; 0 is greedy.

    Attributes:
        overlap (`float` or `None`): Mean ROUGE-L of the best, 0 to 1; `None` before the first measurement of a stage.
    """

    def __init__(self, trainer: Any, rows: Dataset, temperature: float) -> None:
        self.trainer = trainer
        self.rows = rows
        self.sampling = Sampling(trainer.max_completion_length, temperature=temperature)
        self.path = Path(trainer.args.output_dir) / BEST_FILE
        self.overlap: float | None = None
        for row in rows:
            reference_text(row)
        if trainer.engine is not None:
            plain, most = rows.to_list(), trainer.engine.max_model_len()
            prompts, added = trainer.row_tokenizer.prompts(plain), trainer.max_completion_length
            check_prompts_fit(
                plain, prompts, added, most, f"stage_checkpoint {BEST_ROUGE_L} and max_completion_length"
            )

    def measure(self) -> None:
        """Measure the current weights, and keep them where they are the best so far. A collective."""
        measured = self.trainer._spread("scoring", np.arange(len(self.rows)), self._overlaps)
        overlap = float(np.mean(measured))
        self.trainer._metrics["train"]["distillation/rouge_l"].append(overlap)
        if self.overlap is not None and overlap <= self.overlap:
            return
        self.overlap = overlap
        self.trainer.check_weights(f"they are not saved to {self.path}")
        if self.trainer.accelerator.is_main_process:
            tensors = {name: parameter.detach().cpu().contiguous() for name, parameter in self._trained()}
            made_from = {"step": self.trainer.state.global_step, "rouge_l": overlap}
            keep_file(self.path, made_from, lambda draft: save_file(tensors, draft))

    def restore(self) -> None:
        """Give the model the best weights of the stage, and forget them: the next stage has its own. A collective."""
        main = self.trainer.accelerator.is_main_process
        tensors = load_file(load_best(self.path).path) if main else {}
        with torch.no_grad():
            for name, parameter in self._trained():
                if main:
                    parameter.copy_(tensors[name])
                broadcast(parameter.data)
        self.trainer.outdate_engine()  # it has others of this step
        self.overlap = None
        if main:
            remove(self.path)

    def save(self, folder: Path) -> None:
        """Have a checkpoint hold the best weights too, on the same blocks of the disk where it can."""
        if self.overlap is not None and folder / BEST_FILE != self.path:
            _copy(self.path, folder / BEST_FILE)

    def load(self, folder: Path) -> None:
        """Take up the best weights a checkpoint holds."""
        self.overlap = None
        if (folder / BEST_FILE).is_file():
            self.overlap = load_best(folder / BEST_FILE).made_from["rouge_l"]
            if self.trainer.accelerator.is_main_process and folder / BEST_FILE != self.path:
                _copy(folder / BEST_FILE, self.path)

    def _trained(self) -> Iterator[tuple[str, torch.nn.Parameter]]:
        model = self.trainer.accelerator.unwrap_model(self.trainer.model)
        return ((name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad)

    def _overlaps(self, share: list[int], backend: GenerationBackend) -> list[float]:
        rows = self.rows.select(share)
        groups = backend.generate(self.trainer.row_tokenizer.prompts(rows.to_list()), self.sampling)
        outputs = [group[0].token_ids for group in groups]
        self.trainer.tokens["scored"] += sum(map(len, outputs))
        texts = self.trainer._tokenizer.batch_decode(outputs, skip_special_tokens=True)
        return [rouge_l(reference_text(row), text) for row, text in zip(rows, texts, strict=True)]


class StageCallback(TrainerCallback):
    """Ends the stages of a distillation, each as the settings say. Comes before the callback that times the steps.

    Args:
        trainer ([`CurriculumDistillationTrainer`]):
            The trainer, with its curriculum.

    Raises:
        ConfigurationError: The settings need stages, an evaluation set, or weights in one piece, and there are none.
    """

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer
        self.best: BestOfStage | None = None
        self._stage: float | None = None
        args = trainer.args
        if args.stage_checkpoint == BEST_ROUGE_L:
            setting = f"stage_checkpoint {BEST_ROUGE_L}"
            if self._now() is None:
                raise ConfigurationError(f"{setting} needs a strategy with stages, as baby_step or pocl.")
            if trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled:
                raise ConfigurationError(f"{setting} works on whole weights: DeepSpeed and FSDP have none.")
            if not isinstance(trainer.eval_dataset, Dataset) or not len(trainer.eval_dataset):
                raise ConfigurationError(
                    f"{setting} compares outputs with the references of an evaluation set, and there is none."
                )
            self.best = BestOfStage(trainer, trainer.eval_dataset, args.stage_checkpoint_temperature)

    def _now(self) -> float | None:
        return self.trainer.curriculum.strategy.progress()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._stage = self._now()

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._now() == self._stage:
            return
        self._stage = self._now()
        if self.best is not None:
            if self.best.overlap is None:  # validation ended the stage before a pass was complete
                self.best.measure()
            self.best.restore()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.best is None:
            return
        curriculum, last = self.trainer.curriculum, state.global_step >= state.max_steps
        if last or curriculum.strategy.ends_pass(curriculum.batch_size):
            self.best.measure()
        if last:  # before a checkpoint is written, and what others measure
            self.best.restore()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.best is not None and self.best.overlap is not None:  # something else ended training
            self.best.restore()


def load_best(path: Path) -> Any:
    """The best weights of a stage at a path.

    Raises:
        ConfigurationError: They are gone, or were altered.
    """
    found = load(path)
    if found is None:
        raise ConfigurationError(f"{path} is gone: it held the best weights of a stage.")
    return found


def _copy(source: Path, target: Path) -> None:
    """Copy an artefact, by a link where the file system has them."""
    found = load_best(source)

    def write(draft: Path) -> None:
        try:
            os.link(source, draft)
        except OSError:
            shutil.copyfile(source, draft)

    keep_file(target, found.made_from, write, found.seconds)
