"""A run and the one it is compared with, as one narrow table."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from ..benchmark.learning import UNITS, cost_of_target
from ..runs.held_out import METRICS
from ..statistics import over_prompts
from .compared import TARGET_SHARE
from .load import Run


def print_beside(runs: Sequence[Run]) -> None:
    """Print what runs that began alike came to: a column for each, the first being the one that was asked for.

    The target whose cost is shown is three quarters of the way from the start to the best end.
    """
    summaries = [run.summary for run in runs]
    metric = summaries[0]["metric"]
    table = Table(title=str(runs[0].folder))
    table.add_column("")
    for run in runs:
        table.add_column(run.curriculum, justify="right")

    def row(label: str, values: Sequence[float | None], show: Callable[[float], str] = "{:.3f}".format) -> None:
        if any(value is not None for value in values):
            table.add_row(label, *("-" if value is None else show(value) for value in values))

    name, how = METRICS[metric], f"{summaries[0]['held_out_prompts']} prompts, {summaries[0]['held_out_answers']}"
    row(f"held-out {name} before ({how})", [summary[f"{metric}_before"] for summary in summaries])
    row(f"held-out {name} after", [summary[f"{metric}_after"] for summary in summaries])
    learned = [run.learning() for run in runs]
    if metric == "accuracy" and all(one is not None for one in learned):
        intervals = [over_prompts(one.right[-1]) for one in learned]  # type: ignore[union-attr]
        table.add_row("  95 % interval over prompts", *(f"{one.low:.3f} to {one.high:.3f}" for one in intervals))
    for subject, first in summaries[0]["subjects"].items():
        found = [summary["subjects"][subject][f"{metric}_after"] for summary in summaries]
        row(f"  {subject}, from {first[f'{metric}_before']:.3f}", found)
    row("groups with a signal", [summary["groups_with_signal"] for summary in summaries], "{:.0%}".format)
    if all(one is not None for one in learned):
        _add_costs(row, learned)
    row("prompts trained on", [summary["prompts_trained_on"] for summary in summaries], "{:.0f}".format)
    row("training, s", [summary["seconds"]["training"] for summary in summaries], "{:.0f}".format)
    Console().print(table)


def _add_costs(row: Callable[..., None], learned: Sequence[Any]) -> None:
    means = [one.right.mean(axis=1) for one in learned]
    start, best = means[0][0], max(mean[-1] for mean in means)
    target = start + TARGET_SHARE * (best - start)
    if best > start:
        for unit in UNITS:
            costs = [cost_of_target({0: one}, unit, target).value for one in learned]
            row(f"{unit} to {target:.3f}", costs, lambda cost: f"{cost:,.0f}" if np.isfinite(cost) else "not reached")
