"""From runs to everything a report shows, as plain values."""

import dataclasses
import datetime
import json
from typing import Any

import numpy as np

from ..benchmark.learning import UNITS, Learning, Runs, cost_of_target, curves
from ..config import ReportConfig
from ..errors import ConfigurationError
from ..statistics import band, over_prompts
from ..store import plain
from ..trainers.stopwatch import PARTS
from .compared import Series, compare_all, find_targets
from .details import COLUMNS, describe_runs, texts_of
from .load import Loaded, Run
from .traces import TRACES, over_seeds

_TRAINING = [part for part in PARTS if part != "evaluation"]


def build(loaded: Loaded, config: ReportConfig) -> dict[str, Any]:
    """What the page, the plots and the tables show.

    Args:
        loaded (`Loaded`):
            The runs.
        config (`ReportConfig`):
            How to compare them.

    Raises:
        ConfigurationError: No run is done.
    """
    done = [run for run in loaded.runs if run.status == "done"]
    # Runs in progress would cut what is compared to what they have done: they are shown where there is nothing else.
    done = done or [run for run in loaded.runs if run.summary]
    if not done:
        failed = sum(run.status == "failed" for run in loaded.runs)
        raise ConfigurationError(f"None of the {len(loaded.runs)} runs is done; {failed} failed.")
    groups: dict[Series, list[Run]] = {}
    for run in done:
        groups.setdefault((run.task, run.method, run.curriculum), []).append(run)
    matrix = next(iter(loaded.matrices.values()), {}).get("config", {})
    baseline = config.baseline or matrix.get("baseline", "random")
    unit = matrix.get("budget_unit", "steps")
    groups = dict(sorted(groups.items(), key=lambda item: (item[0][:2], item[0][2] != baseline)))
    learned = {series: _learning(runs) for series, runs in groups.items()}
    asked = {series[:2]: config.target_accuracy or runs[0].target_accuracy for series, runs in groups.items()}
    targets = find_targets(learned, baseline, {place: value for place, value in asked.items() if value is not None})
    comparisons = compare_all(learned, baseline, targets, unit, config.confidence_level)
    level, details = config.confidence_level, describe_runs(done)
    in_progress = any(run.status == "unfinished" for run in loaded.runs)
    return plain(
        {
            "title": config.title or _title(groups),
            "refresh": config.watch if in_progress else None,
            "in_progress": in_progress,
            "made": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
            "level": level,
            "baseline": baseline,
            "unit": unit,
            "units": UNITS,
            "tasks": list(dict.fromkeys(series[0] for series in groups)),
            "methods": list(dict.fromkeys(series[1] for series in groups)),
            "curricula": _baseline_first([series[2] for series in groups], baseline),
            "traces": {name: {"title": title, "axis": axis} for name, (title, axis, _) in TRACES.items()},
            "parts": _parts(done),
            "series": [
                _describe(series, runs, learned[series], targets.get(series[:2]), level)
                for series, runs in groups.items()
            ],
            "comparisons": comparisons,
            "runs": details,
            "prompt_columns": COLUMNS,
            "texts": texts_of(done, details),
            "cells": [_cell(run) for run in loaded.runs],
            "expected": loaded.expected,
            "made_by": _provenance(loaded, done),
        }
    )


def _parts(runs: list[Run]) -> dict[str, dict[str, Any]]:
    """The parts of training that took any time: what they are, and their place among all, for their colour."""
    return {
        part: {"what": PARTS[part], "place": place}
        for place, part in enumerate(_TRAINING)
        if any(run.summary["seconds"].get(part) for run in runs)
    }


def _title(groups: dict[Series, list[Run]]) -> str:
    tasks = ", ".join(dict.fromkeys(series[0] for series in groups))
    if len(groups) > 1:
        return f"Curricula compared: {tasks}"
    [(task, method, curriculum)] = groups
    return f"{task}: {method} with {curriculum}"


def _baseline_first(names: list[str], baseline: str) -> list[str]:
    return sorted(dict.fromkeys(names), key=lambda name: (name != baseline, name))


def _learning(runs: list[Run]) -> Runs:
    return {run.seed: found for run in runs if (found := run.learning()) is not None}


def _describe(
    series: Series, runs: list[Run], learned: Runs, target: dict[str, Any] | None, level: float
) -> dict[str, Any]:
    """Everything about the runs of one task, method and curriculum."""
    totals = [sum(run.summary["tokens"].values()) for run in runs]
    seconds = [run.summary["seconds"] for run in runs]
    traces = {name: over_seeds([find(run) for run in runs], level) for name, (_, _, find) in TRACES.items()}
    return {
        **dict(zip(("task", "method", "curriculum"), series, strict=True)),
        "metric": runs[0].summary["metric"],
        "seeds": [run.seed for run in runs],
        "target": target,
        "accuracy": {unit: _curve(list(learned.values()), unit, level) for unit in UNITS} if learned else None,
        "to_target": _to_target(learned, target),
        "start": _interval(learned, 0, level),
        "final": _interval(learned, -1, level),
        "prompts": [run.right.shape[1] for run in learned.values()],
        "steps": _mean([run.summary["steps"] for run in runs]),
        "tokens": _mean(totals),
        "seconds": _mean([entry["training"] for entry in seconds]),
        "time": {part: _mean([entry.get(part, 0.0) for entry in seconds]) for part in _TRAINING},
        "distinct": _mean([run.summary["prompts_trained_on"] / run.summary["prompts_in_pool"] for run in runs]),
        "groups": {name: _logged(runs, name) for name in ("with_signal", "with_signal_trained", "dropped", "missing")},
        "traces": traces,
        "subjects": _subject_curves(runs, level),
    }


def _curve(runs: list[Learning], unit: str, level: float) -> dict[str, Any]:
    if len(runs) == 1:
        grid = runs[0].costs[unit]
        each_time = [dataclasses.astuple(over_prompts(right, level)) for right in runs[0].right]
        middle, low, high = np.transpose(each_time)
    else:
        grid, each = curves(runs, unit)
        middle, low, high = band(each, level)
    names = {"x": grid, "y": middle, "low": np.clip(low, 0, 1), "high": np.clip(high, 0, 1)}
    return {name: [round(float(value), 5) for value in values] for name, values in names.items()}


def _subject_curves(runs: list[Run], level: float) -> dict[str, dict[str, Any]]:
    """Accuracy over training of the held-out prompts of each subject, by unit; empty without subjects."""
    found: dict[str, list[Learning]] = {}
    for run in runs:
        learned, subjects = run.learning(), run.held_out_subjects()
        if learned is not None and subjects is not None:
            for name in sorted(set(subjects.tolist())):
                of_name = dataclasses.replace(learned, right=learned.right[:, subjects == name])
                found.setdefault(name, []).append(of_name)
    return {name: {unit: _curve(learned, unit, level) for unit in UNITS} for name, learned in found.items()}


def _to_target(learned: Runs, target: dict[str, Any] | None) -> dict[str, Any] | None:
    """What the target accuracy took, by unit; the value is infinite where it was not reached."""
    if not learned or target is None or target["value"] is None:
        return None
    return {unit: dataclasses.asdict(cost_of_target(learned, unit, target["value"])) for unit in UNITS}


def _interval(runs: Runs, evaluation: int, level: float) -> dict[str, float] | None:
    """Mean accuracy with its interval over seeds, and over prompts where there is one seed."""
    if not runs:
        return None
    right = [run.right[evaluation] for run in runs.values()]
    if len(right) == 1:
        return dataclasses.asdict(over_prompts(right[0], level))
    middle, low, high = band(np.array([values.mean() for values in right]), level)
    return {"value": float(middle), "low": float(low), "high": float(high)}


def _mean(values: list[float]) -> float:
    return round(float(np.mean(values)), 4)


def _logged(runs: list[Run], name: str) -> float | None:
    """Mean over steps and runs of `curriculum/groups_<name>`."""
    key = f"curriculum/groups_{name}"
    values = [line["metrics"][key] for run in runs for line in run.lines("step") if key in line["metrics"]]
    return float(np.mean(values)) if values else None


def _cell(run: Run) -> dict[str, Any]:
    names = ("task", "method", "curriculum", "seed", "status", "error")
    return {**{name: getattr(run, name) for name in names}, "folder": run.folder.name}


def _provenance(loaded: Loaded, done: list[Run]) -> dict[str, Any]:
    """What made the runs; what differs between them is a list."""
    found: dict[str, Any] = {}
    for name in ("versions", "hardware", "commit"):
        kinds = {json.dumps(run.summary.get(name), sort_keys=True) for run in done}
        found[name] = [json.loads(kind) for kind in sorted(kinds)]
    found["seeds"] = sorted({run.seed for run in done})
    found["matrices"] = {folder: matrix["config"] for folder, matrix in loaded.matrices.items()}
    found["settings"] = done[0].summary["config"]
    return found
