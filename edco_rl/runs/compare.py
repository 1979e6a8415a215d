"""A run, and the same one with another curriculum beside it."""

import copy
import dataclasses
import gc
import os
from pathlib import Path
from typing import Any

from accelerate import PartialState

from ..errors import ConfigurationError
from ..store import write_json
from .recorder import start_of
from .settings import RunSettings, check_model_and_data
from .shared_server import SharedServer
from .train import SUMMARY_FILE


def train_and_compare(settings: RunSettings) -> dict[str, Any]:
    """Train, and then train from the same start with the strategy `compare_with`, without gates, on the same server.

    The second run goes to a folder of the strategy's name within the first one's, without its model; what came of it
    stands under that name in the first one's `summary.json`.

    Returns:
        `dict[str, Any]`: what `summary.json` of the first run holds.

    Raises:
        ConfigurationError: Both would be the same, or a setting or row is to be changed.
    """
    name = settings.run.compare_with
    assert name is not None
    if settings.curriculum.strategy == name and not settings.curriculum.gates:
        raise ConfigurationError(f"compare_with is {name!r}, and so is the strategy: there is nothing to compare.")
    check_model_and_data(settings.script, settings.model)
    other = dataclasses.replace(
        copy.deepcopy(dataclasses.replace(settings, server=None)),
        curriculum=dataclasses.replace(
            settings.curriculum, strategy=name, strategy_kwargs=None, gates=None, gate_kwargs=None
        ),
        run=dataclasses.replace(settings.run, keep_model=False),
    )
    folder = Path(settings.training.output_dir)
    other.training.output_dir = str(folder / name.replace(":", "."))
    run, both = settings.method.load("run"), (settings, other)
    with SharedServer(folder / "engine.log", settings.server if _one_process() else None) as server:
        summaries: list[dict[str, Any]] = []
        for one in both:
            # With several processes the trainer starts a server on the first of them, each run its own.
            on = dataclasses.replace(one, engine=server.prepare(one, both), server=None) if _one_process() else one
            start = start_of(folder) if summaries else None
            summaries.append(run(dataclasses.replace(on, measured_at_start=start)))
            gc.collect()  # trainers hold cycles, and two models at once may be too much
    summary, beside = summaries
    if not PartialState().is_main_process:
        return summary
    metric = summary["metric"]
    kept = (f"{metric}_after", "subjects", "steps", "tokens", "prompts_trained_on", "groups_with_signal", "seconds")
    summary[name] = {key: beside[key] for key in kept}
    write_json(folder / SUMMARY_FILE, summary)
    return summary


def _one_process() -> bool:
    return int(os.environ.get("WORLD_SIZE", "1")) == 1
