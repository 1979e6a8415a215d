"""A trainer's run from first to last evaluation, and what it leaves behind."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from ..config import RunConfig
from ..data.prompts import prompt_ids
from ..engine.protocol import Sampling
from ..rewards import RewardFunction
from .grading import grade_answers
from .provenance import commit, describe_hardware, versions
from .recorder import RunRecorder, Spent

SUMMARY_FILE = "summary.json"
_METRICS = {"accuracy": "accuracy", "rouge_l": "ROUGE-L"}
_PARTS = ("rollout", "sync", "scoring", "reward", "optimizer", "evaluation")


def train_and_measure(
    trainer: Any,
    held_out: Dataset | None,
    reward: RewardFunction | None,
    max_tokens: int,
    run: RunConfig,
    described: dict[str, Any],
    metric: str = "accuracy",
    spent: Spent | None = None,
) -> dict[str, Any]:
    """Train, measure held-out accuracy on the way, and write everything a report needs.

    Args:
        trainer (`Trainer`):
            A trainer with a curriculum; closed at the end, whatever happens.
        held_out (`datasets.Dataset`, *optional*):
            Prompts to answer greedily.
        reward (`RewardFunction`, *optional*):
            Judges the answers.
        max_tokens (`int`):
            Most tokens of an answer.
        run (`RunConfig`):
            How often to measure, and when to stop.
        described (`dict[str, Any]`):
            The run's settings as plain values, for `summary.json`.
        metric (`str`, *optional*, defaults to `"accuracy"`):
            `"accuracy"` is the share of full rewards, any other metric the mean reward, and stands under its name.
        spent (`Spent`, *optional*):
            What was spent on the run before the trainer was made.

    Returns:
        `dict[str, Any]`: what `summary.json` holds.
    """
    args = trainer.args
    folder = Path(args.output_dir)
    try:
        recorder = RunRecorder(
            trainer,
            folder,
            lambda: _answer(trainer, held_out, reward, max_tokens, metric),
            every=run.held_out_every,
            stop_after_tokens=run.stop_after_tokens,
            stop_after_seconds=run.stop_after_seconds,
        )
        recorder.begin(_step_of(args.resume_from_checkpoint), spent)
        trainer.train(resume_from_checkpoint=args.resume_from_checkpoint)
        seconds = recorder.seconds()
        recorder.finish()
        if run.keep_model:
            trainer.save_model(args.output_dir)
        trainer.save_state()
        steps = trainer.state.global_step
        summary = {
            "method": trainer._tag_names[1],
            "metric": metric,
            f"{metric}_before": recorder.measured[0],
            f"{metric}_after": recorder.measured[steps],
            "held_out_prompts": len(held_out) if held_out is not None else 0,
            "held_out_fingerprint": None if held_out is None else fingerprint(held_out),
            "steps": steps,
            "tokens": recorder.tokens,
            "prompts_in_pool": len(trainer.curriculum.pool),
            "pool_fingerprint": _hash(trainer.curriculum.pool.ids),
            "prompts_trained_on": trainer.curriculum.prompts_used(),
            "seconds": {"training": seconds} | {p: trainer.stopwatch.seconds.get(p, 0.0) for p in _PARTS},
            "versions": versions(),
            "hardware": describe_hardware(),
            "commit": commit(),
            "config": described,
        }
        if hasattr(trainer, "difficulty_seconds"):
            summary["seconds"]["difficulty"] = trainer.difficulty_seconds
        if trainer.accelerator.is_main_process:
            trainer.save_curriculum(folder)
            (folder / SUMMARY_FILE).write_text(json.dumps(summary, indent=2, default=str) + "\n")
            print_summary(summary, folder)
        return summary
    finally:
        trainer.close()


def _step_of(checkpoint: str | None) -> int | None:
    """Optimizer step a checkpoint was made at."""
    if checkpoint is None:
        return None
    return int(json.loads((Path(checkpoint) / "trainer_state.json").read_text())["global_step"])


def fingerprint(rows: Dataset) -> str:
    """The same for the same prompts in the same order."""
    return _hash(prompt_ids(rows))


def _hash(ids: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(ids).encode()).hexdigest()[:16]


def _answer(
    trainer: Any, held_out: Dataset | None, reward: RewardFunction | None, max_tokens: int, metric: str
) -> NDArray[np.float64] | None:
    """What the trainer's weights earn on held-out prompts, shape (P,); `None` where there is nothing to measure."""
    if held_out is None or reward is None:
        return None
    with trainer.scoring_backend() as backend:
        if backend is None or not trainer.accelerator.is_main_process:
            return None
        with trainer.stopwatch("evaluation"):
            graded = grade_answers(
                backend,
                trainer.processing_class,
                held_out,
                reward,
                sampling=Sampling(max_tokens, temperature=0.0),
                chat_template_kwargs=getattr(trainer, "chat_template_kwargs", None),
            )
    return (graded.right if metric == "accuracy" else graded.rewards)[:, 0]


def print_summary(summary: dict[str, Any], folder: Path) -> None:
    """Print the table a run ends with."""
    table = Table(title=f"{folder}", show_header=False)
    for name in [name for name in summary if name.endswith(("_before", "_after"))]:
        value = summary[name]
        metric, _, when = name.rpartition("_")
        label = f"held-out {_METRICS[metric]} {when} ({summary['held_out_prompts']} prompts, greedy)"
        table.add_row(label, "not measured" if value is None else f"{value:.3f}")
    table.add_row("optimizer steps", str(summary["steps"]))
    table.add_row("prompts trained on", f"{summary['prompts_trained_on']} of {summary['prompts_in_pool']}")
    seconds = summary["seconds"]
    table.add_row("training", f"{seconds['training']:.0f} s")
    for part in _PARTS[:-1]:
        table.add_row(f"  {part}", f"{seconds[part]:.0f} s ({seconds[part] / max(seconds['training'], 1e-9):.0%})")
    if "difficulty" in seconds:
        table.add_row("difficulty, before training", f"{seconds['difficulty']:.0f} s")
    table.add_row("evaluation, before and after", f"{seconds['evaluation']:.0f} s")
    Console().print(table)
