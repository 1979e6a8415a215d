"""Each curriculum of a matrix against the baseline, and what accuracy is aimed at."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..benchmark.comparison import compare
from ..benchmark.learning import UNITS, Runs
from ..statistics import holm

# By default the target is this share of the way from the start to where the baseline ends.
TARGET_SHARE = 0.75
_LEAST_GAIN = 0.01
Series = tuple[str, str, str]
"""Task, method and curriculum."""


def find_targets(
    learned: Mapping[Series, Runs], baseline: str, given: Mapping[tuple[str, str], float]
) -> dict[tuple[str, str], dict[str, Any]]:
    """Target accuracy by task and method, and where it comes from; `value` is `None` without one.

    Args:
        learned (`Mapping[tuple[str, str, str], dict[int, Learning]]`):
            Runs by seed, by task, method and curriculum.
        baseline (`str`):
            Curriculum the others are compared with.
        given (`Mapping[tuple[str, str], float]`):
            Targets that were asked for, by task and method.
    """
    targets: dict[tuple[str, str], dict[str, Any]] = {}
    for task, method in dict.fromkeys(series[:2] for series in learned):
        runs = learned.get((task, method, baseline), {})
        value = given.get((task, method))
        why = "given"
        if value is None and runs:
            start, end = (float(np.mean([run.right[i].mean() for run in runs.values()])) for i in (0, -1))
            gained = end - start >= _LEAST_GAIN
            value = start + TARGET_SHARE * (end - start) if gained else None
            why = f"{TARGET_SHARE:.0%} of the way of {baseline}" if gained else f"{baseline} did not improve"
        elif value is None:
            why = "accuracy was not measured" if (task, method, baseline) in learned else f"no run of {baseline}"
        targets[task, method] = {"value": value, "why": why}
    return targets


def compare_all(
    learned: Mapping[Series, Runs],
    baseline: str,
    targets: Mapping[tuple[str, str], dict[str, Any]],
    main_unit: str,
    level: float,
) -> list[dict[str, Any]]:
    """Each curriculum against the baseline within its method, and each method's baseline against the first one's.

    Args:
        learned (`Mapping[tuple[str, str, str], dict[int, Learning]]`):
            Runs by seed, by task, method and curriculum.
        baseline (`str`):
            Curriculum the others are compared with.
        targets (`Mapping[tuple[str, str], dict[str, Any]]`):
            What [`find_targets`] found.
        main_unit (`str`):
            The unit in which a verdict is given.
        level (`float`):
            Confidence level.
    """
    first = {task: next(m for t, m, _ in learned if t == task) for task, *_ in learned}
    against = {
        (task, method, curriculum): (task, method, baseline)
        if curriculum != baseline
        else (task, first[task], baseline)
        for task, method, curriculum in learned
    }
    against = {series: other for series, other in against.items() if other != series and other in learned}
    found: list[dict[str, Any]] = []
    for series, other in against.items():
        entry: dict[str, Any] = dict(zip(("task", "method", "curriculum"), series, strict=True))
        entry["against"] = other[1:]
        entry |= {"problem": None, "units": {}}
        # Noise is that of all curricula of the method; two methods are compared by their own.
        beside = [runs for name, runs in learned.items() if name[:2] == series[:2] == other[:2]]
        beside = [runs for runs in beside if runs is not learned[series] and runs is not learned[other]]
        try:
            entry["units"] = {
                unit: compare(
                    learned[series],
                    learned[other],
                    targets[other[:2]]["value"],
                    unit,
                    others=beside,
                    comparisons=len(against),
                    confidence_level=level,
                )
                for unit in UNITS
            }
        except ValueError as error:
            measured = learned[series] and learned[other]
            entry["problem"] = str(error) if measured else "accuracy was not measured"
        found.append(entry)
    known = [entry for entry in found if entry["units"]]
    adjusted = holm([entry["units"][main_unit].p_value for entry in known])
    for entry, value in zip(known, adjusted, strict=True):
        entry["verdict"] = dataclasses.replace(entry["units"][main_unit], adjusted=float(value)).verdict(1 - level)
        entry["adjusted"] = float(value)
        entry["units"] = {
            unit: {**dataclasses.asdict(result), "never": bool(np.isinf(result.ratio))}
            for unit, result in entry["units"].items()
        }
    return found
