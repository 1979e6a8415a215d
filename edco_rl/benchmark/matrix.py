"""`edco-rl benchmark`: runs the cells of a matrix, one after another, on one vLLM server a model."""

import dataclasses
import gc
import json
import logging
import os
import shutil
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from transformers.trainer_utils import get_last_checkpoint

from ..config import BenchmarkConfig
from ..errors import ConfigurationError
from ..runs.provenance import commit, describe_hardware, versions
from ..runs.settings import RunSettings, check_model_and_data, plain_values
from ..store import check_same, write_whole
from .cells import CELLS_FOLDER, Cell, make_cells
from .methods import METHODS
from .pool_difficulty import keep_difficulty
from .shared_server import SharedServer

logger = logging.getLogger(__name__)

MATRIX_FILE = "benchmark.json"
CELL_FILE = "cell.json"
ERROR_FILE = "error.txt"
# What may differ between two runs in one folder: more seeds may come, and the rest changes no cell.
_FREE = ("output_dir", "shard", "seeds", "target_accuracy")
# Of these more may come, too; those that were there stay as they were.
_GROWING = ("methods", "curricula", "tasks")


def run_benchmark(benchmark: BenchmarkConfig) -> list[dict[str, Any]]:
    """Run the cells of a matrix that are not done yet, and print what came of them.

    A cell that fails is written down with its error, and the others go on. Started again, cells that are done stay,
    failed ones are tried again, and an interrupted one goes on from its last checkpoint (`save_steps`), or anew.

    Returns:
        `list[dict[str, Any]]`: what each cell's `cell.json` holds, of the cells of this shard.

    Raises:
        ConfigurationError: A setting to be changed; raised before any cell runs.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigurationError("A benchmark runs in one process: spread its cells over machines with shard.")
    folder = Path(benchmark.output_dir).expanduser()
    number, shards = benchmark.shard_number
    cells = make_cells(benchmark)[number::shards]
    if not cells:
        raise ConfigurationError(f"shard {benchmark.shard}: there are fewer cells than shards.")
    settings = _check(cells, folder)
    _keep_matrix(benchmark, folder)
    console = Console()
    found = []
    with SharedServer(folder / "engine.log") as server:
        for count, (cell, chosen) in enumerate(zip(cells, settings, strict=True), 1):
            path = folder / CELLS_FOLDER / cell.name
            done = _read(path)
            if done is None or done["status"] != "done":
                console.rule(f"{count} of {len(cells)}: {cell.name}")
                done = _run_cell(cell, chosen, path, server, settings)
            found.append(done)
    return found


def _check(cells: Sequence[Cell], folder: Path) -> list[RunSettings]:
    """Parse every cell, so that a wrong setting is told before the first one runs."""
    settings = [cell.settings(folder / CELLS_FOLDER / cell.name) for cell in cells]
    names = [cell.name for cell in cells]
    if len(set(names)) < len(names):
        raise ConfigurationError("Two cells have the same name: use others for tasks, methods or curricula.")
    for chosen in settings:
        check_model_and_data(chosen.script, chosen.model)
    return settings


def _keep_matrix(benchmark: BenchmarkConfig, folder: Path) -> None:
    """Note what the matrix is, or check that it is the one this folder was begun with, or a larger one."""
    path = folder / MATRIX_FILE
    folder.mkdir(parents=True, exist_ok=True)
    whole = benchmark
    if path.is_file():
        before = BenchmarkConfig(**json.loads(path.read_text())["config"])
        kept, now = _comparable(before, benchmark), _comparable(benchmark, before)
        check_same(kept, now, f"The cells in {folder} were", folder)
        grown: dict[str, Any] = {name: _named(before, name) | _named(benchmark, name) or None for name in _GROWING}
        whole = dataclasses.replace(benchmark, seeds=sorted({*before.seeds, *benchmark.seeds}), **grown)
    values = plain_values(whole)
    count = len(make_cells(whole))
    text = json.dumps(
        {"config": values, "cells": count, "versions": versions(), "hardware": describe_hardware(), "commit": commit()}
    )
    write_whole(path, lambda unfinished: unfinished.write_text(text))


def _comparable(benchmark: BenchmarkConfig, other: BenchmarkConfig) -> dict[str, Any]:
    """What has to be the same in another benchmark of the same folder."""
    values = {name: value for name, value in plain_values(benchmark).items() if name not in _FREE}
    for name in _GROWING:
        if values[name] is not None and _named(other, name):
            values[name] = {key: value for key, value in _named(benchmark, name).items() if key in _named(other, name)}
    return values


def _named(benchmark: BenchmarkConfig, name: str) -> dict[str, dict[str, Any]]:
    return getattr(benchmark, f"named_{name}")


def _read(path: Path) -> dict[str, Any] | None:
    file = path / CELL_FILE
    return json.loads(file.read_text()) if file.is_file() else None


def _run_cell(
    cell: Cell, settings: RunSettings, path: Path, server: SharedServer, everyone: Sequence[RunSettings]
) -> dict[str, Any]:
    began = time.time()
    path.mkdir(parents=True, exist_ok=True)
    (path / CELL_FILE).unlink(missing_ok=True)
    (path / ERROR_FILE).unlink(missing_ok=True)
    outcome: dict[str, Any] = {"status": "done"}
    try:
        engine = server.prepare(settings, everyone)
        keep_difficulty(path.parent.parent, cell, dataclasses.replace(settings, engine=engine))
        checkpoint = get_last_checkpoint(str(path))
        settings.training.resume_from_checkpoint = checkpoint
        METHODS[cell.trainer].run(dataclasses.replace(settings, engine=engine))
        for left in path.glob("checkpoint-*"):
            shutil.rmtree(left)
    except Exception as error:
        logger.exception("Cell %s failed.", cell.name)
        (path / ERROR_FILE).write_text(traceback.format_exc())
        outcome = {"status": "failed", "error": f"{type(error).__name__}: {error}"}
    outcome = {**cell.describe(), **outcome, "began": began, "ended": time.time()}
    write_whole(path / CELL_FILE, lambda unfinished: unfinished.write_text(json.dumps(outcome, indent=2) + "\n"))
    gc.collect()  # trainers hold cycles, and two models at once may be too much
    return outcome
