"""Strategies whose order is fixed before training: random, easy to hard, hard to easy, and by stages."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import ConfigurationError
from .buffer import PriorityBuffer
from .pool import IndexArray, Pool
from .strategy import Outcome, Strategy


class Random(Strategy):
    """Passes over the shuffled pool, one after the other: what TRL does without a curriculum.

    As in TRL's sampler, prompts that do not fill the last batch of a pass are left for the next one.
    """

    def __init__(self, pool: Pool, *, size: int, seed: int, half_life: float | None = None) -> None:
        super().__init__(pool, size=size, seed=seed, half_life=half_life)
        self._epoch = 0
        self._remaining = np.asarray(pool.order(0))

    def select(self, n: int) -> IndexArray:
        if len(self._remaining) < n:
            self._epoch += 1
            self._remaining = np.asarray(self.pool.order(self._epoch))
        batch, self._remaining = self._remaining[:n], self._remaining[n:]
        return batch

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"epoch": self._epoch, "remaining": self.pool.ids_of(self._remaining)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._epoch = state["epoch"]
        self._remaining = self.pool.indices_of(state["remaining"])


class ByDifficulty(Strategy):
    """Base of strategies that know how difficult each prompt is.

    Args:
        column (`str`, *optional*):
            A numeric column, larger where a prompt is harder, or `prompt_length` (in tokens). By default prompts are
            scored before training, at most `candidates` at each renewal, and keep that score.
    """

    default_column: str | None = None

    def __init__(
        self, pool: Pool, *, size: int, seed: int, half_life: float | None = None, column: str | None = None
    ) -> None:
        super().__init__(pool, size=size, seed=seed, half_life=half_life)
        self.column = column or self.default_column
        self.buffer = PriorityBuffer(pool)
        if self.column is not None:
            for index, value in enumerate(pool.column(self.column)):
                self.buffer.update(index, value, 0)

    def wants(self, budget: int) -> IndexArray:
        unscored = np.flatnonzero(~self.buffer.known)
        return np.sort(self.rng.permutation(unscored)[:budget])

    def difficulty_order(self) -> IndexArray:
        """All prompts from easy to hard; ties, and unscored ones as average, in the order of the data set."""
        known = self.buffer.known
        average = self.buffer.scores[known].mean() if known.any() else 0.0
        values = np.where(known, self.buffer.scores, average)
        return np.argsort(values, kind="stable")

    def observe(self, outcomes: Sequence[Outcome]) -> None:
        for outcome in outcomes:
            if outcome.score is not None and not self.buffer.known[outcome.index]:
                self.buffer.update(outcome.index, outcome.score, outcome.version)

    def metrics(self) -> dict[str, float]:
        known = self.buffer.known
        if not known.any():
            return {}
        low, median, high = np.quantile(self.buffer.scores[known], (0.1, 0.5, 0.9))
        return {"difficulty_p10": float(low), "difficulty_p50": float(median), "difficulty_p90": float(high)}

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"difficulty": self.buffer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.buffer.load_state_dict(state["difficulty"])


class EasyToHard(ByDifficulty):
    """Passes over the pool in the order of difficulty, ties at random; unscored prompts count as average."""

    descending = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._left = np.ones(len(self.pool), dtype=bool)
        self._order: IndexArray = np.empty(0, dtype=np.int64)
        self._form()

    def _form(self) -> None:
        order = self.buffer.order(0, self.rng)
        if not self.descending:
            order = order[::-1]
        self._order = order[self._left[order]]

    def renew(self, step: int) -> None:
        if self.column is None:
            self._form()

    def select(self, n: int) -> IndexArray:
        batch, self._order = self._order[:n], self._order[n:]
        self._left[batch] = False
        if len(batch) < n:  # the next pass begins within this batch
            self._left[:] = True
            self._form()
            following = self._order[~np.isin(self._order, batch)][: n - len(batch)]
            self._order = self._order[~np.isin(self._order, following)]
            self._left[following] = False
            batch = np.concatenate([batch, following])
        return batch

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"order": self.pool.ids_of(self._order)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._order = self.pool.indices_of(state["order"])
        self._left[:] = False
        self._left[self._order] = True


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
        *args: Any,
        stages: int = 4,
        stage_batches: int | None = None,
        stage_passes: int | None = None,
        patience: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
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
        self._queue: IndexArray = np.empty(0, dtype=np.int64)
        self._lowest = np.inf
        self._without_gain = 0

    def subset(self, n: int) -> IndexArray:
        """Prompts of the current stage, but at least the `n` easiest, ascending in difficulty."""
        return self.difficulty_order()[: max(self._end(self.stage), n)]

    def _end(self, stage: int) -> int:
        return round(len(self.pool) * stage / self.stages)

    def stage_length(self, stage: int, n: int) -> int | None:
        """Most batches of `n` prompts that a stage lasts; `None` where only validation ends it."""
        if self.stage_batches is not None:
            return self.stage_batches
        if self.stage_passes is None:
            return None
        return self.stage_passes * max(max(self._end(stage), n) // n, 1)

    def select(self, n: int) -> IndexArray:
        length = self.stage_length(self.stage, n)
        used_up = length is not None and self._batches >= length
        given_up = self.patience is not None and self._without_gain >= self.patience
        if (used_up or given_up) and self.stage < self.stages:
            self.stage += 1
            self._batches = 0
            self._queue = self._queue[:0]
            self._lowest, self._without_gain = np.inf, 0
        if len(self._queue) < n:
            self._queue = self.rng.permutation(self.subset(n))
        self._batches += 1
        batch, self._queue = self._queue[:n], self._queue[n:]
        return batch

    def validate(self, loss: float) -> None:
        if loss < self._lowest:
            self._lowest, self._without_gain = float(loss), 0
        else:
            self._without_gain += 1

    def progress(self) -> float:
        return (self.stage - 1) / max(self.stages - 1, 1)

    def metrics(self) -> dict[str, float]:
        return super().metrics() | {"stage": float(self.stage)}

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {
            "stage": self.stage,
            "batches": self._batches,
            "queue": self.pool.ids_of(self._queue),
            "lowest": None if np.isinf(self._lowest) else self._lowest,
            "without_gain": self._without_gain,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.stage, self._batches = state["stage"], state["batches"]
        self._queue = self.pool.indices_of(state["queue"])
        self._lowest = np.inf if state["lowest"] is None else state["lowest"]
        self._without_gain = state["without_gain"]


class POCL(BabyStep):
    """Baby step over the column `difficulty`, which a distillation trainer measures (POCL, arXiv 2506.05695)."""

    default_column = "difficulty"
