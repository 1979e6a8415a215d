"""A run, and the same one with another curriculum beside it."""

import copy
import dataclasses
import gc
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ..errors import ConfigurationError
from ..store import write_json
from .held_out import METRICS
from .settings import RunSettings
from .train import SUMMARY_FILE


def train_and_compare(settings: RunSettings) -> dict[str, Any]:
    """Train, and then train from the same start with the strategy `compare_with`, without gates.

    The second run goes to a folder of the strategy's name within the first one's; what came of it stands under that
    name in the first one's `summary.json`.

    Returns:
        `dict[str, Any]`: what `summary.json` of the first run holds.

    Raises:
        ConfigurationError: Both would be the same, or a setting or row is to be changed.
    """
    name = settings.run.compare_with
    assert name is not None
    if settings.curriculum.strategy == name and not settings.curriculum.gates:
        raise ConfigurationError(f"compare_with is {name!r}, and so is the strategy: there is nothing to compare.")
    other = dataclasses.replace(
        copy.deepcopy(settings),
        curriculum=dataclasses.replace(
            settings.curriculum, strategy=name, strategy_kwargs=None, gates=None, gate_kwargs=None
        ),
    )
    other.training.output_dir = str(Path(settings.training.output_dir) / name.replace(":", "."))
    run = settings.method.load("run")
    summary = run(settings)
    gc.collect()  # trainers hold cycles, and two models at once may be too much
    beside = run(other)
    metric = summary["metric"]
    kept = (f"{metric}_after", "steps", "tokens", "prompts_trained_on", "groups_with_signal", "seconds")
    summary[name] = {key: beside[key] for key in kept}
    folder = Path(settings.training.output_dir)
    write_json(folder / SUMMARY_FILE, summary)
    _print(summary, name, settings.curriculum.strategy, folder)
    return summary


def _print(summary: dict[str, Any], name: str, strategy: str, folder: Path) -> None:
    metric = summary["metric"]
    table = Table(title=str(folder))
    for column in ("", strategy, name):
        table.add_column(column, justify="right" if column else "left")
    runs = (summary, summary[name])

    def row(label: str, *values: float | None, form: str = ".3f") -> None:
        table.add_row(label, *("-" if value is None else format(value, form) for value in values))

    row(f"held-out {METRICS[metric]} before", *[summary[f"{metric}_before"]] * 2)
    row(f"held-out {METRICS[metric]} after", *(run[f"{metric}_after"] for run in runs))
    row("groups with a signal", *(run["groups_with_signal"] for run in runs), form=".0%")
    row("prompts trained on", *(run["prompts_trained_on"] for run in runs), form="d")
    row("training, s", *(run["seconds"]["training"] for run in runs), form=".0f")
    Console().print(table)
