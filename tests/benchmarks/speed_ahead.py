"""One step ahead: seconds of an optimizer step where each batch waits for its rollouts, and where they are made ahead.

Engine and optimizer are stand-ins that sleep, so that neither takes processors from the other, around the whole
trainer with a model of two layers. The floor is the longer of the two: of the run that waits, the rollouts, or all
else. Sizes are milliseconds that a batch's rollouts take; a part is what the optimizer takes of that.
"""

import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from datasets import Dataset
from transformers import TrainerCallback
from trl import GRPOConfig

from edco_rl import CurriculumConfig, CurriculumGRPOTrainer, EngineConfig
from edco_rl.engine.protocol import Completion
from tests.benchmarks.speed import Figure
from tests.conftest import CACHE, TINY_VOCABULARY
from tests.engine.own import BesideEngine
from tests.tiny_model import make_tiny_model

SIZES = (1000,)
PARTS = ("0.5", "1", "2")
STEPS = 12
_RANDOM = CurriculumConfig(strategy="random")


class SleepingEngine(BesideEngine):
    """Answers after `delay` seconds, with tokens that mean nothing."""

    delay = 0.0

    def generate(self, prompts, sampling):
        time.sleep(self.delay)
        logprobs = np.full(sampling.max_tokens, -8.0)
        top = np.tile(-8.0 - np.arange(sampling.width), (sampling.max_tokens, 1))
        made = [[(sum(prompt) + n) % 1000 + 20] * sampling.max_tokens for prompt in prompts for n in range(sampling.n)]
        flat = [Completion(ids, logprobs, top, finished=False) for ids in made]
        return [flat[first : first + sampling.n] for first in range(0, len(flat), sampling.n)]


class SleepingOptimizer(TrainerCallback):
    """Makes each optimizer step longer."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        time.sleep(self.seconds)


def steps(
    model: str, folder: str, engine: float, optimizer: float, curriculum: CurriculumConfig = _RANDOM, ahead: int = 0
) -> list[dict[str, float]]:
    """What each step of a run has logged, with an engine and an optimizer that take so many seconds a time."""
    args = GRPOConfig(
        folder,
        max_steps=STEPS,
        per_device_train_batch_size=8,
        num_generations=4,
        max_completion_length=4,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        logging_steps=1,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
    )
    trainer = CurriculumGRPOTrainer(
        model,
        lambda completions, **kwargs: [float(len(completion) % 3) for completion in completions],
        args,
        Dataset.from_dict({"prompt": [f"{number} + {number} =" for number in range(64)]}),
        curriculum=curriculum,
        engine=EngineConfig(engine_mode=f"{__name__}:SleepingEngine", rollouts_ahead=ahead),
    )
    trainer.engine.delay = engine
    trainer.add_callback(SleepingOptimizer(optimizer))
    trainer.train()
    trainer.close()
    return [line for line in trainer.state.log_history if "time/step" in line]


def measure(sizes: Sequence[int], parts: Sequence[str]) -> Iterator[Figure]:
    """Each relation of the two, without and with rollouts ahead."""
    with tempfile.TemporaryDirectory() as folder:
        model = make_tiny_model(Path(folder), str(CACHE / "SmolLM2-135M-Instruct"), vocabulary=TINY_VOCABULARY)
        for milliseconds in sizes:
            rollout = milliseconds / 1000
            for part in parts:
                found = (steps(model, f"{folder}/{n}", rollout, rollout * float(part), ahead=n) for n in (0, 1))
                waiting, ahead = (lines[2:-1] for lines in found)  # rollouts were made, and the next ones begun
                rolling = [line["time/rollout"] for line in waiting]
                others = [line["time/step"] - line["time/rollout"] for line in waiting]
                floor = max(statistics.median(rolling), statistics.median(others))
                name = f"rollouts of {milliseconds} ms, optimizer {part} of that, rollouts_ahead"
                for setting, lines in ((0, waiting), (1, ahead)):
                    seconds = statistics.median(line["time/step"] for line in lines)
                    yield Figure(f"{name} {setting}", seconds, "s", floor, 1.05 * floor if setting else None)
