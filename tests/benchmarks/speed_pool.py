"""Curricula over pools of up to ten million prompts: choosing, observing, renewing, memory, and state.

Groups are of eight rewards, batches of 64 prompts, and a curriculum is what 50 batches take. The floor of a renewal is
NumPy's `argpartition` of the scores, and reading them; that of saving a state, writing as many bytes to the same disk,
and of loading it, reading them. What needs no disk is in seconds of the processor: other processes do not count.
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from edco_rl.curriculum import Curriculum, Outcomes, Pool, available_strategies
from edco_rl.store import read_state, write_state
from tests.benchmarks.speed import Figure, in_turn

SIZES = (100_000, 1_000_000)
PARTS = available_strategies()
BATCH, SIZE, GROUP = 64, 64 * 50, 8
_MS = 1000.0


def rewards(index: np.ndarray, version: int, rng: np.random.Generator) -> Outcomes:
    """A group of each prompt."""
    groups = len(index)
    sizes = np.full(groups, GROUP)
    none = np.full(groups, np.nan)
    values = (rng.random(groups * GROUP) < np.repeat(rng.random(groups), GROUP)).astype(np.float64)
    cut = np.zeros(groups, dtype=np.int64), np.empty(0, dtype=bool)
    return Outcomes(index, np.full(groups, version), none, none, np.ones(groups, dtype=bool), sizes, values, *cut)


class Run:
    """A curriculum that was scored, renewed and trained with for some batches.

    Args:
        strategy (`str`):
            Its name.
        ids (`Sequence[str]`):
            Ids of the prompts.
    """

    def __init__(self, strategy: str, ids: Sequence[str]) -> None:
        self.rng = np.random.default_rng(0)
        size = len(ids)
        columns = {name: self.rng.permutation(size) for name in ("prompt_length", "difficulty")}
        columns |= {"phase": np.arange(size) % 4, "subject": np.arange(size) % 20}
        scores = self.rng.exponential(1.0, size)
        self.curriculum = Curriculum(Pool(ids, column=columns.__getitem__), strategy, batch_size=BATCH, size=SIZE)
        wanted = self.curriculum.wants(None)
        self.scored = 0.0
        if len(wanted):
            began = time.process_time()
            self.curriculum.observe(Outcomes.scores(wanted, 0, scores[wanted]))
            self.scored = time.process_time() - began
        del columns, scores, wanted
        self.curriculum.renew(0)
        self.batches = 0

    def batch(self) -> float:
        """Seconds of choosing a batch and observing it."""
        self.batches += 1
        began = time.process_time()
        chosen = self.curriculum.next_batch()
        chose = time.process_time() - began
        outcomes = rewards(chosen, self.batches, self.rng)
        began = time.process_time()
        self.curriculum.observe(outcomes)
        return chose + time.process_time() - began

    def memory(self) -> float:
        """Bytes a prompt that its state takes, of all arrays that can be reached from it."""
        found: dict[int, int] = {}
        waiting, met = [self.curriculum], set()
        while waiting:
            value = waiting.pop()
            if id(value) in met:
                continue
            met.add(id(value))
            if isinstance(value, np.ndarray):
                owner = value if value.base is None else value.base
                found[id(owner)] = getattr(owner, "nbytes", 0)
            elif isinstance(value, dict | list | tuple | set):
                found[id(value)] = sys.getsizeof(value)
                waiting += [*value.keys(), *value.values()] if isinstance(value, dict) else value
            elif hasattr(value, "__dict__") and value is not self.curriculum.pool.ids:
                waiting += [inner for name, inner in vars(value).items() if name not in ("ids", "_column")]
        return sum(found.values()) / len(self.curriculum.pool)


def measure(sizes: Sequence[int], strategies: Sequence[str]) -> Iterator[Figure]:
    """Every strategy at every size, and how each figure grows with the size."""
    found: dict[str, dict[int, float]] = {}
    for size in sizes:
        ids = [f"row-{number}" for number in range(size)]
        for strategy in strategies:
            for figure in measure_one(strategy, ids):
                found.setdefault(f"{strategy}, {figure.name}", {})[size] = figure.value
                yield Figure(f"{strategy}, {size:,}: {figure.name}", *list(vars(figure).values())[1:])
    if len(sizes) > 1:
        for name, values in found.items():
            if min(values.values()) > 0:
                exponent = np.polyfit(np.log(list(values)), np.log(list(values.values())), 1)[0]
                yield Figure(f"{name}: exponent", round(float(exponent), 2), "")


def measure_one(strategy: str, ids: Sequence[str]) -> Iterator[Figure]:
    """One strategy over one pool."""
    print(f"{strategy}, {len(ids):,}", file=sys.stderr, flush=True)
    run, scores = Run(strategy, ids), np.random.default_rng(1).random(len(ids))
    if run.scored:
        yield Figure("observe all scores", run.scored * _MS, "ms")
    yield Figure("batch", statistics.median(run.batch() for _ in range(100)) * _MS, "ms", goal=5.0)

    def floor() -> None:
        np.argpartition(scores, len(scores) - SIZE)
        scores.sum()

    step = iter(range(1, 100))
    least, renewal = in_turn(floor, lambda: run.curriculum.renew(next(step)), clock=time.process_time)
    yield Figure("renewal", renewal * _MS, "ms", least * _MS, 1.5 * least * _MS)
    [logged] = in_turn(run.curriculum.metrics, clock=time.process_time)
    yield Figure("metrics", logged * _MS, "ms")
    yield Figure("memory a prompt", run.memory(), "bytes", goal=48.0)
    with tempfile.TemporaryDirectory() as folder:
        path, plain = Path(folder) / "curriculum.json", Path(folder) / "plain"
        write_state(path, run.curriculum.state_dict())
        size = sum(file.stat().st_size for file in Path(folder).iterdir())
        content = os.urandom(size)

        def write() -> None:
            with plain.open("wb") as file:
                file.write(content)
                os.fsync(file.fileno())

        def load() -> None:
            Curriculum(run.curriculum.pool, strategy, batch_size=BATCH, size=SIZE).load_state_dict(read_state(path))

        writing, saving = in_turn(write, lambda: write_state(path, run.curriculum.state_dict()), rounds=3)
        yield Figure("state", size / len(ids), "bytes a prompt")
        yield Figure("saving the state", saving * _MS, "ms", writing * _MS)
        yield Figure("readable part of the state", path.stat().st_size / 1e3, "kB")
        reading, loading = in_turn(plain.read_bytes, load, rounds=3)
        yield Figure("loading the state", loading * _MS, "ms", reading * _MS)
