"""What an audit of a few rows foretells for supervised fine-tuning, beside what the other rows are.

    edco-rl audit --model_name_or_path MODEL --dataset_name ROWS --samples 600 --output_dir FOLDER ...
    python -m tests.benchmarks.supervised_check FOLDER... [--samples 128] [--splits 20]

The rows of an audit that was made are split at random, again and again: a few are audited, and what is said of them
is compared with the others, which it has not seen. Printed is for each folder and score how far a forecast was from
these, in the median, and in how many splits its interval held them. Advice is right where the score advised has an AUC
whose own interval on the others leaves out a half; or, of a random split, where no score has one beyond 0.6.
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from edco_rl.audit.auditor import Measurement, step_path
from edco_rl.audit.candidates import Candidate
from edco_rl.audit.supervised import look_at_references, look_at_rows
from edco_rl.config import EstimatorConfig
from edco_rl.statistics import FloatArray
from edco_rl.store import load

_USELESS = 0.6
_ROUNDING = 0.01  # a third of a few rows is not quite a third
_NUMBERS = ("wrong_answer_auc", "hard", "wrong_ratio", "loss_ratio")


def measurements(folder: Path) -> tuple[list[Measurement], FloatArray, float]:
    """The scores of an audit, whether each greedy answer was wrong, and the share that a curriculum takes."""
    audit, found = json.loads((folder / "audit.json").read_text()), []

    def kept(step: str, name: str) -> FloatArray:
        made = load(step_path(folder / "measurements", step))
        assert made is not None, f"{folder} has no measurement {step}"
        return np.array(made.value[name], dtype=np.float64)

    for entry in audit["estimators"][:-2]:  # behind them stand those of full sequences
        values = np.array([kept(f"{entry['label']}-{number}", "values") for number in range(2)])
        candidate = Candidate(entry["label"], EstimatorConfig(**entry["settings"]))
        found.append(Measurement(candidate, values, np.ones(values.shape[1]), np.ones(2)))
    rewards = kept("greedy-answers", "rewards")
    wrong = np.where(np.isnan(rewards), np.nan, rewards < 1.0)
    return found, wrong, audit["config"]["audit"]["curriculum_share"]


def said(found: list[Measurement], wrong: FloatArray, share: float, rows: Any, seed: int) -> dict[str, Any]:
    """What an audit says of some of the rows: its numbers by score and name, and the split it advises."""
    its = [Measurement(one.candidate, one.values[:, rows], one.tokens[rows], one.seconds) for one in found]
    looked = look_at_rows(its, wrong[rows], EstimatorConfig(), seed)
    references = look_at_references(its, share, seed)
    numbers: dict[str, dict[str, Any]] = defaultdict(dict)
    for part in (looked["splits"] if looked else [], references["curricula"] if references else []):
        for one in part:
            numbers[one["label"]] |= {name: one[name] for name in _NUMBERS if name in one}
    return {"numbers": numbers, "advice": looked and looked["advice"]["split"]}


def check(folder: Path, samples: int, splits: int) -> dict[str, Any]:
    """Errors and coverage of each number, and how often the advice was right."""
    found, wrong, share = measurements(folder)
    errors: dict[tuple[str, str], list[tuple[float, float, bool]]] = defaultdict(list)
    right = []
    for seed in range(splits):
        order = np.random.default_rng(seed).permutation(len(wrong))
        foretold, seen = (said(found, wrong, share, rows, seed) for rows in (order[:samples], order[samples:]))
        for label, numbers in seen["numbers"].items():
            for name, number in numbers.items():
                its = foretold["numbers"][label][name]
                error = abs(its["value"] / number["value"] - 1)
                held = (
                    its["low"] <= (1 + _ROUNDING) * number["value"]
                    and number["value"] <= (1 + _ROUNDING) * its["high"]
                )
                errors[label, name].append((number["value"], error, held))
        aucs = {label: its["wrong_answer_auc"] for label, its in seen["numbers"].items() if "wrong_answer_auc" in its}
        if foretold["advice"] == "random":
            right.append(max(auc["low"] for auc in aucs.values()) <= _USELESS)
        elif foretold["advice"] is not None:
            right.append(aucs[foretold["advice"]]["low"] > 0.5)
    return {"rows": len(wrong), "wrong": float(np.nanmean(wrong)), "errors": errors, "right": right}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--samples", type=int, default=128, help="Rows that are audited; the others are not seen.")
    parser.add_argument("--splits", type=int, default=20, help="Random splits of the rows.")
    args = parser.parse_args()
    table = Table()
    for column in ("pool", "rows", "wrong", "score", "number", "of the others", "off by, median", "interval holds"):
        table.add_column(column)
    console, every, advice = Console(width=180), defaultdict(list), []
    for folder in args.folders:
        checked = check(folder, args.samples, args.splits)
        advice += checked["right"]
        for (label, name), rows in checked["errors"].items():
            values, errors, held = map(np.array, zip(*rows, strict=True))
            every[name] += [(np.median(errors), held.mean())]
            numbers = (f"{np.median(values):.2f}", f"{np.median(errors):.0%}", f"{held.mean():.0%}")
            table.add_row(folder.name, str(checked["rows"]), f"{checked['wrong']:.2f}", label, name, *numbers)
    console.print(table)
    for name, rows in every.items():
        off, held = np.array(rows).T
        console.print(
            f"{name}: off by {np.median(off):.0%} in the median; the interval held the others in {held.mean():.0%}."
        )
    console.print(f"Advice right in {sum(advice)} of {len(advice)} splits.")


if __name__ == "__main__":
    main()
