"""Which prompts an optimizer step has drawn, and what the curriculum knew of them when it did."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
        self._latest: tuple[FloatArray, FloatArray] | None = None
        self._ahead: IndexArray | None = None
        self._look()

    def _look(self) -> None:
        curriculum = self._trainer.curriculum
        self._visits = self._visits_of_steps()
        known = curriculum.scores.scores.copy(), np.sort(curriculum.scores.sample())
        if not len(curriculum.ahead) or self._latest is None:
            self._known = known
        elif curriculum.ahead is not self._ahead:  # it was drawn in this step, by what was known before it
            self._known = self._latest
        self._ahead, self._latest = curriculum.ahead, known

    def _visits_of_steps(self) -> NDArray[np.int32]:
        """Visits without those of the next step: drawn ahead, or for a step that failed."""
        trainer = self._trainer
        visits = trainer.curriculum.pool.visits.copy()
        visits[trainer._batch_sampler.untouched] -= 1
        visits[trainer.curriculum.ahead] -= 1
        return visits

    def take(self) -> Drawn:
        """What was drawn since it was last asked."""
        visits = self._visits_of_steps()
        new = np.flatnonzero(visits != self._visits)  # a batch of a pool that can be large
        index = np.repeat(new, visits[new] - self._visits[new])
        scores, ranked = self._known
        score = scores[index]
        lower = np.searchsorted(ranked, score) / max(len(ranked), 1)
        drawn = Drawn(index, score, np.where(np.isfinite(score), lower, np.nan))
        self._look()
        return drawn

    def text(self, index: int) -> tuple[str, str]:
        """A prompt as text, cut where it is long, and its subject, empty where it has none."""
        row = self._trainer._prompt_rows[index]
        prompt = row.get("prompt", "")
        if not isinstance(prompt, str):  # messages
            prompt = "\n".join(f"{message['role']}: {message['content']}" for message in prompt)
        prompt = prompt if len(prompt) <= MOST_CHARACTERS else prompt[:MOST_CHARACTERS] + "…"
        return prompt, str(row.get("subject") or "")
