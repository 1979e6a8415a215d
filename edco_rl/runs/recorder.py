"""What a run leaves behind for a report: one line a step, a renewal of the curriculum or an evaluation."""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from accelerate.utils import gather_object
from numpy.typing import NDArray
from transformers import TrainerCallback

from ..curriculum import Outcome
from ..curriculum.gates import has_signal
from ..store import plain, write_lines
from ..terminal import tell
from ..trainers.drawn import DrawWatch

RECORDS_FILE = "records.jsonl"
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Of the entropy over prompts."""
_METRICS = ("reward", "accuracy", "entropy", "mean_token_accuracy")
_LOGGED = ("loss", "kl", "completions/mean_length", "grad_norm", "learning_rate")


@dataclass(frozen=True)
class Spent:
    """What was spent on a run before its trainer was made.

    Args:
        tokens (`Counter[str]`):
            Tokens, by what they were for.
        parts (`dict[str, float]`):
            Seconds, by what they were for.
    """

    tokens: Counter[str]
    parts: dict[str, float]


class RunRecorder(TrainerCallback):
    """Writes `records.jsonl` while a trainer trains, measures held-out accuracy on the way, and keeps to a budget.

    Args:
        trainer (`Trainer`):
            A trainer with a curriculum.
        folder (`Path`):
            The run's folder.
        about (`dict[str, Any]`):
            What the run is: its first record, so that it can be looked at while it is in progress.
        evaluate (`Callable`, *optional*):
            Measures the held-out prompts: 1 for a right answer, 0 for a wrong one, or a reward between; NaN for one
            that cannot be judged. A collective: called on every rank, `None` on all but the first.
        every (`int`, *optional*):
            Optimizer steps between two evaluations. By default at the start and at the end.
        stop_after_tokens (`float`, *optional*), stop_after_seconds (`float`, *optional*):
            Budget. Tokens are those generated, scored and trained on, of all ranks; seconds leave evaluation out.
    """

    def __init__(
        self,
        trainer: Any,
        folder: Path,
        about: dict[str, Any],
        evaluate: Callable[[], NDArray[np.float64] | None],
        *,
        every: int | None = None,
        stop_after_tokens: float | None = None,
        stop_after_seconds: float | None = None,
    ) -> None:
        self.trainer = trainer
        self.path = folder / RECORDS_FILE
        self.about = about
        self.evaluate = evaluate
        self.every = every
        self.stop_after_tokens = stop_after_tokens
        self.stop_after_seconds = stop_after_seconds
        self.measured: dict[int, float | None] = {}
        """Mean over held-out prompts by optimizer step; `None` without any, and on ranks that do not measure them."""
        self.outlook: dict[str, float] | None = None
        """Shares of groups whose rewards were expected to differ, after the first scoring; see `Strategy.outlook`."""
        self._outcomes: list[Outcome] = []
        self._drawn = DrawWatch(trainer)
        self._told: set[int] = set()  # prompts whose text is in the records
        self._seconds_before = 0.0  # of an interrupted run
        self._paused = 0.0
        self._started = time.perf_counter()
        self._total: Counter[str] = Counter()
        trainer.outcome_observers.append(self._observe)
        trainer.add_callback(self)

    def begin(
        self,
        resumed_from: int | None,
        spent: Spent | None = None,
        measured_at_start: NDArray[np.float64] | None = None,
    ) -> None:
        """Begin a run, or take up the records of an interrupted one as they were at a checkpoint's step.

        Args:
            resumed_from (`int`, *optional*):
                The checkpoint's step.
            spent (`Spent`, *optional*):
                What was spent before; records that are taken up hold it.
            measured_at_start (`NDArray[np.float64]`, *optional*):
                What `evaluate` has given for the start weights, where that is known; it is not asked again.
        """
        accelerator = self.trainer.accelerator
        kept: list[dict[str, Any]] = []
        if resumed_from is not None and self.path.is_file():
            kept = [line for line in read_records(self.path) if line["step"] <= resumed_from]
        self.measured = {line["step"]: mean_of(line) for line in kept if line["kind"] == "evaluation"}
        self._told = {int(index) for line in kept if line["kind"] == "texts" for index in line["texts"]}
        steps = [line for line in kept if line["kind"] == "step"]
        accelerator.wait_for_everyone()  # all have read it
        if accelerator.is_main_process:
            if steps:
                self._seconds_before = steps[-1]["seconds"]
                self.trainer.tokens.update(steps[-1]["tokens"])
                self.trainer.stopwatch.seconds |= steps[-1]["parts"]
            elif spent is not None:
                self._seconds_before = sum(spent.parts.values())
                self.trainer.tokens.update(spent.tokens)
                self.trainer.stopwatch.seconds |= spent.parts
            write_lines(self.path, kept)
        if not any(line["kind"] == "run" for line in kept):
            self._write({"kind": "run", "step": 0, **plain(self.about)})
        self._total = self._all_tokens()
        if 0 not in self.measured:
            self.measure(0, measured_at_start)
        self._started = time.perf_counter()
        self._paused = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._drawn.begin()  # a checkpoint may have brought others
        self._record_scores(state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        metrics = {name: logs[name] for name in _LOGGED if logs and name in logs}
        if "loss" in metrics:
            self._write({"kind": "log", "step": state.global_step, "metrics": metrics})

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.outlook is not None:
            return
        strategy, group_size = self.trainer.curriculum.strategy, getattr(self.trainer, "num_generations", 1)
        shares = strategy.outlook(strategy.size, group_size) if group_size > 1 else None
        if shares is not None:
            self.outlook = dict(zip(("signal", "signal_random"), shares, strict=True))
            if self.trainer.accelerator.is_main_process:
                text = "Rewards are expected to differ in {:.0%} of the groups drawn next, in random order in {:.0%}."
                tell(text.format(*shares))

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._total = self._all_tokens()
        self._record_step(state.global_step)
        self._record_scores(state.global_step)
        spent = (
            self.stop_after_tokens is not None and self._total.total() >= self.stop_after_tokens,
            self.stop_after_seconds is not None and self.seconds() >= self.stop_after_seconds,
        )
        if any(gather_object([any(spent)])):  # clocks of ranks differ
            control.should_training_stop = True
        if self.every is not None and state.global_step % self.every == 0:
            self.measure(state.global_step)

    def finish(self) -> None:
        """Measure accuracy after the last step, unless it was just measured."""
        step = self.trainer.state.global_step
        if step not in self.measured:
            self.measure(step)

    @property
    def tokens(self) -> dict[str, int]:
        """Tokens generated, scored and trained on so far, of all ranks."""
        return dict(self._total)

    def seconds(self) -> float:
        """Seconds of training so far, evaluation left out."""
        return self._seconds_before + time.perf_counter() - self._started - self._paused

    def measure(self, step: int, known: NDArray[np.float64] | None = None) -> None:
        """Measure held-out accuracy, on a clock that stands still; what is known of it is not measured again."""
        seconds, began = self.seconds(), time.perf_counter()
        prompts = self.about.get("held_out_prompts")
        if prompts and known is None:
            tell(f"Optimizer step {step}: answering {prompts} held-out prompts ...")
        right = self.evaluate() if known is None else known
        self.measured[step] = None
        if right is not None:
            line = {"kind": "evaluation", "step": step, "seconds": seconds if step else self._seconds_before}
            line |= {"tokens": dict(self._total), **encode(right)}
            self.measured[step] = mean_of(line)
            self._write(line)
        self._paused += time.perf_counter() - began

    def _all_tokens(self) -> Counter[str]:
        counts = gather_object([dict(self.trainer.tokens)])
        return sum(map(Counter, counts), Counter())

    def _observe(self, outcomes: Iterable[Outcome]) -> None:
        self._outcomes += outcomes

    def _record_step(self, step: int) -> None:
        drawn = self._drawn.take()
        new = dict.fromkeys(index for index in drawn.index.tolist() if index not in self._told)
        if new:
            self._told.update(new)
            texts = {str(index): self._drawn.text(index) for index in new}
            self._write({"kind": "texts", "step": step, "texts": texts})
        outcomes = [o for o in self._outcomes if o.score is None]
        self._outcomes = [o for o in self._outcomes if o.score is not None]
        metrics = {
            name: float(np.mean([value for value in values if np.isfinite(value)]))
            for name, values in self.trainer._metrics["train"].items()
            if np.isfinite(values).any() and (name in _METRICS or name.startswith("curriculum/"))
        }
        self._write(
            {
                "kind": "step",
                "step": step,
                "seconds": round(self.seconds(), 3),
                "tokens": dict(self._total),
                "parts": {part: round(value, 3) for part, value in self.trainer.stopwatch.seconds.items()},
                "prompts": drawn.index.tolist(),
                "prompt_scores": plain(drawn.score.round(4)),
                "groups": [_group(outcome) for outcome in outcomes],
                "versions": [outcome.version for outcome in outcomes],  # of the weights that made each group
                "metrics": metrics,
            }
        )

    def _record_scores(self, step: int) -> None:
        scores = [outcome.score for outcome in self._outcomes if outcome.score is not None]
        versions = [outcome.version for outcome in self._outcomes if outcome.score is not None]
        self._outcomes = [o for o in self._outcomes if o.score is None]
        if scores:
            values = np.quantile(scores, QUANTILES).round(5).tolist()
            line = {"kind": "scores", "step": step, "seconds": round(self.seconds(), 3), "prompts": len(scores)}
            line["version"] = max(versions)  # of the weights they were made with
            self._write({**line, "mean": float(np.mean(scores)), "quantiles": values})

    def _write(self, line: dict[str, Any]) -> None:
        if self.trainer.accelerator.is_main_process:
            with self.path.open("a") as file:
                file.write(json.dumps(line) + "\n")


def _group(outcome: Outcome) -> list[Any]:
    """Prompt, mean reward, whether the rewards differ, entropy of the rollouts in nats, whether gates let it in."""
    reward = None if outcome.rewards is None else round(float(np.mean(outcome.rewards)), 4)
    signal = int(has_signal(outcome)) if outcome.rewards is not None and len(outcome.rewards) > 1 else None
    entropy = None if outcome.entropy is None else round(outcome.entropy, 4)
    return [outcome.index, reward, signal, entropy, int(outcome.admitted)]


def encode(values: NDArray[np.float64]) -> dict[str, Any]:
    """Values of held-out prompts for a record; of right and wrong ones one character each, which keeps it small."""
    if np.isin(values[~np.isnan(values)], (0, 1)).all():
        return {"right": "".join("-" if np.isnan(value) else str(int(value)) for value in values)}
    return {"values": [None if np.isnan(value) else round(float(value), 4) for value in values]}


def decode(line: dict[str, Any]) -> NDArray[np.float64]:
    """Values of held-out prompts from the record of an evaluation; NaN for one that could not be judged."""
    if "right" in line:
        return np.array([np.nan if character == "-" else float(character) for character in line["right"]])
    return np.array([np.nan if value is None else value for value in line["values"]], dtype=np.float64)


def mean_of(line: dict[str, Any]) -> float:
    """Mean over the prompts that could be judged; NaN without one."""
    values = decode(line)
    return float(values[~np.isnan(values)].mean()) if np.isfinite(values).any() else float("nan")


def read_records(path: Path) -> list[dict[str, Any]]:
    """The lines of a `records.jsonl`. A last line that a killed run left unfinished is left out."""
    lines = path.read_text().split("\n")
    return [json.loads(line) for line in lines[:-1]]


def start_of(folder: Path) -> NDArray[np.float64] | None:
    """What a run in a folder has measured before its first step; `None` where it has not."""
    lines = (line for line in read_records(folder / RECORDS_FILE) if line["kind"] == "evaluation")
    return next((decode(line) for line in lines), None)
