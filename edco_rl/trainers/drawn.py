"""Which prompts an optimizer step has drawn, and what the curriculum knew of them when it did."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..curriculum.pool import FloatArray, IndexArray

MOST_CHARACTERS = 300


@dataclass(frozen=True)
class Drawn:
    """Prompts that were drawn, in the order of the pool.

    Args:
        index (`NDArray[np.int64]`):
            Their positions in the pool, one a draw, shape (D,).
        score (`NDArray[np.float64]`):
            The estimator's score that was known when they were drawn, NaN without one, shape (D,).
        above (`NDArray[np.float64]`):
            Share of the pool's known scores that are lower, NaN without a score, shape (D,).
    """

    index: IndexArray
    score: FloatArray
    above: FloatArray


class DrawWatch:
    """Tells what was drawn since it was last asked.

    Args:
        trainer (`Trainer`):
            A trainer with a curriculum.
    """

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        self.begin()

    def begin(self) -> None:
        """Forget what was drawn so far: what is known now is what the next draws know."""
        curriculum = self._trainer.curriculum
        self._visits = curriculum.pool.visits.copy()
        self._visits[self._trainer._batch_sampler.untouched] -= 1  # drawn for a step that failed: the next one's
        self._scores = curriculum.scores.scores.copy()
        self._ranked = np.sort(curriculum.scores.sample())

    def take(self) -> Drawn:
        """What was drawn since it was last asked."""
        visits = self._trainer.curriculum.pool.visits
        new = np.flatnonzero(visits != self._visits)  # a batch of a pool that can be large
        index = np.repeat(new, visits[new] - self._visits[new])
        score = self._scores[index]
        lower = np.searchsorted(self._ranked, score) / max(len(self._ranked), 1)
        drawn = Drawn(index, score, np.where(np.isfinite(score), lower, np.nan))
        self.begin()
        return drawn

    def text(self, index: int) -> tuple[str, str]:
        """A prompt as text, cut where it is long, and its subject, empty where it has none."""
        row = self._trainer._prompt_rows[index]
        prompt = row.get("prompt", "")
        if not isinstance(prompt, str):  # messages
            prompt = "\n".join(f"{message['role']}: {message['content']}" for message in prompt)
        prompt = prompt if len(prompt) <= MOST_CHARACTERS else prompt[:MOST_CHARACTERS] + "…"
        return prompt, str(row.get("subject") or "")
