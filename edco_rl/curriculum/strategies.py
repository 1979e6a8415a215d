"""The strategies of the package, and the registry they are found in."""

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..config import ConfigurationError
from .buffer import PriorityBuffer
from .pool import IndexArray, Pool
from .strategy import Outcome, Strategy


class Random(Strategy):
    """Passes over the shuffled pool, one after the other: what TRL does without a curriculum.

    As in TRL's sampler, prompts that do not fill the last batch of a pass are left for the next one.
    """

    def __init__(self, pool: Pool, *, size: int, seed: int) -> None:
        super().__init__(pool, size=size, seed=seed)
        self._epoch = 0
        self._position = 0
        self._order = pool.order(0)

    def select(self, n: int) -> IndexArray:
        if self._position + n > len(self.pool):
            self._epoch += 1
            self._position = 0
            self._order = self.pool.order(self._epoch)
        self._position += n
        return np.asarray(self._order[self._position - n : self._position])

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"epoch": self._epoch, "position": self._position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._epoch, self._position = state["epoch"], state["position"]
        self._order = self.pool.order(self._epoch)


class EDCO(Strategy):
    """The prompts of highest inference entropy under the current policy (EDCO, arXiv 2601.03725).

    Each renewal takes the `size` prompts that rank first in a priority buffer. They are trained on in that order;
    where an interval needs more, further passes over the same prompts are shuffled. A batch never holds one prompt
    twice.
    """

    def __init__(self, pool: Pool, *, size: int, seed: int) -> None:
        super().__init__(pool, size=size, seed=seed)
        self.buffer = PriorityBuffer(pool)
        self.curriculum: IndexArray = np.empty(0, dtype=np.int64)
        self._queue: list[int] = []

    def wants(self, budget: int) -> IndexArray:
        if budget >= len(self.pool):
            return np.arange(len(self.pool))
        return np.sort(self.rng.choice(len(self.pool), size=budget, replace=False))

    def observe(self, outcomes: Sequence[Outcome]) -> None:
        for outcome in outcomes:
            if outcome.score is not None:
                self.buffer.update(outcome.index, outcome.score, outcome.version)

    def renew(self) -> None:
        self.curriculum = self.buffer.top(self.size, self.rng)
        self._queue = self.curriculum.tolist()

    def select(self, n: int) -> IndexArray:
        batch = self._queue[:n]
        self._queue = self._queue[n:]
        while len(batch) < n:
            # Prompts this batch already holds wait until the end of the next pass.
            following = self.rng.permutation(self.curriculum).tolist()
            following.sort(key=lambda index: index in batch)
            missing = n - len(batch)
            batch, self._queue = batch + following[:missing], following[missing:]
        return np.array(batch, dtype=np.int64)

    def metrics(self) -> dict[str, float]:
        scores = self.buffer.scores[self.curriculum]
        scores = scores[np.isfinite(scores)]
        if not len(scores):
            return {}
        known = self.buffer.scores[np.isfinite(self.buffer.scores)]
        return {"entropy": float(scores.mean()), "entropy_pool": float(known.mean())}

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {
            "scores": self.buffer.state_dict(),
            "curriculum": [self.pool.ids[i] for i in self.curriculum],
            "queue": [self.pool.ids[i] for i in self._queue],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.buffer.load_state_dict(state["scores"])
        self.curriculum = np.array([self.pool.index[i] for i in state["curriculum"]], dtype=np.int64)
        self._queue = [self.pool.index[i] for i in state["queue"]]


_STRATEGIES: dict[str, type[Strategy]] = {"edco": EDCO, "random": Random}


def available_strategies() -> list[str]:
    """Names of the strategies of the package."""
    return sorted(_STRATEGIES)


def strategy_class(name: str) -> type[Strategy]:
    """The strategy of that name, or a user's own by its import path.

    Args:
        name (`str`):
            A name of [`available_strategies`], `package.module:Class` or `package.module.Class`.

    Raises:
        ConfigurationError: There is no such strategy, or it is not a [`Strategy`].
    """
    if name in _STRATEGIES:
        return _STRATEGIES[name]
    module_name, _, attribute = name.replace(":", ".").rpartition(".")
    if not module_name:
        raise ConfigurationError(
            f"Unknown strategy {name!r}. Available: {', '.join(available_strategies())}, or the import path of your "
            "own class, as package.module:Class."
        )
    try:
        found = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(f"Cannot import strategy {name!r}: {error}.") from error
    if not (isinstance(found, type) and issubclass(found, Strategy)):
        raise ConfigurationError(f"strategy {name!r} is not a subclass of edco_rl.curriculum.Strategy.")
    return found
