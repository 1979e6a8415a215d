"""What scores say of pass rates before there are rewards: the log-odds of exp(-score)."""

import numpy as np
from numpy.typing import NDArray

from .buffer import PriorityBuffer
from .pool import FloatArray, IndexArray

# Log-odds beyond which a score says no more.
_LARGEST = 8.0
# Log-odds that a large pool is surveyed by: a step is a 64th.
_GRID = np.linspace(-_LARGEST, _LARGEST, 1025)
EVERYONE = slice(None)


class LogOdds:
    """Log-odds of exp(-score) of each prompt, and the mean of those known where there is no score.

    Scores below 0 are no surprisal: they are brought to mean 0 and variance 1, and count as minus log-odds.

    Args:
        scores (`PriorityBuffer`):
            The scores.

    Attributes:
        places (`NDArray[np.uint16]`): Where each prompt is in the grid, shape (N,).
    """

    def __init__(self, scores: PriorityBuffer) -> None:
        self.scores = scores
        self.places: NDArray[np.uint16] = np.full(len(scores.scores), len(_GRID), dtype=np.uint16)
        # Mean and deviation of scores that are no surprisal.
        self._scale: tuple[float, float] | None = None
        self._average = 0.0

    def learn(self, scored: IndexArray | slice) -> None:
        """Place prompts by their new scores, and all of them where these are on a scale of their own."""
        before, sample = self._scale, self.scores.sample()
        lowest = np.fmin.reduce(self.scores.scores)
        self._scale = (float(sample.mean()), float(sample.std()) or 1.0) if lowest < 0 else None
        self._average = float(self._from_scores(sample).mean())
        placed = scored if self._scale is before is None else EVERYONE
        values = self._from_scores(self.scores.scores[placed])
        places = np.rint((values + _LARGEST) * ((len(_GRID) - 1) / (2 * _LARGEST)))
        self.places[placed] = np.where(np.isnan(places), len(_GRID), places)

    def _from_scores(self, scores: FloatArray) -> FloatArray:
        if self._scale is not None:
            values = (self._scale[0] - scores) / self._scale[1]
        else:
            with np.errstate(divide="ignore", over="ignore"):
                values = -np.log(np.expm1(scores))
        return np.clip(values, -_LARGEST, _LARGEST)

    def of(self, prompts: IndexArray | slice) -> FloatArray:
        """The log-odds of prompts, shape (len(prompts),)."""
        found = self._from_scores(self.scores.scores[prompts])
        return np.where(np.isnan(found), self._average, found)

    def grid(self) -> FloatArray:
        """The log-odds at each place, the last that of prompts without a score, shape (1026,)."""
        return np.append(_GRID, self._average)
