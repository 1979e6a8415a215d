"""`edco-rl score`: scores a data set with an estimator, into a Parquet file."""

import gzip
import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from rich.console import Console
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from ..config import DataConfig, EngineConfig, EstimatorConfig, ScoreConfig
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
from .settings import check_model


def run_score(score: ScoreConfig, estimator: EstimatorConfig, engine: EngineConfig, data: DataConfig) -> ScoringMeter:
    """Score a data set, going on where an earlier run with the same settings has stopped.

    Returns:
        `ScoringMeter`: what this run has scored, and how fast.

    Raises:
        ConfigurationError: A setting or row to be changed, or scores of other settings in the way.
    """
    assert score.model_name_or_path and score.dataset_name and score.output
    estimator = estimator.for_prompts_with(data.system_prompt)
    model = os.path.expanduser(score.model_name_or_path)
    check_installed(engine)
    check_model(model)
    if data.train_prompts is not None:
        raise ConfigurationError("train_prompts is a setting of training; max_prompts limits what is scored.")
    tokenizer = AutoTokenizer.from_pretrained(model)
    width = AutoConfig.from_pretrained(model).get_text_config().vocab_size
    assert not isinstance(score.chat_template_kwargs, str)  # the configuration has parsed it
    scorer = RowScorer(RowTokenizer(tokenizer, score.chat_template_kwargs), estimator, vocabulary_size=width)
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
        total = _count(score.dataset_name, score.max_prompts)
        log_path = output.with_name("engine.log")
        with open_backend(engine, model, tokenizer, log_path) as source, scoring_progress(total) as (meter, report):
            score_rows(
                itertools.chain([first], rows),
                scorer,
                source,
                parts,
                policy_version=_policy_version(source),
                part_prompts=score.part_prompts,
                in_flight=source.requests_in_flight,
                report=report,
            )
        meter.stop()
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
