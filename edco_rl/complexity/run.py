"""Complexity-aware fine-tuning (arXiv 2506.21220), stage after stage, and the methods it is compared with."""

import os
from collections.abc import Iterator
from typing import Any

import pyarrow.parquet as pq
from rich.console import Console

from ..config import ComplexityConfig
from ..config.complexity import Stage
from ..curriculum import STRATEGIES
from ..errors import ConfigurationError
from ..runs.provenance import versions
from ..runs.settings import RunSettings, prepare
from .pipeline import Pipeline
from .table import auc_text, print_prediction, save_plot, write_table_of_methods

PLOT = "complexity.svg"


def run_complexity_aware(settings: RunSettings) -> dict[str, Any]:
    """Run all stages up to `complexity_last_stage`, for the method and its baselines, and end with the table.

    The method's own run is in `training.output_dir`, like that of any other method; the tokens and seconds of scoring
    and teacher count as its. Beside it are the stages' tables with their manifests, `complexity.svg`, the table as
    `table.json`, `table.csv` and `table.md`, and in `baselines` a run for each of them. What is there already, and
    whose inputs did not change, is not made again, so that the same command goes on where an earlier run has stopped.

    Returns:
        `dict[str, Any]`: what the method's `summary.json` holds; empty where the run ends before it is trained.

    Raises:
        ConfigurationError: A setting or row to be changed; raised before anything is loaded where possible.
        TeacherError: The teacher refuses, or rows are pending and `reasoning_if_pending` is `"stop"`.
    """
    config = settings.curriculum
    assert isinstance(config, ComplexityConfig)
    _check(settings, config)
    train, held_out, described = prepare(settings)
    if held_out is None:
        raise ConfigurationError("held_out_prompts is 0: complexity-aware measures methods on held-out prompts.")
    console = Console(stderr=True)
    result: dict[str, Any] = {"rows": len(train), "held_out_prompts": len(held_out), "versions": versions()}
    with Pipeline(settings, config, train, held_out, described, console) as run:
        for stage in _run_stages(run, result):
            if stage == config.complexity_last_stage:
                break
    console.print(f"What was made: {settings.training.output_dir}", soft_wrap=True)
    return result.get("summary", {})


def _check(settings: RunSettings, config: ComplexityConfig) -> None:
    """Refuse settings that would only be refused after scores and chains of thought were paid for."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigurationError("complexity-aware runs in one process: start it without accelerate launch.")
    STRATEGIES.find(config.strategy)
    if config.gates:
        raise ConfigurationError(f"gates {config.gates} judge rollouts, and supervised fine-tuning has none.")
    if config.complexity_last_stage == "evaluation" and not settings.run.keep_model:
        raise ConfigurationError(
            "keep_model is false: the evaluation needs the trained models. Set it to true, or "
            "complexity_last_stage to model."
        )


def _run_stages(run: Pipeline, result: dict[str, Any]) -> Iterator[Stage]:
    """Yields the name of each stage once it is done for all methods, and fills in the result."""
    scores = pq.read_table(run.scores.path)
    yield "scores"
    result["prediction"] = run.prediction()
    print_prediction(result["prediction"], run.console)
    auc = auc_text(result["prediction"]["groups"]["all"]["wrong_answer_auc"])
    save_plot(scores, f"ROC AUC for a wrong answer: {auc}", run.folder / PLOT)
    yield "prediction"
    result["split"] = run.classes()
    yield "split"
    run.ask()
    yield "reasoning"
    run.make_rows()
    yield "training_data"
    result["summary"] = run.fine_tune()
    yield "model"
    write_table_of_methods({**result, "methods": run.table(), "config": run.described}, run.folder)
    yield "evaluation"
