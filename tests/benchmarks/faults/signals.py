"""Signals to a run without an engine."""

import signal
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from edco_rl.store import check_checkpoint

from .checkpoints import at
from .fault import Fault, expect
from .place import Place, expect_same

# Sends signals while it chooses the third batch.
_ASKING: dict[str, Any] = {"strategy": "tests.runs.test_stopping:Asking"}


def _checkpoints(folder: Any) -> list[str]:
    return sorted(path.name for path in (folder / "run").glob("checkpoint-*"))


def _in_a_step(numbers: Sequence[int], code: int, saved: Sequence[str], place: Place, **changes: Any) -> str:
    how = _ASKING | {"strategy_kwargs": {"batch": 3, "signals": list(map(int, numbers))}, "save_strategy": "no"}
    run = place.train("sft", **how, **changes)
    seen = run.expect(code)
    found = _checkpoints(run.folder)
    expect(found == list(saved), f"{seen}, checkpoints {found}")
    if not saved:
        return f"{seen}, no checkpoint"
    check_checkpoint(run.folder / "run" / saved[-1])
    again = place.train("sft", folder=run.folder, resume_from_checkpoint="true", **how)
    again.expect(0)
    never = how | {"strategy_kwargs": {"batch": 0, "signals": []}}
    return f"{seen}, 0 steps lost; resumed, {expect_same(place, run.folder, 'sft', **never)}"


def _in_a_save(place: Place) -> str:
    run = place.train("sft", before=at("open", "checkpoint-3/trainer_state.json", (signal.SIGTERM,)))
    seen = run.expect(143)
    check_checkpoint(run.folder / "run" / "checkpoint-3")
    again = place.train("sft", folder=run.folder, resume_from_checkpoint="true")
    again.expect(0)
    return f"{seen}, the checkpoint is whole; resumed, {expect_same(place, run.folder, 'sft')}"


def _while_loading(place: Place) -> str:
    return place.train("sft", before=at("open", "model/config.json", (signal.SIGTERM,))).expect(143)


def faults() -> Iterator[Fault]:
    """Those of this room."""
    saved = "the step is done and saved; ends as undisturbed once resumed"
    for name, numbers, code, checkpoints, changes, expected in (
        ("sigterm", [signal.SIGTERM], 143, ["checkpoint-3"], {}, f"exit 143, {saved}"),
        ("ctrl_c", [signal.SIGINT], 130, ["checkpoint-3"], {}, f"exit 130, {saved}"),
        ("sigterm_twice", [signal.SIGTERM] * 2, 143, [], {}, "exit 143 at once, without a checkpoint"),
        ("ctrl_c_twice", [signal.SIGINT] * 2, 130, [], {}, "exit 130 at once, without a checkpoint"),
        (
            "sigterm_turned_off",
            [signal.SIGTERM],
            143,
            [],
            {"enable_jit_checkpoint": False},
            "exit 143 at once, without a checkpoint",
        ),
        ("terminal_closed", [signal.SIGHUP], 129, [], {}, "exit 129 at once, without a checkpoint"),
    ):
        words = " and ".join(signal.Signals(number).name for number in numbers)
        yield Fault(
            f"signals.{name}",
            f"{words} in the third step {changes or ''}".rstrip(),
            expected,
            partial(_in_a_step, numbers, code, checkpoints, **changes),
        )
    yield Fault("signals.in_a_save", "SIGTERM in a save", f"exit 143, {saved}", _in_a_save)
    yield Fault("signals.while_loading", "SIGTERM before the model is loaded", "exit 143", _while_loading)
