"""What a run ends with: a table of the methods, and a plot of complexity for right and wrong answers."""

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from ..store import write_json, write_text
from .evaluation import FORMS

TABLE = "table"
_COLUMNS = (
    *("method", "with reasoning", "teacher tokens", "direct", "after reasoning", "by class"),
    *("training tokens", "seconds"),
)
_BINS = 30


def write_table_of_methods(result: dict[str, Any], folder: Path) -> None:
    """Write `table.json` (all there is), `table.csv` (numbers) and `table.md`, and print the table.

    Args:
        result (`dict[str, Any]`):
            `methods`, a list of `method`, `reasoning_share`, `teacher`, `evaluation` and `training`, and what else is
            to be kept.
        folder (`Path`):
            Where they go.
    """
    numbers = [numbers_of(entry) for entry in result["methods"]]
    cells = [_cells(entry) for entry in numbers]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(numbers[0]))
    writer.writeheader()
    writer.writerows(numbers)
    markdown = [list(_COLUMNS), ["---"] * len(_COLUMNS), *([cell.replace("\n", " ") for cell in row] for row in cells)]
    write_json(folder / f"{TABLE}.json", result)
    write_text(folder / f"{TABLE}.csv", text.getvalue())
    write_text(folder / f"{TABLE}.md", "".join(f"| {' | '.join(row)} |\n" for row in markdown))
    title = f"{result['held_out_prompts']} held-out prompts, greedy; 95 % intervals"
    table = Table(title=title, box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in _COLUMNS:
        table.add_column(name.replace(" ", "\n"), justify="left" if name == "method" else "right")
    for row in cells:
        table.add_row(*row)
    Console().print(table)


def numbers_of(entry: dict[str, Any]) -> dict[str, Any]:
    """A method's line of the table as numbers; `None` for what it has not."""
    training, teacher = entry["training"] or {}, entry["teacher"] or {}
    line = {
        "method": entry["method"],
        "reasoning_share": entry["reasoning_share"],
        "teacher_tokens": teacher.get("answer_tokens"),
    }
    for form, measured in entry["evaluation"].items():
        low, high = measured["interval"] or (None, None)
        line |= {f"accuracy_{form}": measured["accuracy"], f"low_{form}": low, f"high_{form}": high}
    line |= {f"training_{name}": training.get(name) for name in ("tokens", "seconds")}
    return line


def _cells(line: dict[str, Any]) -> list[str]:
    return [
        line["method"],
        _shown(line["reasoning_share"], ".0%"),
        _shown(line["teacher_tokens"], ","),
        *(
            f"{_shown(line[f'accuracy_{form}'], '.3f')}\n"
            f"{_shown(line[f'low_{form}'], '.2f')}-{_shown(line[f'high_{form}'], '.2f')}"
            for form in FORMS
        ),
        _shown(line["training_tokens"], ","),
        _shown(line["training_seconds"], ".0f"),
    ]


def _shown(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def print_prediction(found: dict[str, Any], console: Console) -> None:
    """Print how well complexity predicts a wrong answer, for all rows and each subject, and how well its rivals."""
    for kind, title, mean in (
        ("groups", "Does complexity predict a wrong answer?", "mean complexity, nats"),
        ("rivals", "Do other scores?", "mean score"),
    ):
        table = Table(title=title)
        for name in ("subject" if kind == "groups" else "score", "rows", "accuracy", mean, "ROC AUC (95 % interval)"):
            table.add_column(name, justify="left" if name in ("subject", "score") else "right")
        for name, group in found[kind].items():
            numbers = _shown(group["accuracy"], ".3f"), _shown(group["score"], ".3f")
            table.add_row(name, str(group["rows"]), *numbers, auc_text(group["wrong_answer_auc"]))
        if found[kind]:
            console.print(table)
    for status, count in found["left_out"].items():
        console.print(f"{count} rows are left out: their first token is {status}.")
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
