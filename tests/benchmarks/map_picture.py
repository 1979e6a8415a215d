"""The picture of the map: held-out accuracy on each pool against optimizer steps, mean and range over seeds.

    python -m tests.benchmarks.map_picture runs/map runs [--curricula random edco learning_edge]

Runs that have not ended are left out.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from edco_rl.report.figures import COLORS, save_figure
from edco_rl.report.load import load

Curves = dict[tuple[str, str], tuple[np.ndarray, np.ndarray]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs")
    parser.add_argument("folder", type=Path, help="Where map.png and map.svg go.")
    parser.add_argument("--curricula", nargs="+", default=["random", "edco", "learning_edge", "random+equal_rewards"])
    args = parser.parse_args()
    curves = read(args.runs)
    title = "held-out accuracy of learnable prompts, against optimizer steps"
    save_figure("map", lambda figure: draw(figure, curves, args.curricula), title, args.folder)


def draw(figure: Any, curves: Curves, curricula: list[str]) -> bool:
    pools = sorted({pool for pool, _ in curves})
    axes = figure.subplots(2, -(-len(pools) // 2), sharex=True, sharey=True, squeeze=False)
    for axis, pool in zip(axes.flat, pools, strict=False):
        mastered, _, hopeless = pool.removeprefix("m").partition("_h")
        axis.set_title(f"mastered {float(mastered):.0%}, hopeless {float(hopeless):.0%}", fontsize=9)
        for color, curriculum in zip(COLORS, curricula, strict=False):
            if (pool, curriculum) in curves:
                steps, values = curves[pool, curriculum]
                axis.fill_between(steps, values.min(axis=0), values.max(axis=0), color=color, alpha=0.12, linewidth=0)
                axis.plot(steps, values.mean(axis=0), color=color, label=curriculum)
    lines = {line.get_label(): line for axis in axes.flat for line in axis.get_lines()}
    figure.legend(
        list(lines.values()), list(lines), loc="outside lower center", ncols=max(len(lines), 1), frameon=False
    )
    return bool(lines)


def read(folder: str) -> Curves:
    """Steps, shape (E,), and held-out accuracy of each seed at them, shape (S, E), by pool and curriculum."""
    found: dict[tuple[str, str], list[tuple[np.ndarray, np.ndarray]]] = {}
    for run in load([folder]).runs:
        if run.status == "done" and (learned := run.learning()) is not None:
            found.setdefault((run.task, run.curriculum), []).append(
                (learned.costs["steps"], learned.right.mean(axis=1))
            )
    return {key: (runs[0][0], np.array([values for _, values in runs])) for key, runs in found.items()}


if __name__ == "__main__":
    main()
