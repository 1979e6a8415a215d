"""What a curriculum did in one run, and the mean of it over seeds."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..runs.recorder import QUANTILES
from ..statistics import FloatArray, band
from .load import Run

Points = tuple[FloatArray, FloatArray]
"""Optimizer steps, shape (N,), and values, shape (N,) or (N, K)."""

# Means over windows of steps: a single step's handful of groups is mostly noise.
_WINDOWS = 20
_HEAT_ROWS, _HEAT_COLUMNS = 32, 40


def _by_step(run: Run, value: Callable[[dict[str, Any]], float | None], kind: str = "step") -> Points:
    """Means over windows of steps of what each step's record gives; windows without any are left out."""
    lines = run.lines(kind)
    values = np.array([np.nan if (found := value(line)) is None else found for line in lines], dtype=np.float64)
    steps = np.array([line["step"] for line in lines], dtype=np.float64)
    parts = [part for part in np.array_split(np.arange(len(lines)), min(_WINDOWS, len(lines) or 1)) if len(part)]
    kept = [part for part in parts if np.isfinite(values[part]).any()]
    return np.array([steps[part].mean() for part in kept]), np.array([np.nanmean(values[part]) for part in kept])


def _of_groups(column: int) -> Callable[[dict[str, Any]], float | None]:
    def mean(line: dict[str, Any]) -> float | None:
        values = [group[column] for group in line["groups"] if group[column] is not None]
        return float(np.mean(values)) if values else None

    return mean


def signal(run: Run) -> Points:
    """Share of groups whose rewards differ."""
    return _by_step(run, _of_groups(2))


def reward(run: Run) -> Points:
    """Mean reward; in supervised fine-tuning the share of the reference's tokens that the model ranks first."""
    return _by_step(run, _of_groups(1))


def rollout_entropy(run: Run) -> Points:
    """Mean entropy of what the prompts were trained on, in nats: of rollouts, or of references."""
    groups = _of_groups(3)
    return _by_step(run, lambda line: groups(line) if groups(line) is not None else line["metrics"].get("entropy"))


def logged(name: str) -> Callable[[Run], Points]:
    """A metric of the trainer's log."""

    def found(run: Run) -> Points:
        return _by_step(run, lambda line: line["metrics"].get(name), "log")

    return found


def difficulty(run: Run) -> Points:
    """Mean rank in the pool, 0 the easiest and 1 the hardest for the start weights, of the prompts chosen."""
    if run.difficulty is None:
        return np.empty(0), np.empty(0)
    rank = np.argsort(np.argsort(run.difficulty)) / max(len(run.difficulty) - 1, 1)
    return _by_step(run, lambda line: float(rank[line["prompts"]].mean()) if line["prompts"] else None)


def overlap(run: Run) -> Points:
    """Share of an interval's prompts that the interval before it had used, too."""
    interval = run.summary["config"]["curriculum"]["curriculum_interval"]
    blocks: dict[int, set[int]] = {}
    for line in run.lines("step"):
        blocks.setdefault((line["step"] - 1) // interval, set()).update(line["prompts"])
    pairs = [(n, len(blocks[n] & blocks[n - 1]) / len(blocks[n])) for n in blocks if n - 1 in blocks and blocks[n]]
    last = max((line["step"] for line in run.lines("step")), default=0)
    return np.array([min((n + 1.0) * interval, last) for n, _ in pairs]), np.array([share for _, share in pairs])


def pool_scores(run: Run) -> Points:
    """Quantiles of the estimator's scores at each renewal, shape (N, len(QUANTILES))."""
    lines = run.lines("scores")
    steps = np.array([line["step"] for line in lines], dtype=np.float64)
    return steps, np.array([line["quantiles"] for line in lines]).reshape(len(lines), len(QUANTILES))


def over_seeds(points: Sequence[Points], level: float) -> dict[str, Any] | None:
    """Mean and band over runs, at the steps all have; `None` without any."""
    points = [point for point in points if len(point[0])]
    if not points:
        return None
    steps = points[0][0]
    for other, _ in points[1:]:
        steps = np.intersect1d(steps, other)
    if not len(steps):  # budgets of tokens or seconds: windows differ
        steps = points[0][0][points[0][0] <= min(point[0][-1] for point in points)]
    values = np.array([_at(steps, *point) for point in points])
    if values.ndim == 3:  # quantiles: their means over seeds, rather than a band
        low, middle, high = (values.mean(axis=0)[:, i] for i in (1, 2, 3))
    else:
        middle, low, high = band(values, level)
    return {"x": _plain(steps), "y": _plain(middle), "low": _plain(low), "high": _plain(high)}


def _at(steps: FloatArray, known: FloatArray, values: FloatArray) -> FloatArray:
    if values.ndim == 1:
        return np.interp(steps, known, values)
    return np.stack([np.interp(steps, known, column) for column in values.T], axis=1)


def _plain(values: FloatArray) -> list[float | None]:
    return [None if not np.isfinite(value) else round(float(value), 5) for value in values]


def heat(run: Run) -> dict[str, Any]:
    """How often prompts were drawn when: rows of prompts from easy to hard (or in the pool's order), columns of steps.

    Returns:
        `rows`: draws a prompt, shape (R, C); `steps`: first step of each column; `ranked`: whether by difficulty.
    """
    size = run.summary["prompts_in_pool"]
    lines = run.lines("step")
    rows, columns = min(_HEAT_ROWS, size), min(_HEAT_COLUMNS, max(len(lines), 1))
    place = np.arange(size) if run.difficulty is None else np.argsort(np.argsort(run.difficulty))
    counts = np.zeros((rows, columns))
    for number, line in enumerate(lines):
        np.add.at(counts, (place[line["prompts"]] * rows // size, number * columns // len(lines)), 1)
    per_row = np.bincount(np.arange(size) * rows // size, minlength=rows)
    starts = [lines[-(-column * len(lines) // columns)]["step"] for column in range(columns)] if lines else []
    return {
        "rows": (counts / per_row[:, None]).round(3).tolist(),
        "steps": starts,
        "last": lines[-1]["step"] if lines else 0,
        "ranked": run.difficulty is not None,
    }


TRACES: dict[str, tuple[str, str, Callable[[Run], Points]]] = {
    "pool_scores": (
        "Scores of the pool",
        "each by its estimator, as entropy in nats; median, middle half",
        pool_scores,
    ),
    "rollout_entropy": ("Entropy of what is trained on", "nats; rollouts, or references in SFT", rollout_entropy),
    "signal": ("Groups with signal", "share of groups whose rewards differ", signal),
    "reward": ("Reward of chosen prompts", "mean; in SFT the share of tokens ranked first", reward),
    "difficulty": ("Difficulty of chosen prompts", "rank in the pool for the start weights: 0 easiest", difficulty),
    "overlap": ("Overlap of successive curricula", "share of prompts used in the interval before", overlap),
    "loss": ("Loss", "of the optimizer's steps", logged("loss")),
    "kl": ("KL", "nats a token, from the reference model", logged("kl")),
    "length": ("Length of completions", "tokens, mean", logged("completions/mean_length")),
}
"""Title, what is on the y axis, and how it is found, by name."""
