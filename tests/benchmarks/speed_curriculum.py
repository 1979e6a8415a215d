"""What a curriculum adds to a step: the quickstart with `edco`, scored at a renewal and ahead, and in random order.

Runs of the command line on one real server, in turn, each in a process of its own. A figure is the median over rounds
of the mean seconds of a step, over whole intervals between two renewals, the first steps left out; the floor is that
of random order. Sizes are intervals measured a run. Parts are forms of the step: `quickstart` as the recipe has it,
and `slow`, which computes each prompt once for each of its completions. In
`stand_in` engine and optimizer sleep for a second a time, as where they share no processors.
"""

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from edco_rl import CurriculumConfig, EngineConfig
from edco_rl.engine.server import VLLMServer
from edco_rl.runs.recorder import read_records
from tests.benchmarks.speed import Figure
from tests.benchmarks.speed_ahead import steps
from tests.conftest import CACHE, TINY_VOCABULARY
from tests.tiny_model import make_tiny_model

SIZES = (2,)
PARTS = ("quickstart", "slow", "stand_in")
ROUNDS = 3
INTERVAL = 15  # as the recipe has it
RECIPE = Path(__file__).parents[2] / "recipes" / "quickstart" / "grpo_edco.yaml"
KINDS = {
    "random": ["--strategy", "random"],
    "edco, scored at the renewal": ["--strategy", "edco"],
    "edco, scored ahead": ["--strategy", "edco", "--curriculum_scoring_ahead", "true"],
}
FORMS = {"quickstart": [], "slow": ["--share_prompts", "false"]}
_GOAL = 1.03
_INTERVAL_OF_STAND_IN = 4


def run(url: str, folder: Path, intervals: int, settings: Sequence[str]) -> tuple[float, float]:
    """Mean seconds of a step, and of those how many went to waiting for scores."""
    first, last = 2, 2 + INTERVAL * intervals
    command = [sys.executable, "-m", "edco_rl", "train", "grpo", "--config", str(RECIPE), "--engine_url", url]
    command += ["--output_dir", str(folder), "--max_steps", str(last + 1), "--curriculum_interval", str(INTERVAL)]
    command += ["--held_out_prompts", "1", "--keep_model", "false", *settings]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    lines = {line["step"]: line for line in read_records(folder / "records.jsonl") if line["kind"] == "step"}
    taken = lines[last]["seconds"] - lines[first]["seconds"]
    scoring = [lines[step]["parts"].get("scoring", 0.0) for step in (first, last)]
    return taken / (last - first), (scoring[1] - scoring[0]) / (last - first)


def measure(sizes: Sequence[int], parts: Sequence[str]) -> Iterator[Figure]:
    """Each form of the step, with each kind of curriculum."""
    for part in parts:
        if part == "stand_in":
            yield from figures(part, {kind: [stand_in(settings)] for kind, settings in KINDS.items()})
        else:
            for intervals in sizes:
                yield from figures(part, real(intervals, FORMS[part]))


def real(intervals: int, form: Sequence[str]) -> dict[str, list[tuple[float, float]]]:
    """What [`run`] finds of each kind of curriculum, in turn on one server."""
    config = EngineConfig(engine_max_model_len=256, engine_dtype="float32")
    model = str(CACHE / "SmolLM2-135M-Instruct")
    found: dict[str, list[tuple[float, float]]] = {kind: [] for kind in KINDS}
    with tempfile.TemporaryDirectory() as folder, VLLMServer(model, config, Path(folder) / "engine.log") as server:
        for number in range(ROUNDS):
            for kind, settings in KINDS.items():
                own = Path(folder) / f"{number}-{kind.replace(' ', '_')}"
                found[kind].append(run(server.url, own, intervals, [*form, *settings]))
    return found


def stand_in(settings: Sequence[str]) -> tuple[float, float]:
    """The same of a trainer whose engine and optimizer sleep; renewed every fourth step."""
    curriculum = CurriculumConfig(
        strategy=settings[1],
        curriculum_interval=_INTERVAL_OF_STAND_IN,
        curriculum_size=8,
        curriculum_scoring_ahead="--curriculum_scoring_ahead" in settings,
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        model = make_tiny_model(path, str(CACHE / "SmolLM2-135M-Instruct"), vocabulary=TINY_VOCABULARY)
        lines = steps(model, folder, 1.0, 1.0, curriculum)[_INTERVAL_OF_STAND_IN:]
    taken, waited = (sum(line.get(f"time/{what}", 0.0) for line in lines) for what in ("step", "scoring"))
    return taken / len(lines), waited / len(lines)


def figures(part: str, found: Mapping[str, Sequence[tuple[float, float]]]) -> Iterator[Figure]:
    """Of the seconds of a step, and of those spent waiting for scores, of each kind of curriculum."""
    medians = {kind: statistics.median(step for step, _ in taken) for kind, taken in found.items()}
    floor = medians["random"]
    for kind, seconds in medians.items():
        own_floor = None if kind == "random" else floor
        goal = _GOAL * floor if kind.endswith("ahead") else None
        yield Figure(f"{part}: a step, {kind}", seconds, "s", own_floor, goal)
        if own_floor is not None:
            waited = statistics.median(waited for _, waited in found[kind])
            yield Figure(f"{part}: of that waiting for scores, {kind}", waited, "s")
