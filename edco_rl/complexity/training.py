"""The student fine-tuned on a method's rows: a run like any other, that is not repeated once it is complete."""

import gc
import shutil
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from ..config import CurriculumConfig
from ..data.tokens import SupervisedRowTokenizer
from ..errors import ConfigurationError
from ..runs.recorder import Spent
from ..runs.settings import RunSettings
from ..runs.supervised import fine_tune
from ..runs.train import SUMMARY_FILE
from ..store import UNFINISHED_FOLDER, Artefact, file_checksum, load, load_same, newest_checkpoint, save_value
from .stage import Given
from .training_data import check_lengths, read_rows

ARTEFACT = "training"
# Where things go, and what is told and kept of them: none of it changes what is trained.
_WITHOUT_EFFECT = (
    *("output_", "run_name", "report_to", "disable_tqdm", "resume_", "save_", "logging_", "hub_", "push_"),
    "enable_jit_",
)


@dataclass
class Training:
    """One method's training. A small artefact in its folder says what it is made from, and whether it is complete.

    Args:
        given (`Given`):
            What it shares with the stages.
        method (`str`):
            The method.
        settings (`RunSettings`), described (`dict`):
            Of its run, and as plain values.
        rows (`Artefact`):
            What it is trained on.
        spent (`Spent`):
            What making the rows has cost.
        console (`Console`):
            Where progress is told.
    """

    given: Given
    method: str
    settings: RunSettings
    described: dict[str, Any]
    rows: Artefact
    spent: Spent
    console: Console

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return Path(self.settings.training.output_dir)

    def made_from(self) -> dict[str, Any]:
        """All that the weights and `summary.json` depend on, as JSON values."""
        curriculum = {one.name for one in fields(CurriculumConfig)}
        return {
            "rows": self.rows.fingerprint,
            "held_out": self.given.held_out_digest,
            "student": self.given.student.identity,
            "training": {
                name: value
                for name, value in self.described["training"].items()
                if not name.startswith(_WITHOUT_EFFECT)
            },
            "curriculum": {name: self.described["curriculum"][name] for name in curriculum},
            "model": self.described["model"],
            "run": self.described["run"],
        }

    def artefact(self) -> Artefact:
        """Train, unless that was done; an interrupted training goes on from its last checkpoint.

        Returns:
            `Artefact`: what was trained, with `steps`, `tokens` trained on and `seconds` of training alone.

        Raises:
            ConfigurationError: What was trained was altered, the folder holds checkpoints of something else, or
                `max_length` would cut off the answer of a row.
        """
        path, made_from = self.folder / ARTEFACT, self.made_from()
        begun = load_same(path, made_from, "remake")
        if begun is not None and begun.value["complete"]:
            altered = {name for name, _ in begun.value["files"].items() ^ self._checksums().items()}
            if altered:
                raise ConfigurationError(
                    f"{self.folder / min(altered)} was altered since it was made. Remove {path}.json to train again."
                )
            self.console.print(f"model/{self.method}: skipped, its inputs did not change", style="dim")
            return begun
        training = self.settings.training
        if training.resume_from_checkpoint is None:
            training.resume_from_checkpoint = self._last_checkpoint(begun)
        rows = read_rows(self.rows)
        tokenizer = SupervisedRowTokenizer(self.given.student.tokenizer.tokenizer, training.chat_template_kwargs)
        check_lengths(self.method, rows, tokenizer, training.max_length)
        save_value(path, made_from, {"complete": False})
        how = f"continued from {training.resume_from_checkpoint}" if training.resume_from_checkpoint else "begun"
        self.console.print(f"model/{self.method}: {how}", style="dim")
        settings = replace(self.settings, engine=self.given.student.lend())
        summary = fine_tune(settings, rows, self.given.held_out, self.described, self.spent)
        gc.collect()  # trainers hold cycles, and two models at once may be too much
        seconds = summary["seconds"]["training"] - sum(self.spent.parts.values())
        value = {"complete": True, "steps": summary["steps"], "tokens": summary["tokens"].get("trained", 0)}
        return save_value(path, made_from, {**value, "seconds": seconds, "files": self._checksums()}, seconds)

    def _last_checkpoint(self, begun: Artefact | None) -> str | None:
        """The newest complete checkpoint of this training."""
        checkpoints = list(self.folder.glob("checkpoint-*"))
        if begun is None and checkpoints:
            if load(self.folder / ARTEFACT) is None:
                raise ConfigurationError(
                    f"{self.folder} holds checkpoints of another run. Remove them, or name another output_dir."
                )
            for made_otherwise in (*checkpoints, *self.folder.glob(UNFINISHED_FOLDER)):
                shutil.rmtree(made_otherwise)
            return None
        newest, passed_over = newest_checkpoint(self.folder)
        for reason in passed_over:
            self.console.print(f"model/{self.method}: {reason}", style="dim")
        return None if newest is None else str(newest)

    def _checksums(self) -> dict[str, str]:
        paths = [self.folder / SUMMARY_FILE, *sorted(self.folder.glob("*model*.safetensors"))]
        return {path.name: file_checksum(path) for path in paths if path.is_file()}
