"""A long run with faults now and then, and what it holds at its end that it did not hold after its first tenth."""

import contextlib
import json
import random
import signal
import statistics
import time
from typing import Any

import psutil

from edco_rl.engine.processes import shared_memory_of

from .fault import MissedError
from .place import Place, given, has_finite_model
from .runs import Run, prompts_of

# How much more there may be at the end, beside a hundredth of it: the allocator's, and what is under way.
ALLOWED = {
    "trainer memory, MiB": 64,
    "trainer open files": 2,
    "trainer threads": 2,
    "server memory, MiB": 64,
    "server open files": 4,
    "server threads": 4,
    "server processes": 0,
    "shared memory segments": 0,
    "pushes in the exchange folder": 0,
}
_FAULTS = (("", signal.SIGKILL), ("EngineCore", signal.SIGKILL), ("Worker", signal.SIGKILL), ("", signal.SIGSTOP))
# Steps between two of them.
_BETWEEN = 400


def soak(place: Place, steps: int, seed: int) -> tuple[dict[str, Any], bool]:
    """Train, inject faults, and print what was held; whether that did not grow.

    Args:
        place (`Place`):
            Where.
        steps (`int`):
            Optimizer steps.
        seed (`int`):
            Of the faults.
    """
    chance = random.Random(seed)
    # What the first costs for good, as a thread's memory, is no growth.
    due = [steps // 20, *(chance.randrange(_BETWEEN // 2, _BETWEEN) + step for step in range(0, steps, _BETWEEN))]
    due = [step for step in due if step < steps * 9 // 10]
    run = place.train(
        "grpo",
        **place.engine(
            max_steps=steps,
            train_prompts=200,
            reward_funcs=[given("nan_for_some")],
            max_quarantined_prompts=200,
            engine_max_restarts=len(due),
            save_steps=max(1, steps // 20),
            save_total_limit=1,
        ),
    )
    began, samples, done = time.monotonic(), [], []
    while not run.look():
        step = len(prompts_of(run.folder))
        samples.append((step, held(place, run)))
        if due and step >= due[0]:
            due.pop(0)
            name, number = chance.choice(_FAULTS)
            with contextlib.suppress(MissedError, psutil.NoSuchProcess):  # it is just being started
                run.named(name).send_signal(number)
                done.append(f"step {step}: {signal.Signals(number).name} to the {name or 'server'}")
        time.sleep(1.0)
    seconds = time.monotonic() - began
    run.expect(0)
    summary = json.loads((run.folder / "run" / "summary.json").read_text())
    print(f"{summary['steps']} steps in {seconds:.0f} s; {'; '.join(done)}")
    print(f"engine {summary['engine']}, {summary['prompts_quarantined']} prompts in quarantine")
    found = {name: (_median(samples, name, steps, 0.1), _median(samples, name, steps, 0.9)) for name in ALLOWED}
    grown = {
        name: after - before for name, (before, after) in found.items() if after - before > ALLOWED[name] + after / 100
    }
    for name, (before, after) in found.items():
        print(f"{name:32} {before:10.1f} after a tenth {after:10.1f} at the end{'  GROWN' if name in grown else ''}")
    left = place.left_behind()
    print(f"left behind: {left or 'nothing'}")
    passed = not grown and not left and summary["steps"] == steps and has_finite_model(run.folder / "run")
    return {"seconds": seconds, "faults": done, "summary": summary, "held": found, "left": left}, passed


def held(place: Place, run: Run) -> dict[str, float]:
    """What a run and its server hold."""
    server = run.processes()
    return {
        **_of_processes("trainer", [psutil.Process(run.pid)]),
        **_of_processes("server", server),
        "server processes": len(server),
        "shared memory segments": len(shared_memory_of(server)),
        "pushes in the exchange folder": len(list(place.exchange.glob("*/*"))),
    }


def _of_processes(name: str, processes: list[psutil.Process]) -> dict[str, float]:
    memory = files = threads = 0
    for process in processes:
        with contextlib.suppress(psutil.Error):
            memory += process.memory_info().rss
            files += process.num_fds()
            threads += process.num_threads()
    return {f"{name} memory, MiB": memory / 2**20, f"{name} open files": files, f"{name} threads": threads}


def _median(samples: list[tuple[int, dict[str, float]]], name: str, steps: int, share: float) -> float:
    """Over the tenth of the run that begins at a share of its steps."""
    part = [values[name] for step, values in samples if share <= step / steps < share + 0.1]
    return statistics.median(part) if part else float("nan")
