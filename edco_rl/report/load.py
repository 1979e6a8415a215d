"""The runs a report is made of: cells of matrices, from one folder or several shards, and single runs."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import store
from ..benchmark.cells import CELLS_FOLDER, task_name
from ..benchmark.learning import Learning
from ..benchmark.matrix import CELL, MATRIX
from ..benchmark.pool_difficulty import pool_path
from ..errors import ConfigurationError
from ..runs.recorder import RECORDS_FILE, decode, read_records
from ..runs.train import SUMMARY_FILE


@dataclass(frozen=True)
class Run:
    """One cell, or one run of `edco-rl train`.

    Args:
        task (`str`), method (`str`), curriculum (`str`), seed (`int`):
            Where it stands.
        status (`str`):
            `done`, `failed` or `unfinished`.
        error (`str`, *optional*):
            Why it failed.
        folder (`Path`):
            Where it is.
        summary (`dict`):
            Its `summary.json`, or as much of it as the records of a run in progress tell; empty where that is nothing.
        records (`list[dict]`):
            Its `records.jsonl`; empty where it failed.
        difficulty (`list[float]`, *optional*):
            Difficulty of the pool's prompts for the start weights, in nats.
        target_accuracy (`float`, *optional*):
            Accuracy whose cost is to be compared.
    """

    task: str
    method: str
    curriculum: str
    seed: int
    status: str
    error: str | None
    folder: Path
    summary: dict[str, Any]
    records: list[dict[str, Any]]
    difficulty: list[float] | None = None
    target_accuracy: float | None = None

    @property
    def key(self) -> tuple[str, str, str, int]:
        """Where it stands in the matrix."""
        return self.task, self.method, self.curriculum, self.seed

    def lines(self, kind: str) -> list[dict[str, Any]]:
        """Its records of one kind: `run`, `step`, `scores`, `log`, `texts` or `evaluation`."""
        return [line for line in self.records if line["kind"] == kind]

    def held_out_subjects(self) -> NDArray[np.str_] | None:
        """Subject of each held-out prompt that [`learning`] has, shape (P,); `None` where there are no subjects."""
        subjects = next((line["held_out_subjects"] for line in self.lines("run")), None)
        return None if subjects is None or not self.lines("evaluation") else np.array(subjects)[self._judged()]

    def _judged(self) -> NDArray[np.bool_]:
        """Which held-out prompts could be judged each time."""
        answers = np.array([decode(line) for line in self.lines("evaluation")])
        return np.asarray(np.isfinite(answers).all(axis=0))

    def learning(self) -> Learning | None:
        """Its held-out answers; `None` where none were measured. Prompts that cannot be judged are left out."""
        lines = self.lines("evaluation")
        if not lines:
            return None
        right = np.array([decode(line) for line in lines])
        costs = {
            "steps": np.array([float(line["step"]) for line in lines]),
            "tokens": np.array([float(sum(line["tokens"].values())) for line in lines]),
            "seconds": np.array([float(line["seconds"]) for line in lines]),
        }
        return Learning(costs, right[:, self._judged()], str(self.summary.get("held_out_fingerprint")))


@dataclass(frozen=True)
class Loaded:
    """Everything a report is made of: the runs, and the matrices' settings and number of cells by folder."""

    runs: list[Run]
    matrices: dict[str, dict[str, Any]]

    @property
    def expected(self) -> int:
        """Cells the matrices have in all, or the runs there are."""
        sizes: dict[str, int] = {}
        for matrix in self.matrices.values():
            kind = json.dumps(matrix["config"]["methods"])
            sizes[kind] = max(sizes.get(kind, 0), matrix["cells"])  # shards of one matrix say the same
        return max(len(self.runs), sum(sizes.values()))


def load(folders: Sequence[str]) -> Loaded:
    """Read runs from folders of `edco-rl benchmark` or `edco-rl train`. A cell that several hold is taken once.

    Raises:
        ConfigurationError: A folder holds no runs, or two hold different results of one cell.
    """
    matrices: dict[str, dict[str, Any]] = {}
    runs: dict[tuple[str, str, str, int], Run] = {}
    for name in folders:
        folder = Path(name).expanduser()
        found = list(_read_folder(folder))
        if not found:
            raise ConfigurationError(f"{name} holds no runs: expected a folder of edco-rl benchmark or edco-rl train.")
        matrix = store.load(folder / MATRIX)
        if matrix is not None:
            matrices[str(folder)] = {"config": matrix.made_from, "cells": matrix.value["cells"]}
        for run in found:
            known = runs.get(run.key)
            if known is None or known.status != "done":
                runs[run.key] = run
            elif run.status == "done" and run.records != known.records:
                raise ConfigurationError(f"{known.folder} and {run.folder} are different results of one cell.")
    return Loaded(sorted(runs.values(), key=lambda run: run.key), matrices)


def _read_folder(folder: Path) -> list[Run]:
    if (folder / CELLS_FOLDER).is_dir():
        cells = ((path, store.load(path / CELL)) for path in sorted((folder / CELLS_FOLDER).iterdir()))
        return [_read_cell(path, cell.value, folder) for path, cell in cells if cell is not None]
    # A run, and those it is compared with, in folders of their curricula's names.
    places = (folder, *sorted(path for path in folder.glob("*") if path.is_dir()))
    return [_read_run(place) for place in places if (place / RECORDS_FILE).is_file()]


def _read_cell(path: Path, cell: dict[str, Any], matrix: Path) -> Run:
    where = (cell["task"], cell["method"], cell["curriculum"], int(cell["seed"]))
    status, target = cell["status"], cell["target_accuracy"]
    summary, records = ({}, []) if status == "failed" else _read(path)
    if not summary:
        return Run(*where, status, cell.get("error"), path, {}, [])
    model = summary["config"]["model"]["model_name_or_path"]
    pool = store.load(pool_path(matrix, cell["task"], summary["pool_fingerprint"], model))
    difficulty = None if pool is None else pool.value["difficulty"]
    return Run(*where, status, None, path, summary, records, difficulty, target)


def _read_run(folder: Path) -> Run:
    summary, records = _read(folder)
    if not summary:
        return Run(folder.name, "?", "?", 0, "unfinished", None, folder, {}, [])
    config = summary["config"]
    curriculum = "+".join([config["curriculum"]["strategy"], *(config["curriculum"]["gates"] or [])])
    task = task_name(config["script"]["dataset_name"])
    seed = int(config["training"]["seed"])
    status = "done" if (folder / SUMMARY_FILE).is_file() else "unfinished"
    return Run(task, summary["method"], curriculum, seed, status, None, folder, summary, records)


def _read(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A run's summary and records. While it is in progress, its records say what it is and how far it has come."""
    records = read_records(folder / RECORDS_FILE) if (folder / RECORDS_FILE).is_file() else []
    if (folder / SUMMARY_FILE).is_file():
        return json.loads((folder / SUMMARY_FILE).read_text()), records
    about = next((line for line in records if line["kind"] == "run"), None)
    steps = [line for line in records if line["kind"] == "step"]
    if about is None:
        return {}, []
    last: dict[str, Any] = steps[-1] if steps else {"step": 0, "seconds": 0.0, "tokens": {}, "parts": {}}
    so_far = {
        "steps": last["step"],
        "tokens": last["tokens"],
        "seconds": {"training": last["seconds"], **last["parts"]},
        "prompts_trained_on": len({index for line in steps for index in line["prompts"]}),
    }
    return {**about, **so_far}, records
