"""How well complexity, and the scores it is compared with, tell wrong answers from right ones."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ..statistics import roc_auc, with_interval
from .scores import ANSWERED

# Subjects with fewer rows of either kind have no interval worth printing.
_LEAST_OF_A_KIND = 2


def prediction(scores: pa.Table, rivals: Mapping[str, pa.Table], seed: int) -> dict[str, Any]:
    """How well complexity tells wrong answers from right ones. Rows that are not answered are left out.

    Args:
        scores (`pyarrow.Table`):
            As of [`~edco_rl.complexity.scores.ComplexityScorer`].
        rivals (`Mapping[str, pyarrow.Table]`):
            Scores of the same rows to compare with: all columns of floats, null where a row has none. Where such a
            table says in a column `right` which answers are right, it is for these that its scores are asked.
        seed (`int`):
            Seed of the bootstrap.

    Returns:
        `dict[str, Any]`: for all rows (`all`) and each subject, `rows`, `accuracy`, mean `score` in nats, and
        `wrong_answer_auc`, the area under the ROC curve with its 95 % bootstrap interval; the same for each column of
        a rival, by both their names (`rivals`); how many rows are `left_out`, by their status; and
        `label_probability`, the mean probability of an option label as the first token.
    """
    statuses = Counter(scores["status"].to_pylist())
    kept = pc.equal(scores["status"], ANSWERED)
    score, right, mass = (_numbers(scores.filter(kept), name) for name in ("score", "right", "label_probability"))
    subjects = np.array(scores.filter(kept)["subject"].to_pylist(), dtype=object)
    names = sorted({subject for subject in subjects if subject})
    chosen = {"all": np.ones(len(score), dtype=bool)} | {name: subjects == name for name in names}
    found = {}
    for name, table in rivals.items():
        own = "right" in table.column_names
        rival = table if own else table.filter(kept)
        for column in (field.name for field in table.schema if pa.types.is_floating(field.type)):
            found[f"{name}_{column}"] = _predicted(
                _numbers(rival, column), _numbers(rival, "right") if own else right, seed
            )
    return {
        "label_probability": float(np.nanmean(mass)) if np.isfinite(mass).any() else None,
        "left_out": {status: count for status, count in sorted(statuses.items()) if status != ANSWERED},
        "groups": {name: _predicted(score[rows], right[rows], seed) for name, rows in chosen.items()},
        "rivals": found,
    }


def _numbers(table: pa.Table, name: str) -> NDArray[np.float64]:
    """A column; NaN for null."""
    return np.array([np.nan if value is None else value for value in table[name].to_pylist()], dtype=np.float64)


def _predicted(score: NDArray[np.float64], right: NDArray[np.float64], seed: int) -> dict[str, Any]:
    given = score[np.isfinite(score)]
    known = np.isfinite(right) & np.isfinite(score)
    score, right = score[known], right[known]
    counts = int(right.sum()), int((1 - right).sum())
    enough = min(counts) >= _LEAST_OF_A_KIND
    auc = with_interval(roc_auc, score, 1 - right, seed=seed) if enough else None
    return {
        "rows": len(right),
        "accuracy": float(right.mean()) if len(right) else None,
        "score": float(given.mean()) if len(given) else None,
        "wrong_answer_auc": None if auc is None else vars(auc),
    }
