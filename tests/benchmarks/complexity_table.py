"""The methods of complexity-aware fine-tuning beside each other, over the seeds of a matrix.

    python -m tests.benchmarks.complexity_table FOLDER

Each method counts in the form it was trained for: answers at once, after reasoning, or by class (after reasoning where
a question is as complex as the hard class). Intervals (95 %) are Student's over seeds, of differences too, which are
paired by seed.
"""

import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from edco_rl.benchmark.cells import CELLS_FOLDER
from edco_rl.complexity.baselines import METHOD
from edco_rl.complexity.evaluation import FORMS
from edco_rl.statistics import band

AT_ONCE, FULL = ("untrained", "sft", "curriculum"), "distillation"
TRAINED_FOR = {**dict.fromkeys(AT_ONCE, "direct"), METHOD: "by_class"}
"""The form a method's model is asked in; after reasoning, where it is not here."""


def read(folder: Path) -> tuple[dict[str, dict[int, dict[str, Any]]], list[dict[str, Any]]]:
    """What each method came to by seed, and what was predicted in each cell."""
    found: dict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
    predictions = []
    for path in sorted((folder / CELLS_FOLDER).glob("*/table.json")):
        cell = json.loads((path.parent / "cell.json").read_text())["value"]
        table = json.loads(path.read_text())
        predictions.append(table["prediction"]["groups"]["all"] | {"seed": cell["seed"]})
        for line in table["methods"]:
            shared = line["method"] in (*AT_ONCE, FULL)  # the same whatever the split
            name = line["method"] if shared else f"{line['method']}, {cell['method']}"
            found[name][cell["seed"]] = line
    return found, predictions


def numbers(line: dict[str, Any]) -> dict[str, float]:
    teacher, training = line["teacher"] or {}, line["training"] or {"tokens": 0, "steps": 0, "seconds": 0}
    forms = {form: line["evaluation"][form]["accuracy"] for form in FORMS}
    return {
        **forms,
        "accuracy": forms[TRAINED_FOR.get(line["method"], "reasoning")],
        "reasoning_tokens": float(teacher.get("answer_tokens") or 0),
        **{name: float(training[name]) for name in ("steps", "tokens", "seconds")},
    }


def shown(values: NDArray[np.float64]) -> str:
    mean, low, high = band(values)
    return f"{mean:.3f} ({low:.3f} to {high:.3f})"


def main() -> None:
    found, predictions = read(Path(sys.argv[1]))
    seeds = sorted(set.intersection(*(set(lines) for lines in found.values())))
    values = {name: [numbers(lines[seed]) for seed in seeds] for name, lines in found.items()}

    def column(name: str, number: str) -> NDArray[np.float64]:
        return np.array([one[number] for one in values[name]])

    table = Table(title=f"{len(seeds)} seeds")
    for title in (
        *("method", "at once", "after reasoning", "by class", "ahead of sft", f"ahead of {FULL}"),
        *("reasoning tokens", "trained tokens", "steps", "seconds"),
    ):
        table.add_column(title)
    for name in values:
        tokens = column(name, "reasoning_tokens").mean() / column(FULL, "reasoning_tokens").mean()
        table.add_row(
            name,
            *(shown(column(name, form)) for form in FORMS),
            *(shown(column(name, "accuracy") - column(other, "accuracy")) for other in ("sft", FULL)),
            f"{tokens:.0%}",
            *(f"{column(name, number).mean():,.0f}" for number in ("tokens", "steps", "seconds")),
        )
    console = Console(width=250)
    console.print(table)
    for one in predictions:
        auc = one["wrong_answer_auc"]
        console.print(
            f"seed {one['seed']}: {one['rows']} rows, accuracy {one['accuracy']:.3f}, ROC AUC for a wrong answer "
            f"{auc['value']:.3f} [{auc['low']:.3f}, {auc['high']:.3f}]"
        )


if __name__ == "__main__":
    main()
