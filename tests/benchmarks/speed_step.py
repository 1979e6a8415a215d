"""An optimizer step of GRPO beside the least it could take, and beside a step of stock TRL that generates by itself.

Eight prompts of four answers on SmolLM2-135M, float32, as the quickstart has them; the size is an answer's tokens.
The floor is measured after each step, over its tokens and in its process: vLLM generating them without
log-probabilities, the weights written and read once, a bare forward and backward pass with each prompt once, and the
optimizer. Stock TRL runs in a process of its own, `python -m tests.benchmarks.speed_step TOKENS`, before ours. Seconds
are of the clock, medians after the first two steps.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import requests
import torch
from datasets import Dataset
from torch.nn.utils.rnn import pad_sequence
from transformers import TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from edco_rl import CurriculumGRPOTrainer, EngineConfig
from tests.benchmarks.speed import Figure

SIZES = (6, 64)
PARTS = ("floor", "stock")
MODEL = str(Path.home() / ".cache" / "edco_rl" / "SmolLM2-135M-Instruct")
_PROMPTS, _ANSWERS = 8, 4
_STEPS, _WARM_UP = 8, 2
_MOST_OVER_FLOOR = 1.3
_EXCHANGE = "/dev/shm"


def length_reward(completions: list[str], **kwargs: Any) -> list[float]:
    """Differs within groups, and needs no right answer."""
    return [float(sum(map(ord, completion)) % 7) for completion in completions]


class Clock(TrainerCallback):
    """Seconds of each optimizer step, and what is done after it, off the clock."""

    def __init__(self, after: Callable[[], None] = lambda: None) -> None:
        self.seconds: list[float] = []
        self._after = after

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._began = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.seconds.append(time.perf_counter() - self._began)
        self._after()


class Floor:
    """The least a trainer's latest step could have taken, part by part."""

    def __init__(self, trainer: Any) -> None:
        self.trainer, self.model = trainer, trainer.model
        # It changes no weight.
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.0, weight_decay=0.0, fused=True)
        self.parts: dict[str, list[float]] = defaultdict(list)

    def measure(self) -> None:
        """Do and time each part."""
        prompts, completions, *_ = self.trainer.unpack(self.trainer._generated)
        self.trainer.engine.reset_prefix_cache()  # as after a push
        self._time("rollout", lambda: self._generate(prompts, completions))
        self._time("sync", self._exchange)
        self._time("forward and backward", lambda: self._forward_backward(prompts[::_ANSWERS], completions))
        self._time("optimizer", self.optimizer.step)
        self.optimizer.zero_grad()

    def _time(self, part: str, work: Callable[[], Any]) -> None:
        began = time.perf_counter()
        work()
        self.parts[part].append(time.perf_counter() - began)

    def _generate(self, prompts: list[list[int]], completions: list[list[int]]) -> None:
        by_length: dict[int, list[list[int]]] = defaultdict(list)
        for prompt, completion in zip(prompts, completions, strict=True):
            by_length[len(completion)].append(prompt)

        def send(length: int) -> None:
            engine, sampling = self.trainer.engine, {"temperature": self.trainer.temperature, "ignore_eos": True}
            body = {"model": engine.model, "prompt": by_length[length], "max_tokens": length, **sampling}
            requests.post(f"{engine.url}/v1/completions", json=body, timeout=600).raise_for_status()

        with ThreadPoolExecutor(len(by_length)) as pool:
            list(pool.map(send, by_length))

    def _exchange(self) -> None:
        with tempfile.NamedTemporaryFile(dir=_EXCHANGE) as file:
            for parameter in self.model.parameters():
                file.write(parameter.detach().numpy().data)
            file.flush()
            np.fromfile(file.name, np.uint8)

    def _forward_backward(self, prompts: list[list[int]], completions: list[list[int]]) -> None:
        ids = pad_sequence(list(map(torch.tensor, prompts)), batch_first=True, padding_side="left")
        mask = pad_sequence([torch.ones(len(p)) for p in prompts], batch_first=True, padding_side="left")
        answers = pad_sequence(list(map(torch.tensor, completions)), batch_first=True)
        answer_mask = pad_sequence([torch.ones(len(c)) for c in completions], batch_first=True)
        whole_mask = torch.cat([mask.repeat_interleave(_ANSWERS, 0), answer_mask], 1).long()
        first = self.model.base_model(input_ids=ids, attention_mask=mask.long(), use_cache=True)
        cache = first.past_key_values
        cache.batch_repeat_interleave(_ANSWERS)
        rest = self.model.base_model(
            input_ids=answers[:, :-1], attention_mask=whole_mask[:, :-1], past_key_values=cache, use_cache=True
        )
        last = first.last_hidden_state[:, -1:].repeat_interleave(_ANSWERS, 0)
        hidden, wanted = torch.cat([last, rest.last_hidden_state], 1), answer_mask.bool()
        torch.nn.functional.cross_entropy(self.model.lm_head(hidden[wanted]), answers[wanted]).backward()


def train(kind: type, tokens: int, folder: str, **more: Any) -> Any:
    """A trainer of eight prompts and four answers a step, made but not run."""
    config = GRPOConfig(
        output_dir=folder,
        max_steps=_STEPS,
        per_device_train_batch_size=_PROMPTS * _ANSWERS,
        num_generations=_ANSWERS,
        max_completion_length=tokens,
        temperature=0.7,
        learning_rate=2e-5,
        lr_scheduler_type="constant",
        gradient_checkpointing=False,
        vllm_importance_sampling_correction=False,
        model_init_kwargs={"dtype": "float32"},
        bf16=False,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
    )
    asked = "State the final answer to the following arithmetic problem: {} + {} ="
    rows = Dataset.from_dict({"prompt": [asked.format(i, 97 - i % 80) for i in range(10, 99)]})
    return kind(MODEL, length_reward, config, rows, **more)


def median(seconds: Sequence[float]) -> float:
    """Of the steps after the warm-up."""
    return statistics.median(seconds[_WARM_UP:])


def stock(tokens: int) -> float:
    """Seconds of a step of stock TRL, in this process."""
    with tempfile.TemporaryDirectory() as folder:
        trainer, clock = train(GRPOTrainer, tokens, folder), Clock()
        trainer.add_callback(clock)
        trainer.train()
    return median(clock.seconds)


def measure(sizes: Sequence[int], parts: Sequence[str]) -> Iterator[Figure]:
    """A step of each size, whole and by part."""
    for tokens in sizes:
        if "stock" in parts:
            command = [sys.executable, "-m", __name__, str(tokens)]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            alone = float(output.splitlines()[-1])
        engine = EngineConfig(engine_max_model_len=256, engine_dtype="float32")
        with tempfile.TemporaryDirectory() as folder:
            trainer = train(
                CurriculumGRPOTrainer, tokens, folder, curriculum="random", engine=engine, share_prompts=True
            )
            floor, spent = Floor(trainer), []

            def after(floor: Floor = floor, spent: list[dict[str, float]] = spent) -> None:
                spent.append(dict(floor.trainer.stopwatch.seconds))
                if "floor" in parts:
                    floor.measure()

            clock = Clock(after)
            trainer.add_callback(clock)
            try:
                trainer.train()
            finally:
                trainer.close()
        name, ours = f"{tokens} new tokens", median(clock.seconds)
        if "floor" in parts:
            least = {part: median(seconds) for part, seconds in floor.parts.items()}
            whole = sum(least.values())
            yield Figure(f"{name}: step", ours, "s", whole, _MOST_OVER_FLOOR * whole)
            taken = {part: median(np.diff([0.0, *(one[part] for one in spent)])) for part in ("rollout", "sync")}
            for part, seconds in taken.items():
                yield Figure(f"{name}: {part}", seconds, "s", least.pop(part))
            yield Figure(f"{name}: all else", ours - sum(taken.values()), "s", sum(least.values()))
        if "stock" in parts:
            yield Figure(f"{name}: step, beside stock TRL's", ours, "s", alone, alone)


if __name__ == "__main__":
    print(stock(int(sys.argv[1])))
