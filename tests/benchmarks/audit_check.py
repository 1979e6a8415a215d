"""What an audit foretells of each pool, beside what curricula then draw from it.

    python -m tests.benchmarks.audit_check POOLS.yaml FOLDER [--samples 128] [--groups 256]

POOLS.yaml is a matrix, as of `edco-rl benchmark`: each of its tasks is a pool. The pool is audited on a sample of its
prompts. Then each curriculum scores prompts, draws, has them answered by the same policy, and learns from the rewards,
as in training but for the optimizer; a number of groups. Printed is for each pool and curriculum the share of groups
with a signal over that of random order, as it was foretold and as it was. Advice is right where no curriculum that was
tried found a clearly larger share of groups with a signal than the one advised.
"""

import argparse
import json
import os
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rich.console import Console
from rich.table import Table
from transformers import AutoTokenizer

from edco_rl.audit.audit import run_audit
from edco_rl.benchmark.cells import Cell, make_cells
from edco_rl.config import AuditConfig, BenchmarkConfig, DataConfig, EstimatorConfig, ScoringEngineConfig
from edco_rl.curriculum import Outcome
from edco_rl.data.tokens import RowTokenizer
from edco_rl.engine import Sampling
from edco_rl.engine.launch import scoring_engine
from edco_rl.runs.arithmetic import make_curriculum
from edco_rl.runs.grading import grade_answers
from edco_rl.runs.held_out import training_rewards
from edco_rl.runs.settings import prepare
from edco_rl.scoring import RowScorer, estimator_for
from edco_rl.store import once_value, write_json

_WITHIN = 0.2
"""Relative error of an enrichment that counts as a hit."""
_CLEARLY = 1.2
"""A share of groups with a signal that is larger by this factor is clearly larger."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pools", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--samples", type=int, default=128, help="Prompts of each pool that are audited.")
    parser.add_argument("--answers", type=int, default=16, help="Answers to each of them.")
    parser.add_argument("--share", type=float, default=0.25, help="Share of the scored prompts that is drawn.")
    parser.add_argument("--groups", type=int, default=256, help="Groups that each curriculum draws.")
    parser.add_argument("--estimators", nargs="+", default=["surprisal", "prefix_entropy"])
    args = parser.parse_args()
    cells = make_cells(BenchmarkConfig(**yaml.safe_load(args.pools.read_text()) | {"output_dir": str(args.folder)}))
    pools = []
    for task in dict.fromkeys(cell.task for cell in cells):
        its = [cell for cell in cells if cell.task == task]
        audited = audit(its[0], args.folder / "audits" / task, args)
        pools.append(compare(task, audited, {cell.curriculum: seen(cell, args) for cell in its}))
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


def seen(cell: Cell, args: argparse.Namespace) -> float:
    """Share of a curriculum's groups with a signal, drawn anew or as they were before."""
    folder = args.folder / "draws" / cell.name
    made_from = {**cell.made_from, "groups": args.groups}
    return once_value(folder / "signal", made_from, lambda: draw(cell, folder, args.groups)).value


def draw(cell: Cell, folder: Path, groups: int) -> float:
    """As a trainer draws: scores at each renewal, groups of answers, and what these say to the curriculum."""
    settings = cell.settings(folder)
    rows, _, _ = prepare(settings)
    training, config = settings.training, settings.curriculum
    model = os.path.expanduser(settings.model.model_name_or_path)
    tokenizer = RowTokenizer(AutoTokenizer.from_pretrained(model), training.chat_template_kwargs)
    layout = settings.method.load("trainer").batch_layout(training)
    curriculum = make_curriculum(rows, training, config, layout, list(map(len, tokenizer.prompts(rows.to_list()))))
    estimator = estimator_for(curriculum.strategy, rows, tokenizer)
    scored_at = replace(config, scoring_reference_temperature=training.temperature)
    scorer = RowScorer(tokenizer, scored_at, estimator=estimator)
    [reward] = training_rewards(settings.script, settings.run)
    sampling = Sampling(training.max_completion_length, layout.group_size, training.temperature, training.top_p)
    signals: list[bool] = []
    with scoring_engine(settings.engine, model, log_path=folder / "engine.log") as engine:
        for step in range(-(-groups // layout.batch_size)):
            if step % config.curriculum_interval == 0:
                wanted = curriculum.wants(config.curriculum_candidates)
                scores = scorer.score(scorer.encode(rows.select(wanted).to_list()), engine) if len(wanted) else []
                found = zip(wanted.tolist(), scores, strict=True)
                curriculum.observe([Outcome(index, step, score=score.value) for index, score in found])
                curriculum.renew(step)
            chosen = curriculum.next_batch()
            rewards = grade_answers(engine, tokenizer, rows.select(chosen), reward, sampling=sampling).rewards
            signals += (np.ptp(rewards, axis=1) > 0).tolist()
            told = zip(chosen.tolist(), rewards.tolist(), strict=True)
            curriculum.observe([Outcome(index, step, rewards=tuple(group)) for index, group in told])
    return float(np.mean(signals))


def compare(task: str, audited: dict[str, Any], drawn: dict[str, float]) -> dict[str, Any]:
    """Enrichment foretold and seen of each curriculum of a pool, and whether the advice was right."""
    foretold = {one["name"]: one["signal_share"]["value"] for one in audited["curricula"]}
    rows = {
        name: {"foretold": foretold[name] / foretold["random"], "seen": drawn[name] / drawn["random"]}
        for name in drawn
        if name != "random" and name in foretold and foretold["random"] and drawn["random"]
    }
    for row in rows.values():
        row["hit"] = bool(abs(row["foretold"] / row["seen"] - 1) <= _WITHIN) if row["seen"] else False
    advice = audited["advice"]["strategy"]
    return {
        "pool": task,
        **{name: audited["pool"][name]["value"] for name in ("mastered", "learnable", "hopeless")},
        "seen": drawn,
        "enrichment": rows,
        "advice": advice,
        "right": max(drawn.values()) <= _CLEARLY * drawn[advice] if advice in drawn else None,
    }


def show(pools: list[dict[str, Any]]) -> None:
    """Print a line a pool and curriculum, and how often the audit was right."""
    table = Table()
    for column in (
        "pool",
        "mastered",
        "hopeless",
        "random",
        "curriculum",
        "foretold",
        "seen",
        "hit",
        "advice",
        "right",
    ):
        table.add_column(column)
    for pool in pools:
        for name, row in pool["enrichment"].items():
            numbers = (f"{pool['mastered']:.2f}", f"{pool['hopeless']:.2f}", f"{pool['seen']['random']:.2f}", name)
            found = (f"{row['foretold']:.2f}", f"{row['seen']:.2f}", "yes" if row["hit"] else "no")
            table.add_row(
                pool["pool"], *numbers, *found, pool["advice"], {True: "yes", False: "no"}.get(pool["right"])
            )
    console = Console(width=160)
    console.print(table)
    for name in dict.fromkeys(name for pool in pools for name in pool["enrichment"]):
        hits = [pool["enrichment"][name]["hit"] for pool in pools if name in pool["enrichment"]]
        console.print(f"{name}: within a fifth on {sum(hits)} of {len(hits)} pools.")
    right = [pool["right"] for pool in pools if pool["right"] is not None]
    console.print(f"The advice was right on {sum(right)} of {len(right)} pools.")


if __name__ == "__main__":
    main()
