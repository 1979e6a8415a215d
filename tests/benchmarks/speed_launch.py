"""From a command to what it answers: a wrong setting, its help, and the first optimizer step with a vLLM server.

The floor of the help is that of TRL's command of the same method; that of the first step, a server of the same
settings (`edco-rl serve`) from its command to the first answer. Each is a process of its own, in turn. The recipe is
that of the quickstart, shortened to one step on as many held-out prompts as the size says. Seconds are of the clock.
"""

import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

from edco_rl.runs.recorder import RECORDS_FILE, read_records
from tests.benchmarks.speed import Figure, in_turn

SIZES = (8,)
PARTS = ("wrong", "help", "run")
RECIPE = Path(__file__).parents[2] / "recipes" / "quickstart" / "grpo_edco.yaml"
COMMAND = [sys.executable, "-m", "edco_rl"]
TRAIN = [*COMMAND, "train", "grpo", "--config", str(RECIPE)]
TRL_HELP = [sys.executable, "-c", "from trl.cli import main; main()", "grpo", "--help"]
WRONG = {
    "strategy": ["--strategy", "edko"],
    "key": ["--intervall", "3"],
    "file": ["--dataset_name", "/nowhere/rows.jsonl"],
}
_ROUNDS = 3
_MOST_OVER_THE_SERVER = 5.0


def answer(command: Sequence[str], code: int) -> None:
    """Run a command that answers and ends with a code."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != code:
        raise RuntimeError(f"{command} ended with {done.returncode}: {done.stderr[-2000:]}")


def serve() -> float:
    """Seconds of a server until it answers."""
    recipe = yaml.safe_load(RECIPE.read_text())
    names = ("model_name_or_path", "engine_dtype", "engine_max_model_len")
    flags = [word for name in names for word in (f"--{name}", str(recipe[name]))]
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        process = subprocess.Popen(
            [*COMMAND, "serve", *flags, "--engine_port", "0", "--engine_log", f"{folder}/engine.log"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert process.stdout is not None
        try:
            if not process.stdout.readline():
                raise RuntimeError("The server did not start.")
            return time.perf_counter() - began
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


def run(held_out: int) -> dict[str, float]:
    """Seconds of a run until its held-out prompts are answered and until its first optimizer step is done."""
    with tempfile.TemporaryDirectory() as folder:
        settings = {"output_dir": folder, "max_steps": 1, "held_out_prompts": held_out, "keep_model": False}
        settings |= {"curriculum_candidates": 8, "curriculum_size": 8, "disable_tqdm": True}
        flags = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
        began, found = time.perf_counter(), {}
        with (Path(folder) / "output").open("w+") as output:
            process = subprocess.Popen([*TRAIN, *flags], stdout=output, stderr=output)
            while process.poll() is None:
                time.sleep(0.05)
                records = Path(folder) / RECORDS_FILE
                kinds = {line["kind"] for line in read_records(records)} if records.exists() else ()
                for kind in kinds:
                    found.setdefault(kind, time.perf_counter() - began)
            if process.returncode:
                output.seek(0)
                raise RuntimeError(output.read()[-2000:])
        return found


def measure(sizes: Sequence[int], parts: Sequence[str]) -> Iterator[Figure]:
    """Those of the parts; runs with as many held-out prompts as each size says."""
    if "wrong" in parts:
        for what, flags in WRONG.items():
            [seconds] = in_turn(lambda flags=flags: answer([*TRAIN, *flags], 2), rounds=_ROUNDS)
            yield Figure(f"a wrong {what} is told", seconds, "s", goal=2.0)
    if "help" in parts:
        trl, ours = in_turn(
            lambda: answer(TRL_HELP, 0), lambda: answer([*COMMAND, "train", "grpo", "--help"], 0), rounds=_ROUNDS
        )
        yield Figure("train grpo --help", ours, "s", trl, goal=trl)
    for held_out in sizes if "run" in parts else ():
        taken = [(serve(), run(held_out)) for _ in range(_ROUNDS)]
        server = statistics.median(seconds for seconds, _ in taken)
        for kind, name in (("evaluation", f"{held_out} held-out prompts are answered"), ("step", "the first step")):
            goal = server + _MOST_OVER_THE_SERVER if kind == "step" else None
            seconds = statistics.median(found[kind] for _, found in taken)
            yield Figure(f"from the command until {name}", seconds, "s", server, goal)
