"""How the stages of a run hang together: what each is given, and by which of those before it was made."""

import copy
import json
from collections import Counter
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from datasets import Dataset
from rich.console import Console
from transformers import AutoConfig, AutoTokenizer

from ..config import ComplexityConfig
from ..data.tokens import RowTokenizer
from ..runs.recorder import Spent
from ..runs.settings import RunSettings, plain_values
from ..runs.train import SUMMARY_FILE
from ..store import Artefact, once_value
from .baselines import METHOD, SCORE_METHODS, TEACHER_METHODS, curriculum_of
from .chain_entropy import ChainEntropy
from .connection import TeacherConnection
from .evaluation import Evaluation, accuracies
from .judge import Judge
from .prediction import prediction
from .rating import Rating
from .reasoning import Reasoning, account, read_chains
from .scores import ComplexityScorer, HeldOutScores, Scores
from .split import LEFT_OUT, Split, describe_split, read_split
from .stage import Given, Shelf, Stage
from .student import Student
from .training import Training
from .training_data import TrainingData

BASELINES_FOLDER = "baselines"
_SHARED = ("scores", "split", "held_out_scores")
_ONE_A_METHOD = ("reasoning", "training_data", "evaluation")


class Pipeline:
    """The stages of a run, each made when it is first asked for. Use it as a context manager: it ends the engines it
    started.

    Args:
        settings (`RunSettings`):
            The run's.
        config (`ComplexityConfig`):
            Its settings of complexity-aware fine-tuning.
        train (`datasets.Dataset`), held_out (`datasets.Dataset`), described (`dict`):
            As of [`~edco_rl.runs.settings.prepare`].
        console (`Console`):
            Where progress is told.

    Raises:
        ConfigurationError: Rows or settings that cannot be used; raised before an engine is started.
    """

    def __init__(
        self,
        settings: RunSettings,
        config: ComplexityConfig,
        train: Dataset,
        held_out: Dataset,
        described: dict[str, Any],
        console: Console,
    ) -> None:
        name = settings.model.model_name_or_path
        assert name and not isinstance(config.complexity_replace_artefacts, str)  # both were checked
        self.settings = settings
        self.config = config
        self.described = described
        self.console = console
        self.folder = Path(settings.training.output_dir)
        self.methods = [METHOD, *config.complexity_baselines]
        rivals = [f"rivals/{name}" for name in config.complexity_rivals]
        known = [*_SHARED, *rivals, *(f"{stage}/{method}" for stage in _ONE_A_METHOD for method in self.methods)]
        self.shelf = Shelf(self.folder, config.complexity_replace_artefacts or {}, known, console)
        judge = Judge.of(settings.run, train.column_names)
        tokenizer = RowTokenizer(AutoTokenizer.from_pretrained(name), settings.training.chat_template_kwargs)
        self.width = AutoConfig.from_pretrained(name).get_text_config().vocab_size
        self.scorer = ComplexityScorer(tokenizer, config, self.width, judge)
        self.scorer.check(train)
        if config.complexity_last_stage == "evaluation":
            self.scorer.check(held_out)
        student = Student(name, settings.engine, tokenizer, self.folder / "engine.log")
        self.given = Given(config, settings.training.seed, train, held_out, student, judge)
        self.teacher = TeacherConnection(config, settings.engine, student, self.folder)
        self.reasoning: dict[str, Artefact] = {}
        self.rows: dict[str, Artefact] = {}
        self.models: dict[str, Artefact] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.teacher.close()
        self.given.student.close()

    @cached_property
    def scores(self) -> Artefact:
        """Complexity of each training row, and whether the student's answer is right."""
        return self.shelf.get(Scores(self.given, self.scorer))

    def prediction(self) -> dict[str, Any]:
        """How well complexity and its rivals predict a wrong answer."""
        rivals: dict[str, Artefact] = {
            name: self.shelf.get(self._rival(name)) for name in self.config.complexity_rivals
        }
        prints = {name: artefact.fingerprint for name, artefact in rivals.items()}
        made_from = {"scores": self.scores.fingerprint, "rivals": prints, "seed": self.given.seed}

        def make() -> dict[str, Any]:
            tables = {name: pq.read_table(artefact.path) for name, artefact in rivals.items()}
            return prediction(pq.read_table(self.scores.path), tables, self.given.seed)

        return once_value(self.folder / "prediction", made_from, make, "remake").value

    def _rival(self, name: str) -> Stage:
        return ChainEntropy(self.given, self.width) if name == "chain" else Rating(self.given, name, self.teacher)

    @cached_property
    def split(self) -> Artefact:
        """Class of each row."""
        return self.shelf.get(Split(self.given, self.scores))

    @cached_property
    def hard_held_out(self) -> list[str]:
        """Ids of the held-out rows that are as complex, under the untrained student, as the hard class."""
        scores, classes = read_split(self.split.path, self.config)
        table = pq.read_table(self.shelf.get(HeldOutScores(self.given, self.scorer)).path)
        least = min(scores[classes == len(self.config.split_points)], default=np.inf)
        return table.filter(pc.greater_equal(table["score"], least))["id"].to_pylist()

    def classes(self) -> dict[str, Any]:
        """Rows of each class and of those left out, and their complexity."""
        for name, count in (self.split.value or {}).items():
            self.console.print(f"split: {count} rows are {name}", style="dim")
        return describe_split(self.split.path, self.config)

    def ask(self) -> None:
        """Get the chains of thought of the methods that want some."""
        for method in (method for method in self.methods if method in TEACHER_METHODS):
            stage = Reasoning(self.given, method, self.split, self.teacher)
            self.reasoning[method] = self.shelf.get(stage)
            self.console.print(stage.outcome(self.reasoning[method].path), soft_wrap=True)
        self.teacher.close()

    def make_rows(self) -> None:
        """Make what each method is trained on."""
        for method in self.methods:
            stage = TrainingData(self.given, method, self.split, self.reasoning.get(method))
            self.rows[method] = self.shelf.get(stage)

    def fine_tune(self) -> dict[str, Any]:
        """Train each method, the first of them in the run's own folder.

        Returns:
            `dict[str, Any]`: what that one's `summary.json` holds.
        """
        for method in self.methods:
            self.models[method] = self._training(method).artefact()
        return json.loads((self.folder / SUMMARY_FILE).read_text())

    def table(self) -> list[dict[str, Any]]:
        """What the untrained student and each method's model are worth, and have cost: the lines of the table."""
        return [self._line(method) for method in ("untrained", *self.methods)]

    def _training(self, method: str) -> Training:
        settings, described = self.settings, self.described
        if method != METHOD:  # a run of its own
            training = copy.deepcopy(settings.training)
            training.output_dir, training.resume_from_checkpoint = str(self._folder(method)), None
            curriculum = curriculum_of(method, self.config)
            settings = replace(
                settings,
                method=replace(settings.method, name=f"{settings.method.name}/{method}"),
                training=training,
                curriculum=curriculum,
            )
            described = {
                **described,
                "training": described["training"] | {"output_dir": training.output_dir},
                "curriculum": plain_values(curriculum),
            }
        spent = self._spent(method)
        return Training(self.given, method, settings, described, self.rows[method], spent, self.console)

    def _folder(self, method: str) -> Path:
        return self.folder if method == METHOD else self.folder / BASELINES_FOLDER / method

    def _spent(self, method: str) -> Spent:
        tokens, parts = Counter[str](), {}
        if method in SCORE_METHODS:
            tokens["scored"] = pc.sum(pq.read_table(self.scores.path, columns=["tokens"])["tokens"]).as_py()
            parts["scoring"] = self.scores.seconds
        if method in self.reasoning:
            paid = account(read_chains(self.reasoning[method].path), self.config)
            tokens["teacher"] = paid["prompt_tokens"] + paid["answer_tokens"]
            parts["teacher"] = self.reasoning[method].seconds
        return Spent(tokens, parts)

    def _line(self, method: str) -> dict[str, Any]:
        model, rows, chains = (made.get(method) for made in (self.models, self.rows, self.reasoning))
        folder = None if model is None else self._folder(method)
        evaluation = self.shelf.get(Evaluation(self.given, method, model, folder))
        reasoning = [] if rows is None else pq.read_table(rows.path)["reasoning"].to_pylist()
        _, classes = read_split(self.split.path, self.config)
        return {
            "method": method,
            "reasoning_share": rows and sum(reasoning) / int((classes != LEFT_OUT).sum()),
            "rows": rows and {"trained_on": len(reasoning), **(rows.value or {})},
            "teacher": chains and account(read_chains(chains.path), self.config),
            "evaluation": accuracies(pq.read_table(evaluation.path), self.hard_held_out),
            "training": model and {name: model.value[name] for name in ("steps", "tokens", "seconds")},
        }
