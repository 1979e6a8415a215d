"""Runs with a server of their own: it dies or hangs, and they are killed or stopped with it."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from edco_rl.engine.client import EngineClient
from edco_rl.engine.processes import session_of

from .answers import expect_checkpoint, expect_prompts, train
from .fault import Fault, expect
from .place import Place, given
from .runs import Run, prompts_of


def _train(place: Place, **changes: Any) -> Run:
    return place.train("grpo", **place.engine() | {"reward_funcs": [given("slow")]} | changes)


def _restarted(name: str, number: int, place: Place) -> str:
    run = _train(place)
    run.wait_for_step(1)
    leader = run.processes()[0].pid
    run.look()
    run.named(name).send_signal(number)
    noticed = run.wait_for_words("starting it again")
    seen = run.expect(0, "serves again, ")
    engine = json.loads((run.folder / "run" / "summary.json").read_text())["engine"]
    expect(engine["restarts"] == 1, f"{seen}, engine {engine}")
    expect(not session_of(leader), f"{seen}, of the first server are left {session_of(leader)}")
    lost = f"{engine['seconds_lost']:.0f} s lost, 0 steps"
    return f"noticed after {noticed:.1f} s; {seen}, {lost}; {expect_prompts(place, run)}"


def _given_up(place: Place) -> str:
    run = _train(place, engine_max_restarts=0, save_strategy="no")
    run.wait_for_step(2)
    run.look()
    run.named("").kill()
    seen = expect_checkpoint(run, run.expect(1, "was ended by SIGKILL, after 0 restarts"))
    again = place.train(
        "grpo", folder=run.folder, resume_from_checkpoint="true", **place.engine(reward_funcs=[given("slow")])
    )
    again.expect(0)
    return f"{seen}; resumed, {expect_prompts(place, again)}"


def _die_in_the_second_push() -> None:
    start, pushes = EngineClient.start_weight_update, []

    def die(self: EngineClient) -> None:
        pushes.append(1)
        if len(pushes) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        start(self)

    EngineClient.start_weight_update = die  # type: ignore[method-assign]


def _trainer_killed(place: Place) -> str:
    run = _train(place, before=_die_in_the_second_push)
    run.wait_for_step(1)
    run.look()
    run.expect(-signal.SIGKILL)
    files = [path for path in place.exchange.rglob("*") if path.is_file()]
    expect(files, "the push left no file that could be swept")
    modes = {oct(path.stat().st_mode & 0o777) for path in files}
    expect(modes == {"0o600"}, f"files of modes {modes}")
    size = sum(path.stat().st_size for path in files) / 2**20
    left = place.left_behind(pushes=False)
    expect(not left, f"left behind: {left}")
    again = _train(place, folder=run.folder, resume_from_checkpoint="true")
    seen = again.expect(0, "Removed 1 leftovers of killed runs")
    return f"processes and segments gone, {size:.0f} MiB swept by the next run: {seen}; {expect_prompts(place, again)}"


def _stopped(number: int, code: int, place: Place) -> str:
    run = _train(place, save_strategy="no", max_steps=50)
    run.wait_for_step(2)
    run.look()
    os.kill(run.pid, number)
    seen = run.expect(code)
    step = len(prompts_of(run.folder))
    found = sorted(path.name for path in (run.folder / "run").glob("checkpoint-*"))
    expect(found == ([f"checkpoint-{step}"] if code != 129 else []), f"{seen} at step {step}, checkpoints {found}")
    return f"{seen}, {'checkpoint of' if found else 'stopped after'} step {step}"


def _served(number: int, place: Place) -> str:
    folder = place.new_folder()
    own = {name: value for name, value in place.engine().items() if name.startswith("engine_") and "mode" not in name}
    flags = [word for name, value in own.items() for word in (f"--{name}", str(value))]
    serve = place.run("serve", "--model_name_or_path", place.served_model, "--engine_port", "0", *flags, folder=folder)
    said = folder / "stdout"
    serve.wait_for(lambda: said.is_file() and " serves " in said.read_text(), "the server's address")
    url = said.read_text().split()[0]
    train(place, url, before=_die_in_the_second_push).expect(-signal.SIGKILL)
    seen = train(place, url, max_steps=2).expect(0, "Removed 1 leftovers of killed runs")
    leader = serve.processes()[0].pid
    os.kill(serve.pid, number)
    began = time.monotonic()
    code = serve.wait(60)
    expect(code == 128 + number and not session_of(leader), f"exit {code}, left: {session_of(leader)}")
    return f"the next trainer: {seen}; the server: exit {code} after {time.monotonic() - began:.1f} s"


@contextlib.contextmanager
def _small_folder(place: Place, size: str) -> Iterator[Path]:
    folder = place.new_folder()
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def _no_room(place: Place) -> str:
    with _small_folder(place, "1m") as folder:
        run = _train(place, engine_transport_dir=str(folder))
        return run.expect(2, "is full: the weights cannot be written")


def _room_used_up(place: Place) -> str:
    with _small_folder(place, "64m") as folder:
        run = _train(place, engine_transport_dir=str(folder), save_strategy="no", max_steps=6)
        run.wait_for_step(2)
        with contextlib.suppress(OSError), (folder / "others").open("wb") as file:
            while file.write(bytes(2**20)):
                file.flush()
        return run.expect(0)


def _never_starts(place: Place) -> str:
    run = _train(place, engine_args=["--no-such-flag"])
    return run.expect(1, r"(?s)ended with exit code 2\. The last lines of .*unrecognized arguments: --no-such-flag")


def faults() -> Iterator[Fault]:
    """Those of this room."""
    goes_on = "noticed, started again with its weights; exit 0, prompts as undisturbed"
    for name, process, number in (
        ("server_killed", "", signal.SIGKILL),
        ("core_killed", "EngineCore", signal.SIGKILL),
        ("worker_killed", "Worker", signal.SIGKILL),
        ("server_stopped", "", signal.SIGSTOP),
        ("worker_stopped", "Worker", signal.SIGSTOP),
    ):
        done = f"{signal.Signals(number).name} to the {process or 'server'}"
        yield Fault(f"engine.{name}", done, goes_on, partial(_restarted, process, number))
    yield Fault(
        "engine.given_up",
        "SIGKILL to the server, engine_max_restarts 0",
        "exit 1 with a checkpoint; resumed from it, prompts as undisturbed",
        _given_up,
    )
    yield Fault(
        "engine.trainer_killed",
        "SIGKILL to the trainer in a push",
        "no process and no segment left; the file goes with the next run, which ends as undisturbed",
        _trainer_killed,
    )
    for name, number, code in (
        ("sigterm", signal.SIGTERM, 143),
        ("ctrl_c", signal.SIGINT, 130),
        ("terminal_closed", signal.SIGHUP, 129),
    ):
        saved = "a checkpoint, " if code != 129 else ""
        yield Fault(
            f"engine.{name}",
            f"{signal.Signals(number).name} to a run with a server",
            f"exit {code}, {saved}nothing left",
            partial(_stopped, number, code),
        )
    for name, number in (("sigterm", signal.SIGTERM), ("hangup", signal.SIGHUP)):
        yield Fault(
            f"engine.serve_{name}",
            f"SIGKILL to a trainer that pushes to edco-rl serve, and {signal.Signals(number).name} to that",
            f"the next trainer pushes; exit {128 + number}, nothing left",
            partial(_served, number),
        )
    if os.geteuid() == 0:  # who else cannot mount
        yield Fault("engine.no_room", "an exchange folder of 1 MiB", "exit 2 with the folder", _no_room)
        yield Fault(
            "engine.room_used_up",
            "an exchange folder that others fill",
            "exit 0: the file of a push is written over",
            _room_used_up,
        )
    yield Fault("engine.never_starts", "a wrong argument for vLLM", "exit 1 with the log's end", _never_starts)
