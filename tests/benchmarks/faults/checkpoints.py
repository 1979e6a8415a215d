"""Runs that are killed while they save, and checkpoints that were altered."""

import os
import re
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

from edco_rl.store import UNFINISHED_FOLDER, begin_checkpoint, check_checkpoint, finish_checkpoint, newest_checkpoint
from tests.trainers.alterations import ALTERATIONS, cut

from .fault import Fault, expect
from .place import Place, expect_same

_DRAFT = f"{UNFINISHED_FOLDER}/checkpoint-3"
# What a run does to the file system, the end of a path that it does it to, the step it has done by then, and the one
# it resumes from after a SIGKILL just before that.
MOMENTS = {
    "begun": ("os.mkdir", _DRAFT, 3, 2),
    "state": ("open", f"{_DRAFT}/trainer_state.json", 3, 2),
    "curriculum": ("open", f"{_DRAFT}/curriculum.json", 3, 2),
    "synced": ("open", f"{_DRAFT}/optimizer.pt", 3, 2),
    "manifest": ("os.rename", f"{_DRAFT}/manifest.json", 3, 2),
    "moved": ("os.rename", _DRAFT, 3, 3),
}
# Those of a run that keeps one checkpoint.
REMOVALS = {
    "old": ("os.rename", "removed-checkpoint-2", 3, 3),
    "removing": ("os.remove", "scheduler.pt", 2, 2),
}


def at(event: str, end: str, numbers: tuple[int, ...]) -> Callable[[], None]:
    """Has a process send itself signals, once, just before it does something to a path that ends so."""

    def look(name: str, arguments: tuple[Any, ...]) -> None:
        if name == event and any(str(argument).endswith(end) for argument in arguments[:2]) and left:
            for number in left.pop():
                os.kill(os.getpid(), number)

    left = [numbers]
    return partial(sys.addaudithook, look)


def _killed(event: str, end: str, done: int, step: int, limit: int | None, place: Place) -> str:
    run = place.train("sft", before=at(event, end, (signal.SIGKILL,)), save_total_limit=limit)
    run.expect(-signal.SIGKILL)
    folder = run.folder / "run"
    found, passed_over = newest_checkpoint(folder)
    expect(found is not None, f"no complete checkpoint: {passed_over}")
    expect(found == folder / f"checkpoint-{step}", f"the newest complete one is {found}; {passed_over}")
    again = place.train("sft", folder=run.folder, save_total_limit=limit, resume_from_checkpoint="true")
    again.expect(0, "Passed over:\n.* was not written to its end" if passed_over else "")
    same = expect_same(place, run.folder, "sft")
    return f"killed after step {done}, resumed from step {step}, {done - step} steps lost; {same}"


@cache
def _saved(place: Place) -> Path:
    """A checkpoint of step 2, kept beside the folders of runs."""
    run = place.train("sft", max_steps=2, save_steps=2)
    run.expect(0)
    return shutil.copytree(run.folder / "run" / "checkpoint-2", place.folder / "saved" / "checkpoint-2")


def _altered(name: str, alter: Callable[[Path], Any], message: str, place: Place) -> str:
    folder = place.new_folder() / "checkpoint-2"
    shutil.copytree(_saved(place), folder)
    alter(folder / name)
    refused = place.train("sft", "--resume_from_checkpoint", str(folder))
    seen = refused.expect(2, f"(?s){re.escape(str(folder))}.*{name}")
    # As one does who knows of the manifest, or a library that has written what is wrong.
    (folder / "manifest.json").unlink()
    begin_checkpoint(folder.parent)
    folder.rename(folder.parent / UNFINISHED_FOLDER / folder.name)
    finish_checkpoint(folder, {})
    again = place.train("sft", "--resume_from_checkpoint", str(folder))
    return f"{seen}; with a new manifest {again.expect(2, message)}"


def _newest_altered(place: Place) -> str:
    run = place.train("sft")
    run.expect(0)
    for step in (3, 4):
        cut(run.folder / "run" / f"checkpoint-{step}" / "model.safetensors")
    again = place.train("sft", "--resume_from_checkpoint", "true", folder=run.folder)
    again.expect(0, r"(?s)Resuming from .*checkpoint-2\. Passed over:.*checkpoint-4.*checkpoint-3")
    return f"resumed from step 2, both others named; {expect_same(place, run.folder, 'sft')}"


def _all_altered(place: Place) -> str:
    run = place.train("sft", save_steps=2)
    run.expect(0)
    for step in (2, 4):
        (run.folder / "run" / f"checkpoint-{step}" / "optimizer.pt").unlink()
    again = place.train("sft", "--resume_from_checkpoint", "true", folder=run.folder)
    return again.expect(2, r"(?s)holds no complete checkpoint:.*checkpoint-4.*checkpoint-2")


def _changed(place: Place) -> str:
    run = place.train("sft", max_steps=2, save_steps=2)
    run.expect(0)
    changes = {"per_device_train_batch_size": 2, "curriculum_interval": 3, "train_prompts": 30}
    again = place.train("sft", resume_from_checkpoint=str(run.folder / "run" / "checkpoint-2"), **changes)
    seen = again.expect(0, "with something changed: ")
    for words in (
        "per_device_train_batch_size 4, this run has 2",
        "curriculum_interval .*, this run has 3",
        "24 prompts, this run has 30",
    ):
        expect(re.search(words, again.errors()), f"{words!r} is not named in {again.errors()}")
    check_checkpoint(again.folder / "run" / "checkpoint-4")
    return f"{seen}, three changes named"


def faults() -> Iterator[Fault]:
    """Those of this room."""
    for limit in (None, 1):
        moments = MOMENTS if limit is None else MOMENTS | REMOVALS
        for name, (event, end, done, step) in moments.items():
            kept = "" if limit is None else ", save_total_limit 1"
            yield Fault(
                f"checkpoints.killed_{name}{'' if limit is None else '_limit_1'}",
                f"SIGKILL in a save just before {event} of {end}{kept}",
                f"resumes from step {step}, and ends as undisturbed",
                partial(_killed, event, end, done, step, limit),
            )
    for number, (name, alter, message) in enumerate(ALTERATIONS):
        yield Fault(
            f"checkpoints.altered_{number}",
            f"{name} of a checkpoint altered: {message}",
            "exit 2 with file and reason, with its manifest and with a new one",
            partial(_altered, name, alter, message),
        )
    yield Fault(
        "checkpoints.newest_altered",
        "the newest two of four checkpoints cut",
        "resumes from the one before, names both, and ends as undisturbed",
        _newest_altered,
    )
    yield Fault("checkpoints.all_altered", "files of all removed", "exit 2, each is named", _all_altered)
    yield Fault("checkpoints.changed", "batch, interval and pool changed", "exit 0, each change is named", _changed)
