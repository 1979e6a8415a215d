"""A push of the policy to a real vLLM server, beside one write and one read of the same bytes.

A size is so many layers of SmolLM2-135M-Instruct, which has 30. Parts are the data types of trainer and engine, and a
LoRA adapter of rank 16 on all linear layers. A push is a whole `EngineGeneration.sync_weights`: weights are looked at,
written, checked and loaded, the cache is reset and the version is read back. The floor is a write to new pages of
shared memory, and reading them into memory that is there, in this process. Where other work runs beside it, the time
of the processor says more.
"""

import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import torch
from accelerate import Accelerator
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from edco_rl.config import EngineConfig
from edco_rl.engine import generation
from edco_rl.engine.launch import open_engine
from tests.benchmarks.speed import Figure, in_turn

SIZES = (30,)
PARTS = ("float32", "bfloat16", "float32 to bfloat16", "adapter")
ROUNDS = 7
MODEL = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "edco_rl" / "SmolLM2-135M-Instruct"
_REQUESTS = {
    "start_weight_update": "open and stamp",
    "update_weight_version": "open and stamp",
    "update_weights": "read and check in the engine",
    "finish_weight_update": "load in the engine",
    "load_adapter": "load in the engine",
    "unload_adapter": "unload in the engine",
    "reset_prefix_cache": "reset the cache",
    "weight_version": "read the version back",
    "adapters": "read the version back",
}


class Stopwatch:
    """Seconds spent in functions, by what they do; calls within calls count once."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._within = False

    def around(self, owner: Any, name: str, what: str) -> None:
        """Time a function of an object or a module from now on."""
        function: Callable[..., Any] = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            if self._within:
                return function(*args, **kwargs)
            began, self._within = time.perf_counter(), True
            try:
                return function(*args, **kwargs)
            finally:
                self._within = False
                self.seconds[what] += time.perf_counter() - began

        setattr(owner, name, timed)


def floor_of(size: int) -> Callable[[], None]:
    """One write and one read of so many bytes."""
    content, there = torch.ones(size, dtype=torch.uint8).numpy(), torch.ones(size, dtype=torch.uint8).numpy()
    folder = Path("/dev/shm") if Path("/dev/shm").is_dir() else None

    def work() -> None:
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            file.write(content)
            file.seek(0)
            file.readinto(there)  # type: ignore[attr-defined]

    return work


def processor_seconds(processes: Sequence[psutil.Process]) -> float:
    """Seconds of the processor that processes have used."""
    times = [process.cpu_times() for process in processes]
    return sum(used.user + used.system for used in times)


def measure(sizes: Sequence[int], parts: Sequence[str]) -> Iterator[Figure]:
    """Every part at every size."""
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            model = AutoModelForCausalLM.from_pretrained(MODEL, num_hidden_layers=size, dtype=torch.bfloat16)
            model.save_pretrained(folder)
            AutoTokenizer.from_pretrained(MODEL).save_pretrained(folder)
            for part in parts:
                yield from measure_one(part, folder, f"{part}, {size} layers")


def measure_one(part: str, folder: str, name: str) -> Iterator[Figure]:
    """Pushes from a model to a server of that folder."""
    print(name, file=sys.stderr, flush=True)
    ours, _, theirs = part.partition(" to ") if part != "adapter" else ("float32", "", "")
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, ours))
    peft_config = LoraConfig(r=16, target_modules="all-linear", task_type="CAUSAL_LM") if part == "adapter" else None
    if peft_config is not None:
        model = get_peft_model(model, peft_config)
    config = EngineConfig(engine_dtype=theirs or ours, engine_max_model_len=256)
    connection = open_engine(config, folder, peft_config=peft_config, log_path=Path(folder) / "engine.log")
    try:
        pushes = generation.EngineGeneration(
            model,
            Accelerator(cpu=True),
            AutoTokenizer.from_pretrained(folder),
            engine=connection.engine,
            transport=connection.transport,
            version=lambda: 1,
        )
        trained = [p for p in model.parameters() if p.requires_grad]
        itemsize = getattr(torch, theirs or ours).itemsize
        size = sum(p.numel() for p in trained) * itemsize
        for _ in range(2):
            pushes.sync_weights()
        watch, check = Stopwatch(), generation.check_finite_weights
        for function, what in _REQUESTS.items():
            watch.around(connection.engine, function, what)
        watch.around(generation, "check_finite_weights", "are they finite")
        processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
        used: list[float] = []

        def push() -> None:
            before = processor_seconds(processes)
            pushes.sync_weights()
            used.append(processor_seconds(processes) - before)

        try:
            least, taken = in_turn(floor_of(size), push, rounds=ROUNDS)
        finally:
            generation.check_finite_weights = check  # type: ignore[attr-defined]
    finally:
        connection.close()
    yield Figure(f"{name}: {size / 1e6:.0f} MB", taken, "s", least, goal=1.5 * least)
    spent = {what: seconds / ROUNDS for what, seconds in watch.seconds.items()}
    for what, seconds in spent.items():
        yield Figure(f"{name}: {what}", seconds, "s")
    yield Figure(f"{name}: cast, write, checksums", max(taken - sum(spent.values()), 0.0), "s")
    yield Figure(f"{name}: of the processor, in all processes", statistics.median(used), "s")
