"""The stages of a run: what each depends on, and what it makes."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from transformers import AutoConfig, AutoTokenizer
from trl import ModelConfig, SFTConfig

from ..config import ComplexityConfig, EngineConfig, EstimatorConfig
from ..errors import ConfigurationError
from ..rewards import default_reward, get_reward
from ..store import model_fingerprint
from .connection import TeacherConnection
from .methods import rows_for_teacher, training_rows
from .reasoning import SCHEMA as CHAINS
from .reasoning import account, chains_of_column, chains_of_teacher, count, named, read_chains, to_table
from .scores import SCHEMA as SCORES
from .scores import ComplexityScorer, prediction
from .split import CLASSES, split_by_quantiles, split_by_thresholds
from .stages import Artefact, Stages, check_table, content_digest, in_parts, write_table
from .student import Student
from .teacher import Asked, TeacherError
from .train import FORMS, accuracies, describe_training, evaluate, train_method

# How the teacher is asked, not what it answers.
_MANNERS = (
    "teacher_cache",
    "teacher_key_variable",
    "teacher_concurrency",
    "teacher_requests_per_minute",
    "teacher_attempts",
    "teacher_backoff",
    "teacher_timeout",
    "teacher_max_failures",
)


class Pipeline:
    """Runs stages in the run's folder. Use it as a context manager: it ends the engines it started.

    Args:
        train (`datasets.Dataset`), held_out (`datasets.Dataset`):
            Training and held-out rows, as of [`~edco_rl.data.load.load_prompts`].
        training (`SFTConfig`), model (`ModelConfig`), config (`ComplexityConfig`), engine (`EngineConfig`):
            Settings.
        versions (`Mapping[str, str]`):
            Noted in manifests.
        console (`Console`):
            Where progress is told.

    Raises:
        ConfigurationError: Rows that cannot be used; raised before an engine is started.
    """

    def __init__(
        self,
        train: Dataset,
        held_out: Dataset,
        training: SFTConfig,
        model: ModelConfig,
        config: ComplexityConfig,
        engine: EngineConfig,
        versions: Mapping[str, str],
        console: Console,
    ) -> None:
        assert model.model_name_or_path
        self.train = train
        self.held_out = held_out
        self.training = training
        self.model_config = model
        self.config = config
        self.engine = engine
        self.console = console
        self.reward_name = _reward_name(train)
        self.reward = get_reward(self.reward_name)
        self.name = model.model_name_or_path
        self.tokenizer = AutoTokenizer.from_pretrained(self.name)
        width = AutoConfig.from_pretrained(self.name).get_text_config().vocab_size
        self.scorer = ComplexityScorer(self.tokenizer, config, width, self.reward)
        self.scorer.check(train)
        folder = Path(training.output_dir)
        assert not isinstance(config.replace_artefacts, str)  # the configuration has parsed it
        self.stages = Stages(folder, versions, config.replace_artefacts, console)
        self.student = Student(self.name, engine, self.tokenizer, folder / "engine.log")
        self.teacher = TeacherConnection(config, engine, self.student, folder)
        self._train_digest = content_digest(train)
        self._student_identity = {
            "model": self.name,
            "files": model_fingerprint(self.name),
            "engine": engine.engine_mode,
        }
        self._student_identity |= {"dtype": engine.engine_dtype, "chat_template_kwargs": config.chat_template_kwargs}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.teacher.close()
        self.student.close()

    def scores(self) -> Artefact:
        """Complexity of each training row under the student, and whether its answer is right: `scores.parquet`."""

        def make(folder: Path) -> dict[str, Any]:
            backend = self.student.serving()
            table = in_parts(
                folder,
                self.train,
                self.config.part_prompts,
                lambda rows: self.scorer.score(rows, backend),
                "Scoring",
            )
            _finish(folder, "scores.parquet", table)
            return {"rows": len(table)}

        inputs = {
            "student": self._student_identity,
            "rows": self._train_digest,
            "estimator": {field.name: getattr(self.config, field.name) for field in fields(EstimatorConfig)},
            "reward": self.reward_name,
            "answer_tokens": self.config.answer_tokens,
        }
        artefact = self.stages.run("scores", "scores.parquet", inputs, make)
        check_table(artefact, SCORES.names, self.train)
        return artefact

    def prediction(self, scores: Artefact) -> dict[str, Any]:
        """How well complexity predicts a wrong answer: `prediction.json`."""

        def make(folder: Path) -> dict[str, Any]:
            found = prediction(pq.read_table(scores.file), self.training.seed)
            (folder / "prediction.json").write_text(json.dumps(found, indent=2) + "\n")
            return {}

        inputs = {"scores": scores.digest, "seed": self.training.seed}
        return json.loads(self.stages.run("prediction", "prediction.json", inputs, make).file.read_text())

    def split(self, scores: Artefact) -> Artefact:
        """Class of each row, with its complexity: `split.parquet`."""

        def make(folder: Path) -> dict[str, Any]:
            table = pq.read_table(scores.file)
            values = np.array(table["score"].to_pylist(), dtype=np.float64)
            cut = split_by_quantiles if self.config.split_by == "quantiles" else split_by_thresholds
            classes = cut(values, table["id"].to_pylist(), self.config.split_points)
            names = CLASSES[len(self.config.split_points)]
            write_table(
                folder / "split.parquet",
                pa.table(
                    {"id": table["id"], "score": table["score"], "class": classes, "name": np.take(names, classes)}
                ),
            )
            return {
                name: {
                    "rows": int((classes == number).sum()),
                    "lowest": float(values[classes == number].min()),
                    "highest": float(values[classes == number].max()),
                }
                for number, name in enumerate(names)
            }

        inputs = {
            "scores": scores.digest,
            "split_by": self.config.split_by,
            "split_points": self.config.split_points,
        }
        artefact = self.stages.run("split", "split.parquet", inputs, make)
        check_table(artefact, ["id", "score", "class"], self.train)
        return artefact

    def reasoning(self, method: str, split: Artefact) -> Artefact:
        """Chains of thought a method wants, each right, wrong, failed or pending: `reasoning.parquet`."""
        _, classes = _read_split(split)
        rows = self.train.select(rows_for_teacher(method, classes, self.training.seed))

        def make(folder: Path) -> dict[str, Any]:
            asked = Asked()
            if self.config.teacher == "column":
                chains = chains_of_column(
                    rows, self.config, self.reward, lambda text: len(self.tokenizer(text)["input_ids"])
                )
            else:
                with _bar(f"Asking the teacher for {method}", len(rows)) as report:
                    teacher = self.teacher.open()
                    chains, asked = chains_of_teacher(rows, teacher, self.config, self.reward, report)
            write_table(folder / "reasoning.parquet", to_table(chains))
            counts = count(chains)
            if counts["pending"] and (asked.refused or self.config.pending_reasoning == "stop"):
                raise TeacherError(
                    f"{method}: {asked.stopped}. Of {len(rows)} rows {named(counts)}. Answers are kept: the same "
                    "command goes on with the failed and pending ones, after teacher_token_budget or "
                    "teacher_price_budget was raised, or the teacher answers again. pending_reasoning answer or drop "
                    "trains without them."
                )
            return account(chains, self.config)

        settings = {name: value for name, value in asdict(self.config).items() if name.startswith("teacher")}
        inputs = {
            "rows": content_digest(rows),
            "teacher": {name: value for name, value in settings.items() if name not in _MANNERS},
            "identity": self.teacher.identity,
            "pending_reasoning": self.config.pending_reasoning,
            "reasoning_instruction": self.config.reasoning_instruction,
            "answer_line": self.config.answer_line,
            "reward": self.reward_name,
        }
        artefact = self.stages.run(f"reasoning/{method}", "reasoning.parquet", inputs, make)
        check_table(artefact, CHAINS.names, rows)
        counts = count(read_chains(artefact.file))
        self.console.print(f"{method}: of {len(rows)} chains of thought {named(counts)}")
        if counts["failed"] and self.config.teacher != "column":
            self.console.print(f"Without {artefact.folder}, the same command asks for the failed ones again.")
        return artefact

    def training_data(self, method: str, split: Artefact, reasoning: Artefact | None) -> Artefact:
        """What a method trains on: `rows.parquet`."""
        scores, classes = _read_split(split)

        def make(folder: Path) -> dict[str, Any]:
            chains = {} if reasoning is None else {chain.id: chain for chain in read_chains(reasoning.file)}
            rows, counts = training_rows(method, self.train, scores, classes, chains, self.config, self.training.seed)
            write_table(folder / "rows.parquet", pa.Table.from_pylist(rows))
            return counts

        inputs = {
            "rows": self._train_digest,
            "split": split.digest,
            "reasoning": reasoning and reasoning.digest,
            "seed": self.training.seed,
            **_some(
                self.config,
                "reasoning_instruction",
                "unusable_reasoning",
                "pending_reasoning",
                "chat_template_kwargs",
            ),
        }
        return self.stages.run(f"training_data/{method}", "rows.parquet", inputs, make)

    def model(self, method: str, rows: Artefact) -> Artefact:
        """The student fine-tuned by a method: a folder as TRL saves it."""

        def make(folder: Path) -> dict[str, Any]:
            self.student.close()  # its memory is the trainer's now
            dataset = Dataset.from_list(pq.read_table(rows.file).to_pylist())
            return train_method(method, dataset, folder, self.tokenizer, self.training, self.model_config, self.config)

        inputs = {
            "rows": rows.digest,
            "student": model_fingerprint(self.name),
            "training_order": self.config.training_order,
            **describe_training(self.training, self.model_config),
        }
        return self.stages.run(f"model/{method}", "*model*.safetensors", inputs, make)

    def evaluation(self, name: str, model: Artefact | None) -> Artefact:
        """Graded answers of a model to the held-out rows, direct and with reasoning: `answers.parquet`."""

        def make(folder: Path) -> dict[str, Any]:
            backend = self.student.serving(None if model is None else str(model.folder))
            tables = []
            for form in FORMS:
                (folder / form).mkdir(exist_ok=True)
                tables.append(
                    in_parts(
                        folder / form,
                        self.held_out,
                        self.config.part_prompts,
                        lambda rows, form=form: evaluate(  # type: ignore[misc]
                            rows, form, backend, self.tokenizer, self.config, self.reward
                        ),
                        f"Evaluating {name}, {form}",
                    )
                )
            answers = pa.concat_tables(tables)
            write_table(folder / "answers.parquet", answers)
            for form in FORMS:
                shutil.rmtree(folder / form)
            return accuracies(answers)

        inputs = {
            "model": None if model is None else model.digest,
            "student": self._student_identity,
            "rows": content_digest(self.held_out),
            "reward": self.reward_name,
            **_some(self.config, "reasoning_instruction", "answer_tokens", "reasoning_tokens"),
        }
        return self.stages.run(f"evaluation/{name}", "answers.parquet", inputs, make)

    def entry(
        self, name: str, reasoning: Artefact | None, rows: Artefact | None, model: Artefact | None
    ) -> dict[str, Any]:
        """A line of the table."""
        evaluation = self.evaluation(name, model)
        trained = None if rows is None else pq.read_table(rows.file, columns=["reasoning"])["reasoning"].to_pylist()
        return {
            "method": name,
            "reasoning_share": None if trained is None else sum(trained) / len(self.train),
            "rows": rows and {"trained_on": len(trained or []), **rows.results},
            "teacher": reasoning and account(read_chains(reasoning.file), self.config),
            "evaluation": accuracies(pq.read_table(evaluation.file)),
            "training": model and {**model.results, "attempts": model.attempts},
        }


def _reward_name(rows: Dataset) -> str:
    name = default_reward(rows.column_names)
    if name is None or "completion" not in rows.column_names:
        raise ConfigurationError(
            f"complexity-aware needs rows with a right answer; the data set has the columns {rows.column_names}."
        )
    return name


def _finish(folder: Path, name: str, table: pa.Table) -> None:
    write_table(folder / name, table)
    shutil.rmtree(folder / "parts")


def _read_split(artefact: Artefact) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    table = pq.read_table(artefact.file)
    return np.array(table["score"].to_pylist(), dtype=np.float64), np.array(table["class"].to_pylist(), dtype=np.int64)


def _some(config: ComplexityConfig, *names: str) -> dict[str, Any]:
    return {name: getattr(config, name) for name in names}


@contextmanager
def _bar(description: str, total: int) -> Iterator[Callable[[int], None]]:
    columns = (TextColumn(description), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda done: bar.update(task, completed=done)
