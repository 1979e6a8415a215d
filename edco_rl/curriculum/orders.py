"""Strategies whose order is fixed before training: random, easy to hard, hard to easy, and by stages."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigurationError
from .buffer import PriorityBuffer
from .choosing import highest, lowest_set
from .outcomes import Outcomes
from .pool import IndexArray
from .pool_state import column
from .state import StateError, entry, number, whole, within
from .strategy import Strategy, StrategyContext, quantile_metrics


class Random(Strategy):
    """Passes over the shuffled pool, one after the other: what TRL does without a curriculum.

    As in TRL's sampler, prompts that do not fill the last batch of a pass are left for the next one.
    """

    def __init__(self, context: StrategyContext) -> None:
        super().__init__(context)
        self._passes = 0

    def select(self, n: int) -> IndexArray:
        if len(self.queue) < n:
            self.queue = np.asarray(self.pool.order(self._passes))
            self._passes += 1
        return self.take(n)

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"passes": self._passes}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._passes = whole(state, "passes", most=int(self.pool.visits.sum()))


class ByDifficulty(Strategy):
    """Base of strategies that know how difficult each prompt is.

    Args:
        column (`str`, *optional*):
            A numeric column, larger where a prompt is harder, or `prompt_length` (in tokens). By default prompts are
            scored before training, at most `curriculum_candidates` at each renewal, and keep that score.
    """

    default_column: ClassVar[str | None] = None
    """The column where the setting does not name one."""

    def __init__(self, context: StrategyContext, *, column: str | None = None) -> None:
        super().__init__(context)
        self.column = column or self.default_column
        self.buffer = PriorityBuffer(self.pool)
        if self.column is not None:
            self.buffer.update(np.arange(len(self.pool)), self.pool.column(self.column), 0)

    def wants(self, budget: int) -> IndexArray:
        unscored = np.flatnonzero(~self.buffer.known)
        if budget >= len(unscored):
            return unscored
        return np.sort(self.rng.choice(unscored, budget, replace=False))

    def observe(self, outcomes: Outcomes) -> None:
        new = ~np.isnan(outcomes.score) & np.isnan(self.buffer.scores[outcomes.index])
        for part in outcomes.take(new).one_each() if new.any() else ():
            first = np.isnan(self.buffer.scores[part.index])
            self.buffer.update(part.index[first], part.score[first], part.version[first])

    def metrics(self) -> dict[str, float]:
        known = self.buffer.sample()
        return quantile_metrics("difficulty", known) if len(known) else {}

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"difficulty": self.buffer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        with within("difficulty"):
            self.buffer.load_state_dict(entry(state, "difficulty"))
        if self.column is not None:  # gives what the state leaves out
            new = np.flatnonzero(~self.buffer.known)
            self.buffer.update(new, self.pool.column(self.column)[new], 0)


class EasyToHard(ByDifficulty):
    """Passes over the pool in the order of difficulty, ties at random; unscored prompts count as average.

    The queue holds the next ones of a pass, as many as a curriculum.
    """

    descending: ClassVar[bool] = False

    def __init__(self, context: StrategyContext, *, column: str | None = None) -> None:
        super().__init__(context, column=column)
        # Prompts that this pass has not drawn yet.
        self._left: NDArray[np.bool_] = np.ones(len(self.pool), dtype=bool)

    def _plan(self, n: int) -> IndexArray:
        """What comes next of this pass: at least `n` prompts, or all that are left."""
        difficulty = self.buffer.filled()
        return highest(difficulty if self.descending else -difficulty, max(self.size, n), self.rng, self._left)

    def renew(self, step: int) -> None:
        self.queue = self._plan(0)

    def select(self, n: int) -> IndexArray:
        if len(self.queue) < n:
            self.queue = self._plan(n)
        batch = self.take(n)
        self._left[batch] = False
        if len(batch) < n:  # the next pass begins within this batch, which holds no prompt twice
            self._left[:] = True
            self._left[batch] = False
            following = self._plan(n)[: n - len(batch)]
            self._left[batch] = True
            self._left[following] = False
            batch = np.concatenate([batch, following])
        return batch

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"left": self._left.copy()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._left = column(state, "left", self.pool, np.bool_, True)


class HardToEasy(EasyToHard):
    """Passes over the pool from the hardest prompt to the easiest."""

    descending = True


class Perplexity(EasyToHard):
    """From the lowest to the highest perplexity of the reference answer under the policy before training."""

    estimator = "perplexity"


class Length(EasyToHard):
    """From the shortest to the longest prompt, in tokens."""

    default_column = "prompt_length"


class BabyStep(ByDifficulty):
    """Stages of growing difficulty: stage i trains on the easiest i of `stages` equal subsets (Bengio et al. 2009).

    Within a stage, passes over its prompts are shuffled. The last stage lasts until training ends.

    Args:
        stages (`int`, *optional*, defaults to `4`):
            Subsets the pool is cut into, of equal size up to one prompt.
        stage_batches (`int`, *optional*):
            Batches of prompts a stage lasts.
        stage_passes (`int`, *optional*):
            Passes over its prompts a stage lasts instead; 1 where nothing else ends a stage.
        patience (`int`, *optional*):
            Evaluations in a row without a new lowest validation loss of the stage, after which it ends. With
            `stage_batches` or `stage_passes` it ends at whichever comes first.
        column (`str`, *optional*):
            As of `easy_to_hard`.
    """

    def __init__(
        self,
        context: StrategyContext,
        *,
        column: str | None = None,
        stages: int = 4,
        stage_batches: int | None = None,
        stage_passes: int | None = None,
        patience: int | None = None,
    ) -> None:
        super().__init__(context, column=column)
        if not 1 <= stages <= len(self.pool):
            raise ConfigurationError(f"stages must be between 1 and the {len(self.pool)} prompts; got {stages}.")
        for name, value in (("stage_batches", stage_batches), ("stage_passes", stage_passes), ("patience", patience)):
            if value is not None and value < 1:
                raise ConfigurationError(f"{name} must be at least 1; got {value}.")
        if stage_batches is not None and stage_passes is not None:
            raise ConfigurationError("stage_batches and stage_passes both say how long a stage lasts: give one.")
        self.stages = stages
        self.stage_batches = stage_batches
        self.stage_passes = 1 if stage_passes is None and stage_batches is None and patience is None else stage_passes
        self.patience = patience
        self.needs_validation = patience is not None
        self.stage = 1
        self._batches = 0
        self._lowest: float | None = None
        self._without_gain = 0

    def _size(self, stage: int, n: int) -> int:
        """Prompts of a stage, which a batch of `n` fits into."""
        return max(round(len(self.pool) * stage / self.stages), n)

    def _prompts(self, stage: int, n: int) -> IndexArray:
        """The prompts of a stage, in any order: of equal ones the first in the data set."""
        return lowest_set(self.buffer.filled(), self._size(stage, n))

    def _most_batches(self, stage: int, n: int) -> int | None:
        """Batches of `n` prompts after which a stage ends at the latest; `None` where only validation ends it."""
        if self.stage_batches is not None:
            return self.stage_batches
        if self.stage_passes is None:
            return None
        return self.stage_passes * (self._size(stage, n) // n)

    def ends_pass(self, batch_size: int) -> bool:
        most = self._most_batches(self.stage, batch_size)
        return len(self.queue) < batch_size or (most is not None and self._batches >= most)

    def stage_lengths(self, batch_size: int) -> list[int | None]:
        known = self.patience is None
        return [self._most_batches(i, batch_size) if known else None for i in range(1, self.stages + 1)]

    def select(self, n: int) -> IndexArray:
        most = self._most_batches(self.stage, n)
        used_up = most is not None and self._batches >= most
        given_up = self.patience is not None and self._without_gain >= self.patience
        if (used_up or given_up) and self.stage < self.stages:
            self.stage += 1
            self._batches = 0
            self.queue = self.queue[:0]
            self._lowest, self._without_gain = None, 0
        if len(self.queue) < n:
            self.queue = self.rng.permutation(self._prompts(self.stage, n))
        self._batches += 1
        return self.take(n)

    def validate(self, loss: float) -> None:
        if self.patience is None:
            return
        if np.isfinite(loss) and (self._lowest is None or loss < self._lowest):
            self._lowest, self._without_gain = loss, 0
        else:
            self._without_gain = min(self._without_gain + 1, self.patience)

    def progress(self) -> float:
        return (self.stage - 1) / max(self.stages - 1, 1)

    def metrics(self) -> dict[str, float]:
        return super().metrics() | {"stage": float(self.stage)}

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {
            "stage": self.stage,
            "batches": self._batches,
            "lowest": self._lowest,
            "without_gain": self._without_gain,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.stage = whole(state, "stage", 1, self.stages)
        self._batches = whole(state, "batches", most=int(self.pool.visits.sum()))
        self._lowest = None if entry(state, "lowest") is None else number(state, "lowest")
        if self._lowest is not None and self.patience is None:
            raise StateError(("lowest",), f"must be null without patience; got {self._lowest}")
        self._without_gain = whole(state, "without_gain", most=self.patience or 0)


class POCL(BabyStep):
    """Baby step over the column `difficulty`, which a distillation trainer measures (POCL, arXiv 2506.05695).

    As in its code (liuliuyuan6/POCL, tools/rank.py), prompts that no equal subsets can be made of are the last's.
    """

    default_column = "difficulty"
    # t0.sh to t3.sh there: over the stages the temperature rises from 1 to 2, the weight of the divergence from 0.7.
    trainer_defaults: ClassVar[Mapping[str, Any]] = {
        "final_distillation_temperature": 2.0,
        "distillation_weight": 0.7,
        "final_distillation_weight": 1.0,
    }

    def _size(self, stage: int, n: int) -> int:
        return len(self.pool) if stage == self.stages else max(len(self.pool) // self.stages * stage, n)
