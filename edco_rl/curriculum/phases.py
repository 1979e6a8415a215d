"""A strategy of phases: one part of the pool after the other, as the rows themselves say."""

from typing import ClassVar

import numpy as np

from .choosing import lowest_set
from .orders import BabyStep
from .pool import IndexArray
from .strategy import StrategyContext


class Phases(BabyStep):
    """The prompts of the smallest value of a column alone, then those of the next, each for some shuffled passes.

    A stage is a phase. The last one lasts until training ends. Prompts that do not fill the last batch of a pass are
    left for the next one; a phase smaller than a batch is filled up with prompts of the others.

    Args:
        column (`str`, *optional*, defaults to `"phase"`):
            A numeric column: the phase of each prompt.
        stage_passes (`int`, *optional*, defaults to `1`):
            Passes over its prompts a phase lasts.
    """

    default_column: ClassVar[str] = "phase"

    def __init__(self, context: StrategyContext, *, column: str | None = None, stage_passes: int = 1) -> None:
        super().__init__(context, column=column, stages=1, stage_passes=stage_passes)
        self._values, self._sizes = np.unique(self.buffer.scores, return_counts=True)
        self.stages = len(self._values)

    def _size(self, stage: int, n: int) -> int:
        return max(int(self._sizes[stage - 1]), n)

    def _prompts(self, stage: int, n: int) -> IndexArray:
        others = self.buffer.scores != self._values[stage - 1]
        return lowest_set(others, self._size(stage, n))
