"""Runs of the `edco-rl` command, each in a process of its own that faults are injected into."""

import atexit
import contextlib
import os
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import yaml

from edco_rl.cli import main
from edco_rl.engine.processes import shared_memory_of
from edco_rl.runs.recorder import read_records

from .fault import MissedError, expect

PATIENCE = 600.0
"""Seconds after which a run counts as hanging."""


class Run:
    """A command, forked from this process: what is imported is imported once.

    Args:
        folder (`Path`):
            Takes its output; it is started there.
        arguments (`Sequence[str]`):
            Those of the command.
        environment (`Mapping[str, str]`, *optional*):
            Added to that of this process.
        before (`Callable[[], None]`, *optional*):
            Called in the process before the command.
    """

    def __init__(
        self,
        folder: Path,
        arguments: Sequence[str],
        environment: Mapping[str, str] | None = None,
        before: Callable[[], Any] = lambda: None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.segments: set[Path] = set()
        self._code: int | None = None
        self._looked = 0.0
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            self._become(list(arguments), environment or {}, before)

    def _become(self, arguments: list[str], environment: Mapping[str, str], before: Callable[[], Any]) -> None:
        code: Any = 1
        try:
            os.setsid()
            signal.signal(signal.SIGINT, signal.default_int_handler)
            for number in (signal.SIGTERM, signal.SIGHUP):  # which nohup has ignored
                signal.signal(number, signal.SIG_DFL)
            for descriptor, name in ((1, "stdout"), (2, "stderr")):
                os.dup2(os.open(self.folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
            os.environ.update(environment)
            os.chdir(self.folder)
            before()
            main(arguments)
            code = 0
        except SystemExit as stop:
            code = stop.code
        except BaseException:
            traceback.print_exc()
        finally:  # as an interpreter ends
            threading._shutdown()
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code if isinstance(code, int) else 1)

    def processes(self) -> list[psutil.Process]:
        """The processes it has started and those have, that run."""
        with contextlib.suppress(psutil.Error):
            return psutil.Process(self.pid).children(recursive=True)
        return []

    def named(self, name: str) -> psutil.Process:
        """One of them by its name, the first where that is empty."""
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                if name in process.name():
                    return process
        raise MissedError(f"no process {name!r} among {self.processes()}")

    def look(self) -> bool:
        """Whether it has ended."""
        if self._code is None:
            if time.monotonic() - self._looked > 1.0:
                self._looked = time.monotonic()
                self.segments |= shared_memory_of(self.processes())
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._code = os.waitstatus_to_exitcode(status)
        return self._code is not None

    def wait(self, patience: float = PATIENCE) -> int:
        """Its exit code, minus the signal where one ended it."""
        deadline = time.monotonic() + patience
        while not self.look():
            if time.monotonic() > deadline:
                raise MissedError(f"hangs after {patience:.0f} s. It said: {self.errors()[-2000:]}")
            time.sleep(0.05)
        assert self._code is not None
        return self._code

    def wait_for(self, condition: Callable[[], Any], what: str, patience: float = PATIENCE) -> float:
        """Wait until something holds; seconds that took."""
        began = time.monotonic()
        while not condition():
            if self.look() or time.monotonic() - began > patience:
                raise MissedError(f"{what} was not seen (exit code {self._code}). It said: {self.errors()[-2000:]}")
            time.sleep(0.01)
        return time.monotonic() - began

    def wait_for_step(self, step: int) -> None:
        self.wait_for(lambda: len(prompts_of(self.folder)) >= step, f"optimizer step {step}")

    def wait_for_words(self, words: str, patience: float = PATIENCE) -> float:
        return self.wait_for(lambda: words in self.errors(), repr(words), patience)

    def errors(self) -> str:
        """What it has written to standard error."""
        path = self.folder / "stderr"
        return path.read_text(errors="replace") if path.exists() else ""

    def kill(self) -> None:
        """End it, where it has not ended."""
        if not self.look():
            os.kill(self.pid, signal.SIGKILL)
            self.wait()

    def expect(self, code: int, message: str = "", *, tracebacks: bool = False) -> str:
        """Expect an exit code and a message, with no traceback; what was seen, in words."""
        found, said = self.wait(), self.errors()
        expect(found == code, f"exit code {found} instead of {code}. It said: {said[-2000:]}")
        expect(re.search(message, said), f"exit code {found}; {message!r} is not in: {said[-2000:]}")
        expect(tracebacks or "Traceback" not in said, f"exit code {found}, and a traceback: {said[-2000:]}")
        lines = [line for line in said.splitlines() if line.startswith("edco-rl: error: ")]
        expect(len(lines) <= 1, f"exit code {found}, and {len(lines)} messages: {lines}")
        return f"exit {found}" + (f", {lines[0].removeprefix('edco-rl: error: ')[:160]!r}" if lines else "")


def prompts_of(folder: Path) -> list[tuple[int, list[int]]]:
    """Optimizer steps of a run, each with its prompts."""
    path = folder / "run" / "records.jsonl"
    lines = read_records(path) if path.exists() else []
    return [(line["step"], line["prompts"]) for line in lines if line["kind"] == "step"]


def write_recipe(folder: Path, settings: Mapping[str, Any]) -> str:
    """Write settings to a file of a run's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({name: value for name, value in settings.items() if value is not None}))
    return str(path)
