"""One run by itself: the prompts it drew, what they were worth, and its settings."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..statistics import FloatArray, over_prompts
from .load import Run
from .traces import heat

# Prompts shown of all runs together: a page of hundreds of runs has to open, too.
_MOST_ROWS = 20_000
_MOST_ROWS_OF_A_RUN = 400
_WINDOWS = 20
_BINS = 5
COLUMNS = ("index", "first", "draws", "score", "reward", "later", "signal", "entropy", "difficulty")
"""What [`describe_runs`] says of a prompt; see the page's table."""


def describe_runs(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """What the page shows of each run beside what it shows of all."""
    most = min(_MOST_ROWS_OF_A_RUN, _MOST_ROWS // len(runs) + 1)
    return [_describe(run, most) for run in runs]


def texts_of(runs: Sequence[Run], details: Sequence[dict[str, Any]]) -> dict[str, dict[str, list[str]]]:
    """Text and subject of the prompts that are shown, by the fingerprint of their pool and by position."""
    found: dict[str, dict[str, list[str]]] = {}
    for run, detail in zip(runs, details, strict=True):
        known = _texts(run)
        shown = found.setdefault(detail["pool"], {})
        shown |= {str(row[0]): known[row[0]] for row in detail["prompts"] if row[0] in known}
    return found


def _describe(run: Run, most: int) -> dict[str, Any]:
    rows = prompt_rows(run)
    kept = rows[:: -(-len(rows) // most)] if rows else []
    return {
        "task": run.task,
        "method": run.method,
        "curriculum": run.curriculum,
        "seed": run.seed,
        "folder": run.folder.name,
        "status": run.status,
        "facts": _facts(run),
        "pool": run.summary["pool_fingerprint"],
        "heat": heat(run),
        "subjects": picks_by_subject(run),
        "prompts": kept,
        "prompts_drawn": len(rows),
        "score_reward": _binned(rows, "score", "later"),
        "entropy_reward": _binned(rows, "entropy", "reward"),
        "settings": _flat(run.summary["config"]),
    }


def _facts(run: Run) -> dict[str, str]:
    """What came of a run, as text."""
    learned, summary = run.learning(), run.summary
    found = {}
    if learned is not None:
        for name, right in (("before", learned.right[0]), ("after", learned.right[-1])):
            mean = over_prompts(right)
            found[f"accuracy {name}"] = f"{mean.value:.3f} [{mean.low:.3f}, {mean.high:.3f}]"
    found |= {"optimizer steps": f"{summary['steps']}", "tokens": f"{sum(summary['tokens'].values()):,}"}
    found |= {"training": f"{summary['seconds']['training']:.0f} s"}
    found |= {"prompts used": f"{summary['prompts_trained_on']} of {summary['prompts_in_pool']}"}
    signals = [group[2] for line in run.lines("step") for group in line["groups"] if group[2] is not None]
    return found | ({"groups with a signal": f"{np.mean(signals):.0%}"} if signals else {})


def prompt_rows(run: Run) -> list[list[Any]]:
    """A row of `COLUMNS` for each prompt that was drawn, in the order of their first draws.

    Reward, share of groups with a signal and entropy are means over all its groups; `score` is the first one that was
    known when it was drawn, and `later` the mean reward of the groups that were drawn then or later.
    """
    rows: dict[int, dict[str, Any]] = {}
    for line in run.lines("step"):
        scores = dict(zip(line["prompts"], line.get("prompt_scores") or [], strict=False))
        for index in line["prompts"]:
            row = rows.setdefault(index, {"first": line["step"], "draws": 0, "score": None, "groups": [], "later": []})
            row["draws"] += 1
            if row["score"] is None:
                row["score"] = scores.get(index)
        for index, *group in line["groups"]:
            if index in rows:
                rows[index]["groups"].append(group)
                if rows[index]["score"] is not None:
                    rows[index]["later"].append(group[0])
    return [
        [
            index,
            row["first"],
            row["draws"],
            row["score"],
            _mean([group[0] for group in row["groups"]]),
            _mean(row["later"]),
            _mean([group[1] for group in row["groups"]]),
            _mean([group[2] for group in row["groups"]]),
            None if run.difficulty is None else round(run.difficulty[index], 3),
        ]
        for index, row in rows.items()
    ]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(float(np.mean(known)), 4) if known else None


def _binned(rows: Sequence[Sequence[Any]], x: str, y: str) -> dict[str, list[float]] | None:
    """Means of y over equally many prompts of rising x; `None` where too few have both."""
    places = COLUMNS.index(x), COLUMNS.index(y)
    pairs: FloatArray = np.array([[row[i] for i in places] for row in rows], dtype=np.float64).reshape(-1, 2)
    pairs = pairs[np.isfinite(pairs).all(axis=1)]
    if len(pairs) < 2 * _BINS:
        return None
    parts = np.array_split(pairs[np.argsort(pairs[:, 0], kind="stable")], _BINS)
    middle = np.array([part.mean(axis=0) for part in parts])
    return {"x": middle[:, 0].round(4).tolist(), "y": middle[:, 1].round(4).tolist()}


def _texts(run: Run) -> dict[int, list[str]]:
    return {int(index): text for line in run.lines("texts") for index, text in line["texts"].items()}


def picks_by_subject(run: Run) -> dict[str, Any] | None:
    """Share of the draws that went to each subject, over windows of steps; `None` with fewer than two subjects.

    Returns:
        `names`; `steps`: first step of each window; `shares`: one list a subject.
    """
    subject = {index: text[1] for index, text in _texts(run).items() if text[1]}
    names = sorted(set(subject.values()))
    lines = [line for line in run.lines("step") if any(index in subject for index in line["prompts"])]
    if len(names) < 2 or not lines:
        return None
    windows = [part for part in np.array_split(np.arange(len(lines)), min(_WINDOWS, len(lines))) if len(part)]
    counts = np.zeros((len(names), len(windows)))
    for column, window in enumerate(windows):
        for number in window:
            for index in lines[number]["prompts"]:
                if index in subject:
                    counts[names.index(subject[index]), column] += 1
    return {
        "names": names,
        "steps": [lines[window[0]]["step"] for window in windows],
        "last": lines[-1]["step"],
        "shares": (counts / counts.sum(axis=0)).round(4).tolist(),
    }


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    """Settings by name, without the sections they stand in."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= value if isinstance(value, dict) else {name: value}
    return flat
