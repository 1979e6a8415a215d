"""What came of a comparison of distillations."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table


def summarize(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Cells over their seeds: `curriculum`, `divergence`, `rouge_l` (one value a seed), `seconds` and the means of
    `difficulty_seconds` and `difficulty_share`, of the time of difficulty and training together."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for result in results:
        groups.setdefault((result["curriculum"], result.get("divergence", "")), []).append(result)
    found = []
    for (curriculum, divergence), members in groups.items():
        difficulty = np.array([member.get("difficulty_seconds", 0.0) for member in members])
        seconds = np.array([member["seconds"] for member in members])
        found.append(
            {
                "curriculum": curriculum,
                "divergence": divergence,
                "rouge_l": [member["rouge_l"] for member in members],
                "seconds": float(seconds.mean()),
                "difficulty_seconds": float(difficulty.mean()),
                "difficulty_share": float((difficulty / (difficulty + seconds)).mean()),
            }
        )
    return found


def print_table(title: str, results: Sequence[dict[str, Any]]) -> None:
    """Print mean and standard deviation over seeds of ROUGE-L in per cent, and mean times.

    Args:
        title (`str`):
            What was measured.
        results (`Sequence[dict]`):
            Entries of [`~edco_rl.benchmark.distill.DistillationBenchmark.run`].
    """
    table = Table(title=title)
    for column in ("", "divergence", "ROUGE-L", "training", "difficulty"):
        table.add_column(column, no_wrap=True)
    for entry in summarize(results):
        values = 100 * np.array(entry["rouge_l"])
        spread = f" ± {values.std(ddof=1):.2f}" if len(values) > 1 else ""
        share = f"{entry['difficulty_seconds']:.0f} s ({entry['difficulty_share']:.0%})"
        table.add_row(
            entry["curriculum"],
            entry["divergence"],
            f"{values.mean():.2f}{spread}",
            f"{entry['seconds']:.0f} s",
            share if entry["difficulty_seconds"] else "",
        )
    Console().print(table)
