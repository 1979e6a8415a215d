"""The curriculum: a strategy over a pool, checked at each step, with visits counted and state that survives."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..config import ConfigurationError
from .pool import IndexArray, Pool
from .strategies import strategy_class
from .strategy import Outcome, Strategy

_FORMAT = 1


class Curriculum:
    """Draws batches of prompts.

    Args:
        pool (`Pool`):
            The prompts.
        strategy (`str`):
            Name or import path of the strategy.
        batch_size (`int`):
            Different prompts in a generation batch.
        size (`int`):
            Prompts in a curriculum.
        seed (`int`, *optional*, defaults to `0`):
            The same seed and observations give the same batches.
        strategy_kwargs (`dict`, *optional*):
            Further arguments of the strategy.

    Raises:
        ConfigurationError: The strategy is unknown, or pool or size are smaller than a batch.
    """

    def __init__(
        self,
        pool: Pool,
        strategy: str,
        *,
        batch_size: int,
        size: int,
        seed: int = 0,
        strategy_kwargs: dict[str, Any] | None = None,
    ) -> None:
        if len(pool) < batch_size:
            raise ConfigurationError(
                f"The data set has {len(pool)} prompts, but a generation batch takes {batch_size}."
            )
        if size < batch_size:
            raise ConfigurationError(
                f"size is {size}, but a generation batch takes {batch_size} different prompts; size must be at least "
                "that."
            )
        self.pool = pool
        self.batch_size = batch_size
        self.name = strategy
        try:
            self.strategy: Strategy = strategy_class(strategy)(pool, size=size, seed=seed, **(strategy_kwargs or {}))
        except TypeError as error:
            raise ConfigurationError(
                f"strategy {strategy!r} with strategy_kwargs {strategy_kwargs}: {error}."
            ) from error
        self.visits: NDArray[np.int64] = np.zeros(len(pool), dtype=np.int64)
        self.batch: IndexArray = np.empty(0, dtype=np.int64)
        self.renewed_at: int | None = None

    def next_batch(self) -> IndexArray:
        """The next `batch_size` prompts, as indices into the pool.

        Raises:
            ValueError: The strategy selected too few prompts, the same one twice, or one outside the pool.
        """
        batch = np.asarray(self.strategy.select(self.batch_size))
        if batch.shape != (self.batch_size,) or not np.issubdtype(batch.dtype, np.integer):
            raise ValueError(
                f"strategy {self.name!r} must select {self.batch_size} indices; got shape {batch.shape} of type "
                f"{batch.dtype}."
            )
        if len(np.unique(batch)) < self.batch_size or batch.min() < 0 or batch.max() >= len(self.pool):
            raise ValueError(
                f"strategy {self.name!r} must select different prompts between 0 and {len(self.pool) - 1}; got "
                f"{batch.tolist()}."
            )
        self.visits[batch] += 1
        self.batch = batch.astype(np.int64)
        return self.batch

    def wants(self, budget: int | None) -> IndexArray:
        """Prompts the strategy would like scored, at most `budget`; the whole pool where that is `None`."""
        return self.strategy.wants(len(self.pool) if budget is None else min(budget, len(self.pool)))

    def observe(self, outcomes: Sequence[Outcome]) -> None:
        """Pass on what became known; the order of outcomes within a call does not matter."""
        self.strategy.observe(sorted(outcomes, key=lambda outcome: outcome.index))

    def renew(self, step: int) -> None:
        """Let the strategy form the curriculum that begins at optimizer step `step`."""
        self.strategy.renew()
        self.renewed_at = step

    def metrics(self) -> dict[str, float]:
        """Numbers to log: the strategy's, and the share of the pool trained on so far."""
        return {**self.strategy.metrics(), "visited": float((self.visits > 0).mean())}

    def prompts_used(self) -> int:
        """Different prompts drawn so far."""
        return int((self.visits > 0).sum())

    def state_dict(self) -> dict[str, Any]:
        """The whole state, as plain values, by prompt id."""
        return {
            "format": _FORMAT,
            "strategy": self.name,
            "batch_size": self.batch_size,
            "renewed_at": self.renewed_at,
            "visits": {self.pool.ids[i]: int(self.visits[i]) for i in np.flatnonzero(self.visits)},
            "strategy_state": self.strategy.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what [`~Curriculum.state_dict`] returned. Prompts that were added since are new to the curriculum.

        Raises:
            ConfigurationError: The state is of another format, strategy, batch size or data set; the message names the
                difference.
        """
        for key, expected in (("format", _FORMAT), ("strategy", self.name), ("batch_size", self.batch_size)):
            if state.get(key) != expected:
                raise ConfigurationError(
                    f"The checkpoint's curriculum has {key} {state.get(key)!r}, this run has {expected!r}."
                )
        missing = [prompt_id for prompt_id in state["visits"] if prompt_id not in self.pool.index]
        if missing:
            raise ConfigurationError(
                f"The checkpoint's curriculum trained on {len(missing)} prompts that are not in this data set, the "
                f"first with id {missing[0]!r}. Resume with the data set it was made with."
            )
        for prompt_id, visits in state["visits"].items():
            self.visits[self.pool.index[prompt_id]] = visits
        self.renewed_at = state["renewed_at"]
        self.strategy.load_state_dict(state["strategy_state"])
