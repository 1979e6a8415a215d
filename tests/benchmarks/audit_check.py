"""What an audit foretells of each pool, beside what runs on that pool then draw.

    python -m tests.benchmarks.audit_check MATRIX.yaml FOLDER [--samples 128]

Audits the pool of each task of a matrix (`edco-rl benchmark`), runs the matrix, and prints for each pool and
curriculum the share of groups with a signal over that of random order: as it was foretold from a sample of the pool
before training, and as it was over the groups that were drawn. A matrix whose learning rate is next to 0 draws from
the policy that was audited. Advice is right where no curriculum that was run found a clearly larger share of groups
with a signal than the one advised, and where "random" is advised, none was ahead of it.
"""

import argparse
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rich.console import Console
from rich.table import Table

from edco_rl.audit.audit import run_audit
from edco_rl.benchmark.cells import CELLS_FOLDER, Cell, make_cells
from edco_rl.benchmark.matrix import run_benchmark
from edco_rl.config import AuditConfig, BenchmarkConfig, DataConfig, EstimatorConfig, ScoringEngineConfig
from edco_rl.store import write_json

_WITHIN = 0.2
"""Relative error of an enrichment that counts as a hit."""
_CLEARLY = 1.2
"""A share of groups with a signal that is larger by this factor is clearly larger."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("matrix", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--samples", type=int, default=128, help="Prompts of each pool that are audited.")
    parser.add_argument("--answers", type=int, default=16, help="Answers to each of them.")
    parser.add_argument("--share", type=float, default=0.25, help="Share of the scored prompts that is drawn.")
    parser.add_argument("--estimators", nargs="+", default=["surprisal", "prefix_entropy"])
    args = parser.parse_args()
    benchmark = BenchmarkConfig(**yaml.safe_load(args.matrix.read_text()) | {"output_dir": str(args.folder / "runs")})
    cells = make_cells(benchmark)
    audits = {}
    for task in dict.fromkeys(cell.task for cell in cells):
        first = next(cell for cell in cells if cell.task == task)
        audits[task] = audit(first, args.folder / "audits" / task, args)
    run_benchmark(benchmark)
    pools = [compare(task, audits[task], cells, args.folder / "runs") for task in audits]
    write_json(args.folder / "audit_check.json", {"pools": pools})
    show(pools)


def audit(cell: Cell, folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """The audit of a cell's pool, or what it said before."""
    kept = folder / "audit.json"
    if kept.is_file():
        return json.loads(kept.read_text())
    values = cell.values

    def of(kind: Any, **more: Any) -> Any:
        return kind(**{one.name: values[one.name] for one in fields(kind) if one.init and one.name in values} | more)

    settings = of(
        AuditConfig,
        output_dir=str(folder),
        samples=args.samples,
        reference_samples=args.answers,
        curriculum_share=args.share,
        estimators=args.estimators,
        reward_func=values["reward_funcs"][0],
    )
    estimator = of(EstimatorConfig, scoring_sequence_tokens=values["max_completion_length"])
    return run_audit(settings, estimator, of(ScoringEngineConfig), of(DataConfig))


def compare(task: str, audited: dict[str, Any], cells: list[Cell], folder: Path) -> dict[str, Any]:
    """Enrichment foretold and seen of each curriculum of a pool, and whether the advice was right."""
    foretold = {one["name"]: one["signal_share"]["value"] for one in audited["curricula"]}
    seen = {}
    for curriculum in dict.fromkeys(cell.curriculum for cell in cells):
        paths = [folder / CELLS_FOLDER / c.name for c in cells if (c.task, c.curriculum) == (task, curriculum)]
        shares = [json.loads((path / "summary.json").read_text())["groups_with_signal"] for path in paths]
        seen[curriculum] = float(np.mean(shares))
    rows = {
        name: {"foretold": foretold[name] / foretold["random"], "seen": seen[name] / seen["random"]}
        for name in seen
        if name != "random" and name in foretold and foretold["random"] and seen["random"]
    }
    for row in rows.values():
        row["hit"] = bool(abs(row["foretold"] / row["seen"] - 1) <= _WITHIN) if row["seen"] else False
    advice = audited["advice"]["strategy"]
    best = max(seen.values())
    return {
        "pool": task,
        **{name: audited["pool"][name]["value"] for name in ("mastered", "learnable", "hopeless")},
        "seen": seen,
        "enrichment": rows,
        "advice": advice,
        "right": best <= _CLEARLY * seen[advice] if advice in seen else None,
    }


def show(pools: list[dict[str, Any]]) -> None:
    """Print a line a pool and curriculum, and how often the audit was right."""
    table = Table()
    for column in ("pool", "mastered", "hopeless", "curriculum", "foretold", "seen", "hit", "advice", "right"):
        table.add_column(column)
    for pool in pools:
        for name, row in pool["enrichment"].items():
            numbers = (f"{pool['mastered']:.2f}", f"{pool['hopeless']:.2f}", name)
            found = (f"{row['foretold']:.2f}", f"{row['seen']:.2f}", "yes" if row["hit"] else "no")
            table.add_row(
                pool["pool"], *numbers, *found, pool["advice"], {True: "yes", False: "no"}.get(pool["right"])
            )
    console = Console()
    console.print(table)
    for name in dict.fromkeys(name for pool in pools for name in pool["enrichment"]):
        hits = [pool["enrichment"][name]["hit"] for pool in pools if name in pool["enrichment"]]
        console.print(f"{name}: within a fifth on {sum(hits)} of {len(hits)} pools.")
    right = [pool["right"] for pool in pools if pool["right"] is not None]
    console.print(f"The advice was right on {sum(right)} of {len(right)} pools.")


if __name__ == "__main__":
    main()
