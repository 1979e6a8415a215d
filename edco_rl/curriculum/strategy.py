"""The interface of a curriculum strategy: it decides which prompts come next, and which should be scored."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .pool import IndexArray, Pool


@dataclass(frozen=True)
class Outcome:
    """What became known about one prompt. A field that was not observed is `None`.

    Args:
        index (`int`):
            The prompt's position in the pool.
        version (`int`):
            Optimizer step of the weights that were observed.
        score (`float`, *optional*):
            The estimator's score, in nats.
        entropy (`float`, *optional*):
            Entropy of the rollouts the prompt was trained on, in nats.
        rewards (`tuple[float, ...]`, *optional*):
            Rewards of the group.
    """

    index: int
    version: int
    score: float | None = None
    entropy: float | None = None
    rewards: tuple[float, ...] | None = None


class Strategy(ABC):
    """Base class of strategies. Every method but [`~Strategy.select`] has a default that does nothing.

    Every `interval` optimizer steps a strategy is asked what it [`~Strategy.wants`], given the scores to
    [`~Strategy.observe`], and told to [`~Strategy.renew`] its curriculum. For each batch it must [`~Strategy.select`]
    prompts, and may [`~Strategy.observe`] what their rollouts said. It is the same on every rank: it sees the same
    observations, and draws from its own seeded generator only.

    Args:
        pool (`Pool`):
            The prompts.
        size (`int`):
            Prompts in a curriculum.
        seed (`int`):
            Seed of the strategy's random generator.

    Example:

    ```python
    >>> class Shortest(Strategy):
    ...     @abstractmethod
    def select(self, n):
    ...         return np.argsort([len(prompt_id) for prompt_id in self.pool.ids], kind="stable")[:n]
    ```
    """

    def __init__(self, pool: Pool, *, size: int, seed: int) -> None:
        self.pool = pool
        self.size = size
        self.rng = np.random.default_rng(seed)

    @abstractmethod
    def select(self, n: int) -> IndexArray:
        """The next `n` prompts to train on, as indices into the pool, each at most once.

        Never called with `n` above the size of the pool.
        """

    def wants(self, budget: int) -> IndexArray:
        """At most `budget` prompts the strategy would like scored next. None by default: scoring is skipped."""
        return np.empty(0, dtype=np.int64)

    def observe(self, outcomes: Sequence[Outcome]) -> None:  # noqa: B027 (learning nothing is a valid strategy)
        """Learn what scoring or rollouts said about prompts."""

    def renew(self) -> None:  # noqa: B027
        """Form the next curriculum. Called every `interval` optimizer steps, once wanted scores were observed."""

    def metrics(self) -> dict[str, float]:
        """Numbers to log, without prefix."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Everything a restart needs, as plain values and NumPy arrays; prompts by id, not by index."""
        return {"rng": self.rng.bit_generator.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what [`~Strategy.state_dict`] returned."""
        self.rng.bit_generator.state = state["rng"]
