"""A server that is somebody else's: busy, out of reach, wrong in its answers, lost, or gone for a while."""

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import requests

from edco_rl.engine.server import free_port
from edco_rl.store import check_checkpoint

from .fault import Fault, expect
from .place import Place, given
from .proxy import CHANGES
from .runs import Run, prompts_of

_ROOT = Path(__file__).parents[3]


class Proxy:
    """The proxy to a place's server, in a process of its own; use it as a context manager."""

    def __init__(self, place: Place) -> None:
        self._target = place.server.url
        self._port = free_port("127.0.0.1")
        self.url = f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> "Proxy":
        command = [sys.executable, "-m", "tests.benchmarks.faults.proxy", str(self._port), self._target]
        self._process = subprocess.Popen(command, cwd=_ROOT, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 30
        while True:
            with contextlib.suppress(requests.RequestException):
                self.have()
                return self
            expect(time.monotonic() < deadline, "the proxy does not start")
            time.sleep(0.05)

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.wait()

    def have(self, *faults: Sequence[Any]) -> None:
        """Has it have faults with the next requests for completions or a push."""
        requests.post(f"{self.url}/fault", json=faults, timeout=5).raise_for_status()


def train(place: Place, url: str, **changes: Any) -> Run:
    """A run on a server that is not its own."""
    return place.train("grpo", **place.engine(engine_url=url) | {"reward_funcs": [given("slow")]} | changes)


def expect_prompts(place: Place, run: Run) -> str:
    """Expect those of an undisturbed run; rollouts differ, as they are sampled without a seed."""
    prompts, _ = place.undisturbed("grpo")
    expect(prompts_of(run.folder) == prompts, f"prompts {prompts_of(run.folder)} instead of {prompts}")
    return "prompts are the undisturbed run's"


def expect_checkpoint(run: Run, seen: str) -> str:
    """Expect a run that gave up to have left a checkpoint of its last step, which its message names."""
    step = len(prompts_of(run.folder))
    folder = run.folder / "run" / f"checkpoint-{step}"
    expect(step and str(folder) in run.errors(), f"{seen}; {folder} is not named in {run.errors()[-2000:]}")
    check_checkpoint(folder)
    return f"{seen}, checkpoint of step {step}, 0 steps lost"


def _passing(faults: Sequence[Sequence[Any]], place: Place, **changes: Any) -> str:
    with Proxy(place) as proxy:
        run = train(place, proxy.url, **changes)
        run.wait_for_step(1)
        proxy.have(*faults)
        return f"{run.expect(0)}, {expect_prompts(place, run)}"


def _refused(faults: Sequence[Sequence[Any]], message: str, place: Place, **changes: Any) -> str:
    with Proxy(place) as proxy:
        run = train(place, proxy.url, save_strategy="no", max_steps=30, **changes)
        run.wait_for_step(2)
        proxy.have(*faults)
        return expect_checkpoint(run, run.expect(1, message))


def _lost(place: Place) -> str:
    changes = {"engine_wait_timeout": 3, "engine_hang_timeout": 5, "save_strategy": "no", "max_steps": 30}
    with Proxy(place) as proxy:
        run = train(place, proxy.url, **changes)
        run.wait_for_step(2)
    seconds = run.wait_for_words("waiting 3 seconds")
    seen = run.expect(1, "did not come back within 3 seconds")
    return expect_checkpoint(run, f"noticed after {seconds:.1f} s; {seen}")


def _away(place: Place) -> str:
    proxy = Proxy(place)
    with proxy:
        run = train(place, proxy.url, engine_wait_timeout=60)
        run.wait_for_step(1)
    seconds = run.wait_for_words("waiting 60 seconds")
    with proxy:
        seen = run.expect(0, "serves again, ")
    return f"noticed after {seconds:.1f} s; {seen}, {expect_prompts(place, run)}"


def _stopped(place: Place) -> str:
    changes = {"engine_wait_timeout": 3, "engine_hang_timeout": 3, "save_strategy": "no", "max_steps": 30}
    with Proxy(place) as proxy:
        run = train(place, proxy.url, **changes)
        run.wait_for_step(2)
        proxy._process.send_signal(signal.SIGSTOP)
        seconds = run.wait_for_words("waiting 3 seconds")
        seen = run.expect(1, "has not answered for .* seconds, and did not come back")
    return expect_checkpoint(run, f"noticed after {seconds:.1f} s; {seen}")


def faults() -> Iterator[Fault]:
    """Those of this room."""
    goes_on = "exit 0, prompts as undisturbed"
    for name, some, changes in (
        ("busy", [["status", 429, ["Retry-After", "1"]], ["status", 429], ["status", 503]], {}),
        ("reset", [["reset"], ["cut"]], {}),
        ("late", [["sleep", 6]], {"engine_request_timeout": 2}),
    ):
        yield Fault(
            f"server.{name}",
            f"requests meet {some} {changes or ''}".rstrip(),
            goes_on,
            partial(_passing, some, **changes),
        )
    stops = "exit 1 with one message and a checkpoint"
    always = [["status", 503, ["Retry-After", "0"]]] * 40
    yield Fault(
        "server.always_busy",
        "all requests are answered with 503, engine_request_retries 2",
        stops,
        partial(_refused, always, "with 503", engine_request_retries=2),
    )
    yield Fault(
        "server.internal_error",
        "a request is answered with 500",
        stops,
        partial(_refused, [["status", 500]], "with 500"),
    )
    yield Fault(
        "server.reset_push",
        "the connection is reset in a push",
        stops,
        partial(_refused, [["push"], ["reset"]], "/update_weights"),
    )
    for name in CHANGES:
        yield Fault(
            f"server.answer_{name.replace(' ', '_')}",
            f"an answer that is changed: {name}",
            stops,
            partial(_refused, [["change", name]], ""),
        )
    yield Fault("server.lost", "a server at engine_url goes, engine_wait_timeout 3", stops, _lost)
    yield Fault("server.stopped", "a server at engine_url hangs, engine_hang_timeout and wait 3", stops, _stopped)
    yield Fault("server.away", "a server at engine_url goes, and comes back", goes_on, _away)
