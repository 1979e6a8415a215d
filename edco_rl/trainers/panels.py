"""A section `curriculum` in the trackers of `report_to`: the pool, and which prompts were drawn and why.

transformers' callbacks open the trackers and send what a trainer logs, `curriculum/...` among it, under `train/`.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np
from transformers import TrainerCallback

from ..curriculum import Outcome
from ..curriculum.gates import has_signal
from .drawn import DrawWatch

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_COLUMNS = ("step", "prompt", "subject", "why", "score", "reward", "signal", "times drawn")
# Rows of a table: more are not read.
_MOST_ROWS = 200
_ENTROPY = [f"curriculum/entropy_p{round(100 * share):02d}" for share in QUANTILES]

Rows = Sequence[Sequence[Any]]


class _TensorBoard:
    """Scalars, a layout in which the quantiles share a plot, and tables as Markdown."""

    def __init__(self, callback: Any) -> None:
        self.writer = callback.tb_writer
        self.writer.add_custom_scalars({"curriculum": {"entropy of the pool": ["Multiline", _ENTROPY]}})

    def log(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def table(self, rows: Rows, step: int) -> None:
        lines = [_COLUMNS, ["---"] * len(_COLUMNS), *([_in_markdown(cell) for cell in row] for row in rows)]
        text = "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
        self.writer.add_text("curriculum/prompts", text, step)


class _Logged:
    """wandb, and trackio, which has its interface."""

    def __init__(self, module: str) -> None:
        self.module = import_module(module)

    def log(self, values: Mapping[str, Any], step: int) -> None:
        self.module.log({**values, "train/global_step": step})  # the axis of transformers' callbacks

    def table(self, rows: Rows, step: int) -> None:
        made = self.module.Table(columns=list(_COLUMNS), data=[list(row) for row in rows])
        self.log({"curriculum/prompts": made}, step)


_TRACKERS: dict[str, Callable[[Any], Any]] = {
    "TensorBoardCallback": _TensorBoard,
    "WandbCallback": lambda callback: _Logged("wandb"),
    "TrackioCallback": lambda callback: _Logged("trackio"),
}
"""What opens a tracker's section, by the name of transformers' callback."""


class CurriculumPanels(TrainerCallback):
    """Sends a trainer's curriculum to its trackers, when the trainer logs.

    Quantiles of the pool's scores (`curriculum/entropy_p05` to `p95`), the share of groups whose rewards differ
    (`curriculum/signal_share`), shares of what was drawn by subject (`curriculum/picks/<subject>`), what scoring has
    cost (`curriculum/scoring_seconds`, `curriculum/scoring_share` of the time and `curriculum/scored_tokens`), and the
    table `curriculum/prompts` of the prompts drawn.

    Args:
        trainer (`Trainer`):
            A trainer with a curriculum.
    """

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer
        self._drawn = DrawWatch(trainer)
        self._trackers: list[Any] = []
        self._rewards: defaultdict[int, list[float]] = defaultdict(list)
        self._signals: list[tuple[int, bool]] = []
        trainer.outcome_observers.append(self._observe)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._drawn.begin()
        if state.is_world_process_zero:
            callbacks = {type(one).__name__: one for one in self.trainer.callback_handler.callbacks}
            self._trackers = [make(callbacks[name]) for name, make in _TRACKERS.items() if name in callbacks]

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if not self._trackers or "loss" not in (logs or {}):
            return
        drawn = self._drawn.take()
        told = {int(index): self._drawn.text(int(index)) for index in np.unique(drawn.index)}
        values = self._pool() | self._cost() | self._picks([told[int(index)][1] for index in drawn.index])
        if self._signals:
            values["curriculum/signal_share"] = float(np.mean([signal for _, signal in self._signals]))
        signals = dict(self._signals)
        rows = [
            (
                state.global_step,
                told[index][0],
                told[index][1],
                self._why(score, above),
                score,
                float(np.mean(self._rewards[index])) if self._rewards[index] else float("nan"),
                str(signals.get(index, "")),
                int(self.trainer.curriculum.pool.visits[index]),
            )
            for index, score, above in zip(*(part.tolist() for part in vars(drawn).values()), strict=True)
        ]
        for tracker in self._trackers:
            tracker.log(values, state.global_step)
            tracker.table(rows[:_MOST_ROWS], state.global_step)
        self._rewards.clear()
        self._signals.clear()

    def _observe(self, outcomes: Any) -> None:
        for outcome in outcomes:
            if outcome.rewards is not None:
                self._note(outcome)

    def _note(self, outcome: Outcome) -> None:
        assert outcome.rewards is not None
        self._rewards[outcome.index].extend(outcome.rewards)
        if len(outcome.rewards) > 1:
            self._signals.append((outcome.index, has_signal(outcome)))

    def _pool(self) -> dict[str, float]:
        scores = self.trainer.curriculum.scores.sample()
        return dict(zip(_ENTROPY, np.quantile(scores, QUANTILES).tolist(), strict=True)) if len(scores) else {}

    def _cost(self) -> dict[str, float]:
        seconds = self.trainer.stopwatch.seconds
        spent = sum(value for part, value in seconds.items() if part != "evaluation")
        scoring = seconds.get("scoring", 0.0)
        found = {"seconds": scoring, "share": scoring / spent if spent else 0.0}
        return {f"curriculum/scoring_{name}": value for name, value in found.items()} | {
            "curriculum/scored_tokens": float(self.trainer.tokens["scored"])
        }

    def _picks(self, subjects: Sequence[str]) -> dict[str, float]:
        counts = Counter(subject for subject in subjects if subject)
        return {f"curriculum/picks/{subject}": count / len(subjects) for subject, count in counts.items()}

    def _why(self, score: float, above: float) -> str:
        strategy = self.trainer.curriculum.strategy_name
        if np.isnan(score):
            return f"{strategy}: without a score"
        return f"{strategy}: score {score:.3g}, above {above:.0%} of the pool"


def panels(trainer: Any) -> list[TrainerCallback]:
    """The callback that shows the curriculum, where one of the trackers it knows is in `report_to`."""
    known = {name.removesuffix("Callback").lower() for name in _TRACKERS}
    return [CurriculumPanels(trainer)] if known & set(trainer.args.report_to or ()) else []


def _in_markdown(cell: Any) -> str:
    text = f"{cell:.3g}" if isinstance(cell, float) else str(cell)
    return text.replace("|", "\\|").replace("\n", "<br>")
