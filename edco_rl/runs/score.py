"""`edco-rl score`: scores a data set with an estimator, into a Parquet file."""

import gzip
import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from rich.console import Console
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from ..config import DataConfig, EngineConfig, EstimatorConfig, RunnerConfig, ScoreConfig
from ..data.load import iter_rows
from ..data.tasks import DEFAULT_TRAIN_PROMPTS, is_generated
from ..data.tokens import RowTokenizer
from ..engine.launch import check_installed, scoring_engine
from ..engine.protocol import EngineError, GenerationBackend
from ..engine.transformers_backend import TransformersBackend
from ..errors import ConfigurationError
from ..scoring import RowScorer
from ..scoring.job import score_rows
from ..scoring.progress import ScoringMeter, scoring_progress
from ..store import Parts, file_checksum, model_fingerprint
from .ray_cluster import check_ray_installed
from .score_on_ray import Scoring, score_rows_on_ray, scoring_workers
from .settings import check_model


def run_score(
    score: ScoreConfig,
    estimator: EstimatorConfig,
    engine: EngineConfig,
    data: DataConfig,
    runner: RunnerConfig | None = None,
) -> ScoringMeter:
    """Score a data set, going on where an earlier run with the same settings has stopped, on Ray or not.

    Args:
        score (`ScoreConfig`), estimator (`EstimatorConfig`), engine (`EngineConfig`), data (`DataConfig`):
            What is scored, and with what.
        runner (`RunnerConfig`, *optional*):
            Where; by default in this process.

    Returns:
        `ScoringMeter`: what this run has scored, and how fast.

    Raises:
        ConfigurationError: A setting or row to be changed, or scores of other settings in the way.
    """
    assert score.model_name_or_path and score.dataset_name and score.output
    runner = runner or RunnerConfig()
    check_ray_installed(runner)
    _check_workers(runner, engine)
    estimator = estimator.for_prompts_with(data.system_prompt)
    model = os.path.expanduser(score.model_name_or_path)
    check_installed(engine)
    check_model(model)
    if data.train_prompts is not None:
        raise ConfigurationError("train_prompts is a setting of training; max_prompts limits what is scored.")
    scorer = _make_scorer(model, score, estimator)
    rows = iter_rows(
        score.dataset_name,
        config_name=score.dataset_config,
        split=score.dataset_train_split,
        seed=score.seed,
        **asdict(data) | {"train_prompts": score.max_prompts},
    )
    first = next(rows)  # what is wrong with the data set as a whole is found before an engine is started
    scorer.check_columns(list(first))
    output, dataset = Path(score.output).expanduser(), Path(score.dataset_name).expanduser()
    made_from = {
        **asdict(score),
        **asdict(estimator),
        **asdict(data),
        "edco_rl": version("edco-rl"),
        "engine_mode": engine.engine_mode,
        "engine_dtype": engine.engine_dtype,
        "model": model_fingerprint(model),
        "dataset_checksum": file_checksum(dataset) if dataset.is_file() else None,
    }
    for name in ("output", "skipped_rows_file"):  # where things go, not what they are
        made_from.pop(name)
    console = Console(stderr=True)
    with Parts(output, made_from) as parts:
        if parts.finished() is not None:
            console.print(f"{output} is complete already.", soft_wrap=True)
            return ScoringMeter()
        rows, total = itertools.chain([first], rows), _count(score.dataset_name, score.max_prompts)
        sizes: dict[str, Any] = {"part_prompts": score.part_prompts}
        if runner.runner == "ray":
            opening = partial(_open_scoring, model, score, estimator, engine)
            with scoring_workers(opening, runner) as workers, scoring_progress(total) as (meter, report):
                score_rows_on_ray(rows, workers, parts, report=report, **sizes)
        else:
            log_path = output.with_name("engine.log")
            with (
                open_backend(engine, model, scorer.tokenizer.tokenizer, log_path) as source,
                scoring_progress(total) as (meter, report),
            ):
                sizes |= {"in_flight": source.requests_in_flight, "policy_version": _policy_version(source)}
                score_rows(rows, scorer, source, parts, report=report, **sizes)
        parts.merge(seconds=meter.seconds)
    console.print(
        f"{output}: {meter.prompts + meter.resumed} prompts, {meter.resumed} of them from an earlier run; "
        f"{meter.rates()}.",
        soft_wrap=True,
    )
    return meter


@contextmanager
def open_backend(config: EngineConfig, model: str, tokenizer: Any, log_path: Path) -> Iterator[GenerationBackend]:
    """What gives log-probabilities of a model: an engine, or transformers with `engine_mode` `"none"`."""
    if config.engine_mode == "none":
        yield TransformersBackend.of(AutoModelForCausalLM.from_pretrained(model, dtype="auto"), tokenizer)
        return
    with scoring_engine(config, model, log_path=log_path) as engine:
        yield engine


def _make_scorer(model: str, score: ScoreConfig, estimator: EstimatorConfig) -> RowScorer:
    tokenizer = AutoTokenizer.from_pretrained(model)
    width = AutoConfig.from_pretrained(model).get_text_config().vocab_size
    assert not isinstance(score.chat_template_kwargs, str)  # the configuration has parsed it
    return RowScorer(RowTokenizer(tokenizer, score.chat_template_kwargs), estimator, vocabulary_size=width)


@contextmanager
def _open_scoring(
    model: str, score: ScoreConfig, estimator: EstimatorConfig, engine: EngineConfig, number: int
) -> Iterator[Scoring]:
    """What a Ray worker scores with."""
    assert score.output
    scorer = _make_scorer(model, score, estimator)
    log_path = Path(score.output).expanduser().with_name(f"engine_{number}.log")
    with open_backend(engine, model, scorer.tokenizer.tokenizer, log_path) as source:
        yield Scoring(scorer, source, _policy_version(source))


def _check_workers(runner: RunnerConfig, engine: EngineConfig) -> None:
    """Refuse settings that several engines cannot have at once."""
    starts = engine.engine_mode == "server" and engine.engine_url is None
    if runner.runner == "ray" and starts and runner.ray_workers > 1:
        for name, free in (("engine_port", 0), ("engine_log", None)):
            if getattr(engine, name) != free:
                raise ConfigurationError(
                    f"{name} is one server's; each of {runner.ray_workers} ray_workers starts its own. Leave it out."
                )


def _policy_version(source: GenerationBackend) -> str:
    """Version of the weights as the engine reports it; `"unknown"` where it does not."""
    try:
        return source.weight_version()
    except EngineError:  # a server without the routes of weight sync
        return "unknown"


def _count(name: str, limit: int | None) -> int | None:
    """Rows to score, where that can be told at once; invalid ones included."""
    path, count = Path(name).expanduser(), None
    if is_generated(name):
        return limit or DEFAULT_TRAIN_PROMPTS
    if path.suffix == ".parquet" and path.is_file():
        count = pq.read_metadata(path).num_rows
    elif path.name.endswith((".jsonl", ".jsonl.gz")) and path.is_file():
        opener: Any = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rb") as file:
            count = sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
    return count if limit is None or count is None else min(count, limit)
