"""`edco-rl benchmark`: runs the cells of a matrix, one after another on one vLLM server a model, or on Ray."""

import dataclasses
import functools
import gc
import logging
import os
import shutil
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from ..config import BenchmarkConfig, RunnerConfig
from ..errors import ConfigurationError
from ..runs.provenance import commit, describe_hardware, versions
from ..runs.ray_cluster import check_ray_installed
from ..runs.recorder import start_of
from ..runs.settings import RunSettings, check_model_and_data, plain_values
from ..runs.shared_server import SharedServer
from ..store import UNFINISHED_FOLDER, Artefact, check_same, load, newest_checkpoint, save_value, write_text
from .cells import CELLS_FOLDER, Cell, but_curriculum, make_cells
from .on_ray import run_cells_on_ray
from .pool_difficulty import keep_difficulty

logger = logging.getLogger(__name__)

# Artefacts: benchmark.json and cell.json.
MATRIX = "benchmark"
CELL = "cell"
ERROR_FILE = "error.txt"
# Of these more may come in a later run in the same folder.
_GROWING = ("methods", "curricula", "tasks")


def run_benchmark(benchmark: BenchmarkConfig, runner: RunnerConfig | None = None) -> list[dict[str, Any]]:
    """Run the cells of a matrix that are not done yet.

    A cell that fails is written down with its error, and the others go on. Started again, cells that are done stay,
    failed ones are tried again, and an interrupted one goes on from its last checkpoint (`save_steps`), or anew.

    Args:
        benchmark (`BenchmarkConfig`):
            The matrix.
        runner (`RunnerConfig`, *optional*):
            Where its cells run; by default in this process, one after another.

    Returns:
        `list[dict[str, Any]]`: where each cell of this shard stands, its `status` and its `error`.

    Raises:
        ConfigurationError: A setting to be changed; raised before any cell runs.
    """
    runner = runner or RunnerConfig()
    check_ray_installed(runner)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigurationError("A benchmark runs in one process: spread its cells over machines with shard.")
    folder = Path(benchmark.output_dir).expanduser()
    number, shards = benchmark.shard_number
    cells = make_cells(benchmark)[number::shards]
    if not cells:
        raise ConfigurationError(f"shard {benchmark.shard}: there are fewer cells than shards.")
    settings = _check(cells, folder)
    _keep_matrix(benchmark, folder)
    places = {cell.name: folder / CELLS_FOLDER / cell.name for cell in cells}
    kept = {name: load(path / CELL) for name, path in places.items()}
    found = {name: one.value for name, one in kept.items() if one is not None and one.value["status"] == "done"}
    if runner.runner == "ray":
        run = functools.partial(_run_alone, folder=folder)
        found = run_cells_on_ray(cells, found, run, functools.partial(_lost, folder=folder), runner)
    else:
        console = Console()
        with SharedServer(folder / "engine.log") as server:
            for count, (cell, chosen) in enumerate(zip(cells, settings, strict=True), 1):
                if cell.name not in found:
                    console.rule(f"{count} of {len(cells)}: {cell.name}")
                    found[cell.name] = _run_cell(cell, chosen, places[cell.name], server, settings).value
    return [found[cell.name] for cell in cells]


def _check(cells: Sequence[Cell], folder: Path) -> list[RunSettings]:
    """Parse every cell, so that a wrong setting is told before the first one runs."""
    settings = [cell.settings(folder / CELLS_FOLDER / cell.name) for cell in cells]
    names = [cell.name for cell in cells]
    if len(set(names)) < len(names):
        raise ConfigurationError("Two cells have the same name: use others for tasks, methods or curricula.")
    for cell, chosen in zip(cells, settings, strict=True):
        check_model_and_data(chosen.script, chosen.model)
        last = getattr(chosen.curriculum, "complexity_last_stage", "model")
        if last not in ("model", "evaluation"):
            raise ConfigurationError(
                f"Cell {cell.name} trains nothing: complexity_last_stage is {last}. In a benchmark it is model or "
                "evaluation; edco-rl train complexity-aware ends where you say."
            )
    return settings


def _keep_matrix(benchmark: BenchmarkConfig, folder: Path) -> None:
    """Note what the matrix is, and check that it would make the cells in its folder again as they are.

    Cells that failed may have other settings now.
    """
    path = folder / MATRIX
    before, whole = load(path), benchmark
    if before is not None:
        known = BenchmarkConfig(**before.made_from)
        grown: dict[str, Any] = {name: _named(known, name) | _named(benchmark, name) or None for name in _GROWING}
        whole = dataclasses.replace(benchmark, seeds=sorted({*known.seeds, *benchmark.seeds}), **grown)
    cells = make_cells(whole)
    for cell in cells:
        place = folder / CELLS_FOLDER / cell.name
        kept = load(place / CELL)
        if kept is not None and kept.value["status"] != "failed":
            check_same(kept.made_from, cell.made_from, f"Cell {cell.name} was", place)
    about = {"cells": len(cells), "versions": versions(), "hardware": describe_hardware(), "commit": commit()}
    save_value(path, plain_values(whole), about)


def _named(benchmark: BenchmarkConfig, name: str) -> dict[str, dict[str, Any]]:
    return getattr(benchmark, f"named_{name}")


def _run_cell(
    cell: Cell, settings: RunSettings, path: Path, server: SharedServer, everyone: Sequence[RunSettings]
) -> Artefact:
    began = time.time()
    before = load(path / CELL)
    if before is not None and before.made_from != cell.made_from:  # it failed, with other settings
        shutil.rmtree(path)
    (path / ERROR_FILE).unlink(missing_ok=True)
    save_value(path / CELL, cell.made_from, {**cell.describe(), "status": "unfinished"})
    outcome: dict[str, Any] = {"status": "done"}
    try:
        engine, start = server.prepare(settings, everyone), _start(cell, path.parent)
        ready = dataclasses.replace(settings, engine=engine, measured_at_start=start)
        keep_difficulty(path.parent.parent, cell, ready)
        newest, passed_over = newest_checkpoint(path)
        for reason in passed_over:
            logger.warning("Cell %s: %s", cell.name, reason)
        ready.training.resume_from_checkpoint = None if newest is None else str(newest)
        ready.method.load("run")(ready)
        for left in (*path.glob("checkpoint-*"), *path.glob(UNFINISHED_FOLDER)):
            shutil.rmtree(left)
    except Exception as error:
        logger.exception("Cell %s failed.", cell.name)
        outcome = _failed(path, error)
    made = _note(cell, path, outcome, began)
    gc.collect()  # trainers hold cycles, and two models at once may be too much
    return made


def _run_alone(cell: Cell, folder: Path) -> dict[str, Any]:
    """Run a cell with a server of its own; what has become of it."""
    path = folder / CELLS_FOLDER / cell.name
    settings = cell.settings(path)
    with SharedServer(path / "engine.log") as server:
        return _run_cell(cell, settings, path, server, [settings]).value


def _lost(cell: Cell, error: Exception, began: float, folder: Path) -> dict[str, Any]:
    """Note that a cell's process was killed too often."""
    path = folder / CELLS_FOLDER / cell.name
    return _note(cell, path, _failed(path, error), began).value


def _failed(path: Path, error: Exception) -> dict[str, Any]:
    path.mkdir(parents=True, exist_ok=True)
    write_text(path / ERROR_FILE, "".join(traceback.format_exception(error)))
    return {"status": "failed", "error": f"{type(error).__name__}: {error}"}


def _note(cell: Cell, path: Path, outcome: dict[str, Any], began: float) -> Artefact:
    outcome = {**cell.describe(), **outcome, "began": began, "ended": time.time()}
    return save_value(path / CELL, cell.made_from, outcome, outcome["ended"] - began)


def _start(cell: Cell, folder: Path) -> NDArray[np.float64] | None:
    """What a cell that differs in its curriculum alone has measured before its first step."""
    alike = but_curriculum(cell.made_from)
    for path in sorted(folder.iterdir()):
        kept = load(path / CELL)
        if kept is not None and kept.value["status"] == "done" and but_curriculum(kept.made_from) == alike:
            return start_of(path)
    return None
