"""From runs to everything a report shows, as plain values."""

import dataclasses
import datetime
import json
from typing import Any

import numpy as np

from ..benchmark.comparison import UNITS, Comparison, Learning, Runs, compare, curves
from ..config import ReportConfig
from ..errors import ConfigurationError
from ..statistics import band, holm
from ..store import plain
from ..trainers.stopwatch import PARTS
from .load import Loaded, Run
from .traces import TRACES, heat, over_seeds

_TRAINING = [part for part in PARTS if part != "evaluation"]
# By default the target is this share of the way from the start to where the baseline ends.
TARGET_SHARE = 0.75
_LEAST_GAIN = 0.01
Series = tuple[str, str, str]


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
    targets = _targets(groups, learned, baseline, config)
    comparisons = _compare_all(learned, baseline, targets, unit, config)
    level = config.confidence_level
    return plain(
        {
            "title": config.title or _title(groups),
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
    return f"Curricula compared: {tasks}"


def _baseline_first(names: list[str], baseline: str) -> list[str]:
    return sorted(dict.fromkeys(names), key=lambda name: (name != baseline, name))


def _learning(runs: list[Run]) -> Runs:
    return {run.seed: found for run in runs if (found := run.learning()) is not None}


def _targets(
    groups: dict[Series, list[Run]], learned: dict[Series, Runs], baseline: str, config: ReportConfig
) -> dict[tuple[str, str], dict[str, Any]]:
    """Target accuracy by task and method, and where it comes from; `value` is `None` without one."""
    targets: dict[tuple[str, str], dict[str, Any]] = {}
    for task, method in dict.fromkeys(series[:2] for series in groups):
        given = [run.target_accuracy for run in groups.get((task, method, baseline), []) if run.target_accuracy]
        runs = learned.get((task, method, baseline), {})
        if config.target_accuracy is not None or given:
            value = config.target_accuracy if config.target_accuracy is not None else given[0]
            targets[task, method] = {"value": value, "why": "given"}
        elif runs:
            start, end = (np.mean([run.right[i].mean() for run in runs.values()]) for i in (0, -1))
            gained = end - start >= _LEAST_GAIN
            why = f"{TARGET_SHARE:.0%} of the way of {baseline}" if gained else f"{baseline} did not improve"
            targets[task, method] = {"value": float(start + TARGET_SHARE * (end - start)) if gained else None}
            targets[task, method]["why"] = why
        else:
            why = "accuracy was not measured" if (task, method, baseline) in groups else f"no run of {baseline}"
            targets[task, method] = {"value": None, "why": why}
    return targets


def _compare_all(
    learned: dict[Series, Runs],
    baseline: str,
    targets: dict[tuple[str, str], dict[str, Any]],
    main_unit: str,
    config: ReportConfig,
) -> list[dict[str, Any]]:
    """Each curriculum against the baseline within its method, and each method's baseline against the first one's."""
    first = {task: next(m for t, m, _ in learned if t == task) for task, *_ in learned}
    found: list[dict[str, Any]] = []
    for task, method, curriculum in learned:
        other = (task, method, baseline) if curriculum != baseline else (task, first[task], baseline)
        if other == (task, method, curriculum) or other not in learned:
            continue
        entry: dict[str, Any] = {"task": task, "method": method, "curriculum": curriculum, "against": other[1:]}
        target = targets[other[:2]]
        entry["target"] = target["value"]
        try:
            results = {} if target["value"] is None else _in_all_units(learned, entry, other, config)
            entry["problem"] = None if results else f"no target: {target['why']}"
        except ValueError as error:
            results, entry["problem"] = {}, str(error)
        found.append({**entry, "units": results})
    known = [entry for entry in found if entry["units"]]
    adjusted = holm([entry["units"][main_unit].p_value for entry in known])
    for entry, value in zip(known, adjusted, strict=True):
        entry["verdict"] = dataclasses.replace(entry["units"][main_unit], adjusted=float(value)).verdict(
            1 - config.confidence_level
        )
        entry["adjusted"] = float(value)
        entry["units"] = {unit: _described(result) for unit, result in entry["units"].items()}
    return found


def _in_all_units(
    learned: dict[Series, Runs], entry: dict[str, Any], other: Series, config: ReportConfig
) -> dict[str, Comparison]:
    runs = learned[entry["task"], entry["method"], entry["curriculum"]]
    return {
        unit: compare(
            runs,
            learned[other],
            entry["target"],
            unit,
            confidence_level=config.confidence_level,
            resamples=config.resamples,
            seed=config.seed,
        )
        for unit in UNITS
    }


def _described(result: Comparison) -> dict[str, Any]:
    """A comparison as JSON has it: what is infinite is said by a flag."""
    values = dataclasses.asdict(result)
    return {
        **values,
        "ratio": values["ratio"] if np.isfinite(values["ratio"]) else None,
        "high": values["high"] if np.isfinite(values["high"]) else None,
        "reached": bool(np.isfinite(result.cost.value)),
        "baseline_reached": bool(np.isfinite(result.baseline_cost.value)),
    }


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
        "start": _interval([run.right[0].mean() for run in learned.values()], level),
        "final": _interval([run.right[-1].mean() for run in learned.values()], level),
        "prompts": [run.right.shape[1] for run in learned.values()],
        "steps": _mean([run.summary["steps"] for run in runs]),
        "tokens": _mean(totals),
        "seconds": _mean([entry["training"] for entry in seconds]),
        "time": {part: _mean([entry.get(part, 0.0) for entry in seconds]) for part in _TRAINING},
        "distinct": _mean([run.summary["prompts_trained_on"] / run.summary["prompts_in_pool"] for run in runs]),
        "groups": {name: _logged(runs, name) for name in ("with_signal", "with_signal_trained", "dropped", "missing")},
        "traces": traces,
        "heat": {run.seed: heat(run) for run in runs},
    }


def _curve(runs: list[Learning], unit: str, level: float) -> dict[str, Any]:
    grid, each = curves(runs, unit)
    middle, low, high = band(each, level)
    names = {"x": grid, "y": middle, "low": np.clip(low, 0, 1), "high": np.clip(high, 0, 1)}
    return {name: [round(float(value), 5) for value in values] for name, values in names.items()}


def _interval(values: list[float], level: float) -> dict[str, float] | None:
    if not values:
        return None
    middle, low, high = band(np.array(values), level)
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
