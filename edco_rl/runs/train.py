"""A trainer's run from first to last evaluation, and what it leaves behind."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ..data.tasks import is_generated
from ..store import fingerprint, write_json
from ..trainers.stopwatch import PARTS
from ..trainers.trainer_state import read_trainer_state
from .held_out import METRICS, HeldOut
from .provenance import commit, describe_hardware, versions
from .recorder import RunRecorder, Spent, decode, read_records
from .settings import RunSettings

SUMMARY_FILE = "summary.json"


def train_and_measure(
    trainer: Any, settings: RunSettings, held_out: HeldOut, described: dict[str, Any], spent: Spent | None = None
) -> dict[str, Any]:
    """Train, measure held-out answers on the way, and write everything a report needs.

    Args:
        trainer (`Trainer`):
            A trainer with a curriculum; closed at the end, whatever happens.
        settings (`RunSettings`):
            The run's.
        held_out (`HeldOut`):
            What is measured.
        described (`dict[str, Any]`):
            The run's settings as they were given, for `summary.json`.
        spent (`Spent`, *optional*):
            What was spent on the run before the trainer trains.

    Returns:
        `dict[str, Any]`: what `summary.json` holds.
    """
    args, run, metric = trainer.args, settings.run, held_out.metric
    folder, pool = Path(args.output_dir), trainer.curriculum.pool
    about = {
        "method": settings.method.name,
        "metric": metric,
        "held_out_prompts": len(held_out),
        "held_out_fingerprint": held_out.fingerprint,
        "held_out_answers": held_out.answers,
        "prompts_in_pool": len(pool),
        "pool_fingerprint": fingerprint(pool.ids),
        "versions": versions(),
        "hardware": describe_hardware(),
        "commit": commit(),
        "config": described,
    }
    try:
        recorder = RunRecorder(
            trainer,
            folder,
            about | {"max_steps": args.max_steps, "held_out_subjects": held_out.subjects()},
            lambda: held_out.measure(trainer, settings.curriculum.reward_timeout),
            every=run.held_out_every,
            stop_after_tokens=run.stop_after_tokens,
            stop_after_seconds=run.stop_after_seconds,
        )
        checkpoint = args.resume_from_checkpoint
        done = None if checkpoint is None else read_trainer_state(checkpoint).global_step
        recorder.begin(done, spent, settings.measured_at_start)
        trainer.train(resume_from_checkpoint=checkpoint)
        seconds = recorder.seconds()
        if run.keep_model:  # before what comes takes time, in which a run may be stopped
            trainer.save_model(args.output_dir)
        recorder.finish()
        trainer.save_state()
        steps = trainer.state.global_step
        summary = {
            **about,
            f"{metric}_before": recorder.measured[0],
            f"{metric}_after": recorder.measured[steps],
            "steps": steps,
            "tokens": recorder.tokens,
            "prompts_trained_on": trainer.curriculum.visits.prompts,
            "prompts_quarantined": len(trainer.curriculum.quarantine.entries),
            "steps_skipped": trainer.curriculum.quarantine.skipped,
            "outlook": recorder.outlook,
            "groups_with_signal": _groups_with_signal(trainer.state.log_history),
            "seconds": {"training": seconds} | {part: trainer.stopwatch.seconds.get(part, 0.0) for part in PARTS},
            "engine": trainer.interruptions(),
        }
        if trainer.accelerator.is_main_process:
            trainer.save_curriculum(folder)
            answers = [decode(line) for line in read_records(recorder.path) if line["kind"] == "evaluation"]
            summary["subjects"] = held_out.by_subject(answers[0], answers[-1]) if answers else {}
            write_json(folder / SUMMARY_FILE, summary)
            print_summary(summary, folder)
            if run.keep_model:
                trainer.card_measurements = _measured(summary)
                trainer.create_model_card(model_name=folder.name, dataset_name=_on_hub(settings.script.dataset_name))
        return summary
    finally:
        trainer.close()


def _on_hub(dataset_name: str) -> str | None:
    """The name, where it is that of a hub data set, to which a model card links."""
    local = is_generated(dataset_name) or Path(dataset_name).expanduser().exists()
    return None if local else dataset_name


def _measured(summary: dict[str, Any]) -> dict[str, str]:
    """What came of a run, for its model card."""
    metric, prompts = summary["metric"], f"{summary['held_out_prompts']} held-out prompts"
    values = {
        f"{METRICS[metric]} {when} training, {prompts}, {summary['held_out_answers']}": summary[f"{metric}_{when}"]
        for when in ("before", "after")
    }
    return {
        "data": f"`{summary['config']['script']['dataset_name']}`",
        **{name: f"{value:.3f}" for name, value in values.items() if value is not None},
        "optimizer steps": str(summary["steps"]),
        "prompts trained on": f"{summary['prompts_trained_on']} of {summary['prompts_in_pool']}",
        "training": f"{summary['seconds']['training']:.0f} s",
    }


def _groups_with_signal(log_history: list[dict[str, float]]) -> float | None:
    """Mean share of groups whose rewards differed; `None` without groups."""
    shares = [line["curriculum/groups_with_signal"] for line in log_history if "curriculum/groups_with_signal" in line]
    return sum(shares) / len(shares) if shares else None


def print_summary(summary: dict[str, Any], folder: Path) -> None:
    """Print the table a run ends with."""
    table = Table(title=f"{folder}", show_header=False)
    for when in ("before", "after"):
        value = summary[f"{summary['metric']}_{when}"]
        how = f"{summary['held_out_prompts']} prompts, {summary['held_out_answers']}"
        label = f"held-out {METRICS[summary['metric']]} {when} ({how})"
        table.add_row(label, "not measured" if value is None else f"{value:.3f}")
    table.add_row("optimizer steps", str(summary["steps"]))
    table.add_row("prompts trained on", f"{summary['prompts_trained_on']} of {summary['prompts_in_pool']}")
    for name in ("prompts_quarantined", "steps_skipped"):
        if summary[name]:
            table.add_row(name.replace("_", " "), str(summary[name]))
    seconds = summary["seconds"]
    table.add_row("training", f"{seconds['training']:.0f} s")
    for part in PARTS:
        if part != "evaluation" and seconds[part]:
            share = seconds[part] / max(seconds["training"], 1e-9)
            table.add_row(f"  {part}", f"{seconds[part]:.0f} s ({share:.0%})")
    table.add_row("evaluation, beside training", f"{seconds['evaluation']:.0f} s")
    Console().print(table)
