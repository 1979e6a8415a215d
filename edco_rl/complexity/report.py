"""What a run ends with: a table of the methods, and a plot of complexity for right and wrong answers."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.table import Table

from ..benchmark.run import without_nan
from ..scoring.atomic import write_whole

TABLE = "table"
_BINS = 30


def write_report(result: dict[str, Any], folder: Path) -> None:
    """Write `table.json` (all numbers), `table.csv` and `table.md`, and print the table.

    Args:
        result (`dict[str, Any]`):
            `methods`, a list of `method`, `reasoning_share`, `teacher`, `evaluation` and `training`, and what else is
            to be kept.
        folder (`Path`):
            Where they go.
    """
    columns, rows = table_of(result["methods"])
    markdown = [columns, ["---"] * len(columns), *rows]
    text = io.StringIO()
    csv.writer(text).writerows([columns, *rows])
    contents = {
        "json": json.dumps(without_nan(result), indent=2, default=str) + "\n",
        "csv": text.getvalue(),
        "md": "".join(f"| {' | '.join(row)} |\n" for row in markdown),
    }
    for suffix, content in contents.items():
        write_whole(folder / f"{TABLE}.{suffix}", _writer(content))
    table = Table(title=f"{result['model']} on {result['dataset']}")
    for name in columns:
        table.add_column(name, justify="left" if name == "method" else "right", no_wrap=name == "method")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def _writer(content: str) -> Callable[[Path], Any]:
    return lambda path: path.write_text(content)


def table_of(methods: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Headings and cells of the table."""
    columns = [
        "method",
        "with reasoning",
        "teacher tokens",
        "accuracy, direct",
        "accuracy, with reasoning",
        "training tokens",
        "seconds",
    ]
    return columns, [_cells(entry) for entry in methods]


def _cells(entry: dict[str, Any]) -> list[str]:
    training, teacher, evaluation = entry["training"], entry["teacher"], entry["evaluation"]
    continued = training is not None and training.get("attempts", 1) > 1
    return [
        entry["method"],
        "-" if entry["reasoning_share"] is None else f"{entry['reasoning_share']:.0%}",
        "-" if teacher is None else f"{teacher['answer_tokens']:,}",
        *(_accuracy(evaluation[form]) for form in ("direct", "reasoning")),
        "-" if training is None or "tokens" not in training else f"{training['tokens']:,}",
        "-" if training is None or "seconds" not in training else f"{training['seconds']:.0f}{'*' * continued}",
    ]


def _accuracy(measured: dict[str, Any]) -> str:
    if measured["accuracy"] is None:
        return "-"
    low, high = measured["interval"]
    return f"{measured['accuracy']:.3f} [{low:.3f}, {high:.3f}]"


def print_prediction(found: dict[str, Any], console: Console) -> None:
    """Print how well complexity predicts a wrong answer, for all rows and each subject."""
    table = Table(title="Does complexity predict a wrong answer?")
    for name in ("subject", "rows", "accuracy", "mean complexity, nats", "ROC AUC (95 % interval)"):
        table.add_column(name, justify="left" if name == "subject" else "right")
    for name, group in found["groups"].items():
        table.add_row(
            name,
            str(group["rows"]),
            "-" if group["accuracy"] is None else f"{group['accuracy']:.3f}",
            f"{group['score']:.3f}",
            auc_text(group["wrong_answer_auc"]),
        )
    console.print(table)
    if found["label_probability"] is not None:
        console.print(
            f"The first token is an option label with a mean probability of {found['label_probability']:.2f}."
        )


def auc_text(interval: dict[str, float] | None) -> str:
    """A ROC AUC with its interval; `-` where right or wrong answers are missing."""
    if interval is None:
        return "-"
    return f"{interval['value']:.3f} [{interval['low']:.3f}, {interval['high']:.3f}]"


def save_plot(scores: pa.Table, title: str, path: Path) -> None:
    """Histograms of complexity for right and for wrong answers, each of area one, as SVG, PNG or PDF."""
    from matplotlib.figure import Figure

    values = np.array(scores["score"].to_pylist(), dtype=np.float64)
    right = np.array([-1 if value is None else int(value) for value in scores["right"].to_pylist()])
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    edges = np.histogram_bin_edges(values, bins=_BINS)
    for kind, name, color in ((1, "right", "C0"), (0, "wrong", "C3")):
        chosen = values[right == kind]
        if len(chosen):
            axes.hist(
                chosen,
                bins=edges.tolist(),
                density=True,
                alpha=0.5,
                color=color,
                label=f"{name} answers ({len(chosen)})",
            )
            axes.axvline(float(np.median(chosen)), color=color, linestyle="--", linewidth=1)
    axes.set(xlabel="complexity, nats (dashed: medians)", ylabel="density", title=title)
    axes.legend()
    figure.savefig(path)
