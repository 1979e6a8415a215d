"""Where faults are injected: the models, the settings of a run, one server for many of them, and what is left."""

import contextlib
import ctypes
import itertools
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil
from safetensors.torch import load_file

from edco_rl import EngineConfig
from edco_rl.engine.http import KEY_VARIABLE
from edco_rl.engine.processes import session_of
from edco_rl.engine.server import VLLMServer
from edco_rl.store import file_checksum
from tests.conftest import CACHE
from tests.tiny_model import make_tiny_model

from .fault import expect
from .runs import Run, prompts_of, write_recipe

KEY = "a-key-that-nobody-is-to-see"
_PR_SET_CHILD_SUBREAPER = 36
# Seconds in which what a run has started has ended after it.
_GRACE = 20.0


class Place:
    """A folder for runs, with all they need.

    Use it as a context manager: at its end nothing is left of it.
    """

    def __init__(self) -> None:
        # What a run leaves behind is a child of this process then.
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
        self.folder = Path(tempfile.mkdtemp(prefix="faults-"))
        # In shared memory, as by default, and nobody else's.
        self.exchange = Path(tempfile.mkdtemp(prefix="edco_rl_faults-", dir="/dev/shm"))
        self.runs: list[Run] = []
        self._names = map(str, itertools.count())
        self._undisturbed: dict[str, tuple[list[Any], str]] = {}
        self._server: VLLMServer | None = None

    def __enter__(self) -> "Place":
        return self

    def __exit__(self, *error: object) -> None:
        self.clear()
        if self._server is not None:
            self._server.stop()
        shutil.rmtree(self.folder)
        shutil.rmtree(self.exchange)

    @cached_property
    def model(self) -> str:
        """The smallest model."""
        return make_tiny_model(self.folder / "model", self.real_model)

    @cached_property
    def served_model(self) -> str:
        """The smallest that vLLM serves."""
        return make_tiny_model(self.folder / "served", self.real_model, hidden_size=128)

    @property
    def real_model(self) -> str:
        return str(CACHE / "SmolLM2-135M-Instruct")

    def settings(self, folder: Path, **changes: Any) -> dict[str, Any]:
        """Settings of a run of four steps without an engine, with a checkpoint after each step."""
        base = {
            "model_name_or_path": self.model,
            "dataset_name": "reasoning_gym:chain_sum",
            "train_prompts": 24,
            "held_out_prompts": 0,
            "conversational": False,
            "output_dir": str(folder / "run"),
            "max_steps": 4,
            "learning_rate": 1e-3,
            "per_device_train_batch_size": 4,
            "gradient_checkpointing": False,
            "save_strategy": "steps",
            "save_steps": 1,
            "logging_steps": 1,
            "report_to": "none",
            "use_cpu": True,
            "dtype": "float32",
            "bf16": False,
            "disable_tqdm": True,
            "strategy": "random",
            "engine_mode": "none",
            "seed": 1,
        }
        return base | changes

    def new_folder(self) -> Path:
        return self.folder / "runs" / next(self._names)

    def train(
        self,
        method: str,
        *flags: str,
        folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
        before: Callable[[], Any] = lambda: None,
        **changes: Any,
    ) -> Run:
        """Start a training run; its results are in the folder `run` of its folder."""
        folder = folder or self.new_folder()
        if method in ("grpo", "ppo", "rloo"):
            rollouts = {"num_generations": 2, "max_completion_length": 4, "reward_funcs": [given("fair")]}
            changes = rollouts | changes
        recipe = write_recipe(folder, self.settings(folder, **changes))
        return self.run(
            "train", method, "--config", recipe, *flags, folder=folder, environment=environment, before=before
        )

    def run(self, *arguments: str, folder: Path | None = None, **how: Any) -> Run:
        """Start a command."""
        run = Run(folder or self.new_folder(), arguments, **how)
        self.runs.append(run)
        return run

    def engine(self, **changes: Any) -> dict[str, Any]:
        """Settings of a run with a server of its own."""
        own = {
            "model_name_or_path": self.served_model,
            "engine_mode": "server",
            "engine_max_model_len": 128,
            "engine_cpu_kv_cache_gib": 1,
            "engine_dtype": "float32",
            "engine_transport_dir": str(self.exchange),
            "vllm_importance_sampling_correction": False,
        }
        return own | changes

    @property
    def server(self) -> VLLMServer:
        """A server that is nobody's, started when it is first needed: with a key, where a `z3.py` lies."""
        if self._server is None:
            own = self.engine()
            config = EngineConfig(**{name: value for name, value in own.items() if name.startswith("engine_")})
            os.environ[KEY_VARIABLE] = KEY  # runs and clients send it
            home, before = self.folder / "home", Path.cwd()
            home.mkdir()
            (home / "z3.py").write_text(f"open({str(home / 'imported')!r}, 'w')")
            os.chdir(home)
            try:
                self._server = VLLMServer(self.served_model, config, self.folder / "server.log")
                self._server.start()
            finally:
                os.chdir(before)
        return self._server

    def undisturbed(self, method: str, **changes: Any) -> tuple[list[Any], str]:
        """Prompts of an undisturbed run, and the checksum of its model."""
        key = f"{method} {sorted(changes.items())}"
        if key not in self._undisturbed:
            run = self.train(method, **changes)
            run.expect(0)
            self._undisturbed[key] = prompts_of(run.folder), model_checksum(run.folder)
        return self._undisturbed[key]

    def left_behind(self, *, pushes: bool = True) -> list[str]:
        """Processes, shared memory and files of runs, all of which have ended, that are there after some seconds."""
        deadline = time.monotonic() + _GRACE
        while left := self._left(pushes):
            if time.monotonic() > deadline:
                return left
            time.sleep(0.1)
        return []

    def _left(self, pushes: bool) -> list[str]:
        left = [f"{process.name()} ({process.pid})" for process in self._strangers()]
        left += [str(segment) for run in self.runs for segment in run.segments if segment.exists()]
        left += [str(path) for path in self.exchange.glob("*/*") if pushes]
        for run in self.runs:
            left += [str(path) for path in run.folder.rglob("*.unfinished")]
        return left

    def _strangers(self) -> Iterable[psutil.Process]:
        """Processes below this one that are not the shared server's."""
        own = set()
        if self._server is not None and self._server._process is not None:
            own = {process.pid for process in session_of(self._server._process.pid)}
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if process.pid not in own and process.status() != psutil.STATUS_ZOMBIE:
                    yield process

    def clear(self) -> None:
        """End what still runs, and remove what runs have left."""
        for run in self.runs:
            run.kill()
        for process in self._strangers():
            process.kill()
        for path in self.exchange.glob("*/*"):
            shutil.rmtree(path)
        for run in self.runs:
            for segment in run.segments:
                segment.unlink(missing_ok=True)
            shutil.rmtree(run.folder, ignore_errors=True)
        self.runs.clear()


def given(name: str) -> str:
    """The import path of a reward of `given.py`."""
    return f"tests.benchmarks.faults.given:{name}"


def model_checksum(folder: Path) -> str:
    """Of the weights a run has saved."""
    return file_checksum(folder / "run" / "model.safetensors")


def has_finite_model(folder: Path) -> bool:
    """Whether a folder holds a model, all of whose weights are finite."""
    path = folder / "model.safetensors"
    return path.exists() and all(tensor.isfinite().all() for tensor in load_file(path).values())


def expect_same(place: Place, folder: Path, method: str, **changes: Any) -> str:
    """Expect a run's prompts and model to be those of an undisturbed run."""
    prompts, checksum = place.undisturbed(method, **changes)
    expect(prompts_of(folder) == prompts, f"prompts {prompts_of(folder)} instead of {prompts}")
    expect(model_checksum(folder) == checksum, "the model is not that of the undisturbed run")
    return "prompts and model are the undisturbed run's"
