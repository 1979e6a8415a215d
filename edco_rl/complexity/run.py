"""`edco-rl train complexity-aware`: complexity-aware fine-tuning (arXiv 2506.21220), stage after stage."""

import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from rich.console import Console
from trl import ModelConfig, ScriptArguments, SFTConfig, TrlParser

from ..config import ComplexityConfig, DataConfig, EngineConfig
from ..config.complexity import Stage
from ..errors import ConfigurationError
from ..runs.provenance import versions
from ..runs.settings import check_model_and_data, load_data, settings_parser
from .methods import METHOD, with_teacher
from .pipeline import Pipeline
from .report import auc_text, print_prediction, save_plot, write_report

PLOT = "complexity.svg"


def complexity_parser(prog: str) -> TrlParser:
    """TRL's parser over all settings."""
    classes = (ScriptArguments, SFTConfig, ModelConfig, ComplexityConfig, EngineConfig, DataConfig)
    return settings_parser(classes, prog)


def run_complexity_aware(
    script: ScriptArguments,
    training: SFTConfig,
    model: ModelConfig,
    config: ComplexityConfig,
    engine: EngineConfig,
    data: DataConfig,
) -> dict[str, Any] | None:
    """Run all stages up to `last_stage`, for the method and its baselines, and end with the table.

    Everything goes to `training.output_dir`: a folder a stage with its manifest, `complexity.svg`, and the table as
    `table.json`, `table.csv` and `table.md`. Stages whose inputs did not change are skipped, so that the same command
    goes on where an earlier run has stopped.

    Returns:
        `dict[str, Any]`: what `table.json` holds; `None` where `last_stage` comes before the evaluation.

    Raises:
        ConfigurationError: A setting or row to be changed; raised before anything is loaded where possible.
        TeacherError: The teacher refuses, or rows are pending and `pending_reasoning` is `"stop"`.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigurationError("complexity-aware runs in one process: start it without accelerate launch.")
    check_model_and_data(script, model)
    train, held_out = load_data(script, training, data)
    if held_out is None:
        raise ConfigurationError("held_out_prompts is 0: complexity-aware compares methods on held-out prompts.")
    methods = [METHOD, *config.baselines]
    _check_replacements(config, methods)
    folder = Path(training.output_dir)
    console = Console(stderr=True)
    result: dict[str, Any] = {
        "model": model.model_name_or_path,
        "dataset": script.dataset_name,
        "rows": len(train),
        "held_out_prompts": len(held_out),
    }
    with Pipeline(train, held_out, training, model, config, engine, versions(), console) as run:
        for stage in _run_stages(run, methods, folder, result):
            if stage == config.last_stage:
                break
    if "methods" not in result:
        return None
    settings = {"complexity": asdict(config), "data": asdict(data), "engine": asdict(engine)}
    result |= {"versions": versions(), "config": settings}
    write_report(result, folder)
    console.print(f"Stages, table and plot: {folder}", soft_wrap=True)
    return result


def _run_stages(run: Pipeline, methods: list[str], folder: Path, result: dict[str, Any]) -> Iterator[Stage]:
    """Yields the name of each stage once it is done for all methods, and fills in the result."""
    scores = run.scores()
    yield "scores"
    result["prediction"] = run.prediction(scores)
    print_prediction(result["prediction"], run.console)
    save_plot(pq.read_table(scores.file), _title(result["prediction"]), folder / PLOT)
    yield "prediction"
    split = run.split(scores)
    result["split"] = split.results
    yield "split"
    chains = {method: run.reasoning(method, split) for method in methods if with_teacher(method)}
    run.teacher.stop_server()
    yield "reasoning"
    rows = {method: run.training_data(method, split, chains.get(method)) for method in methods}
    yield "training_data"
    models = {method: run.model(method, rows[method]) for method in methods}
    yield "model"
    entries = [run.entry(method, chains.get(method), rows[method], models[method]) for method in methods]
    result["methods"] = [run.entry("untrained", None, None, None), *entries]
    yield "evaluation"


def _title(found: dict[str, Any]) -> str:
    return f"ROC AUC for a wrong answer: {auc_text(found['groups']['all']['wrong_answer_auc'])}"


def _check_replacements(config: ComplexityConfig, methods: list[str]) -> None:
    assert not isinstance(config.replace_artefacts, str)  # the configuration has parsed it
    shared, one_a_method = ("scores", "prediction", "split"), ("reasoning", "training_data", "model", "evaluation")
    known = [*shared, *(f"{stage}/{method}" for stage in one_a_method for method in methods)]
    for name, path in (config.replace_artefacts or {}).items():
        if name not in known:
            raise ConfigurationError(f"replace_artefacts: this run has no {name!r}; it has {', '.join(known)}.")
        if not Path(path).expanduser().exists():
            raise ConfigurationError(f"replace_artefacts {name}: there is no {path}.")
