"""The picture of the map: held-out accuracy on each pool against optimizer steps, mean and range over seeds.

python -m tests.benchmarks.map_picture runs/map docs/images/map.svg [--curricula random edco learning_edge]
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from edco_rl.report.load import load

_COLORS = {
    "random": "#6b7280",
    "edco": "#c2410c",
    "learning_edge": "#0b63ce",
    "random+equal_rewards": "#9333ab",
    "learning_edge+equal_rewards": "#0f7b5f",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--curricula", nargs="+", default=["random", "edco", "learning_edge", "random+equal_rewards"])
    args = parser.parse_args()
    curves = read(args.folder)
    pools = sorted({pool for pool, _ in curves})
    with rc_context({"svg.hashsalt": "edco_rl", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(10, 5), layout="constrained")
        axes = figure.subplots(2, -(-len(pools) // 2), sharex=True, sharey=True)
        for axis, pool in zip(axes.flat, pools, strict=False):
            mastered, _, hopeless = pool.removeprefix("m").partition("_h")
            axis.set_title(f"mastered {float(mastered):.0%}, hopeless {float(hopeless):.0%}", fontsize=9)
            for curriculum in args.curricula:
                runs = curves.get((pool, curriculum))
                if runs is None:
                    continue
                steps, values = runs
                color = _COLORS.get(curriculum, "black")
                axis.fill_between(steps, values.min(axis=0), values.max(axis=0), color=color, alpha=0.12, linewidth=0)
                axis.plot(steps, values.mean(axis=0), color=color, linewidth=1.6, label=curriculum)
            axis.spines[["top", "right"]].set_visible(False)
        figure.supxlabel("optimizer steps")
        figure.supylabel("held-out accuracy, learnable prompts")
        lines = {line.get_label(): line for axis in axes.flat for line in axis.get_lines()}
        figure.legend(list(lines.values()), list(lines), loc="outside upper center", ncols=len(lines), frameon=False)
        figure.savefig(args.picture, metadata={"Date": None} if args.picture.suffix == ".svg" else None)


def read(folder: Path) -> dict[tuple[str, str], tuple[np.ndarray, np.ndarray]]:
    """Steps, shape (E,), and held-out accuracy of each seed at them, shape (S, E), by pool and curriculum."""
    found: dict[tuple[str, str], list[tuple[np.ndarray, np.ndarray]]] = {}
    for run in load([str(folder)]).runs:
        if run.status == "done" and (learned := run.learning()) is not None:
            measured = learned.costs["steps"], learned.right.mean(axis=1)
            found.setdefault((run.task, run.curriculum), []).append(measured)
    return {key: (runs[0][0], np.array([values for _, values in runs])) for key, runs in found.items()}


if __name__ == "__main__":
    main()
