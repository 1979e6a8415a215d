"""The interface of a curriculum strategy: it decides which prompts come next, and which should be scored."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

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
            Rewards of the group. Without rollouts (supervised fine-tuning), one number: the share of the reference's
            tokens that the model ranks first.
        truncated (`tuple[bool, ...]`, *optional*):
            Which completions of the group the token limit cut off.
        admitted (`bool`, *optional*, defaults to `True`):
            Whether the gates let the group into the optimizer's batch.
    """

    index: int
    version: int
    score: float | None = None
    entropy: float | None = None
    rewards: tuple[float, ...] | None = None
    truncated: tuple[bool, ...] | None = None
    admitted: bool = True


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
        half_life (`float`, *optional*):
            Optimizer steps after which what is known of a prompt counts half; by default it does not fade.

    Example:

    ```python
    >>> class FewestVisits(Strategy):
    ...     def select(self, n):
    ...         return np.argsort(self.pool.visits, kind="stable")[:n]
    ```
    """

    estimator: ClassVar[str | None] = None
    """Name of the estimator whose scores the strategy needs; `None` takes the configured one."""

    needs_validation: bool = False
    """Whether the strategy has to be told how validation goes: a run without evaluations is refused."""

    def __init__(self, pool: Pool, *, size: int, seed: int, half_life: float | None = None) -> None:
        self.pool = pool
        self.size = size
        self.half_life = half_life
        self.rng = np.random.default_rng(seed)

    @abstractmethod
    def select(self, n: int) -> IndexArray:
        """The next `n` prompts to train on, as indices into the pool, each at most once.

        Never called with `n` above the size of the pool. Prompts drawn more than `max_visits` times are replaced.
        """

    def any_prompts(self, n: int) -> IndexArray:
        """`n` prompts of the pool at random, or all where it has no more, in the pool's order."""
        if n >= len(self.pool):
            return np.arange(len(self.pool))
        return np.sort(self.rng.choice(len(self.pool), size=n, replace=False))

    def wants(self, budget: int) -> IndexArray:
        """At most `budget` prompts the strategy would like scored next. None by default: scoring is skipped."""
        return np.empty(0, dtype=np.int64)

    def observe(self, outcomes: Sequence[Outcome]) -> None:  # noqa: B027 (learning nothing is a valid strategy)
        """Learn what scoring or rollouts said about prompts, those of groups that no gate admitted among them."""

    def validate(self, loss: float) -> None:  # noqa: B027
        """Learn the loss on the validation set, each time it was evaluated."""

    def progress(self) -> float | None:
        """How far along its stages the last batch was, 0 in the first and 1 in the last; `None` without stages."""
        return None

    def renew(self, step: int) -> None:  # noqa: B027
        """Form the curriculum that begins at optimizer step `step`. Called once wanted scores were observed."""

    def metrics(self) -> dict[str, float]:
        """Numbers to log, without prefix."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Everything a restart needs, as plain values and NumPy arrays; prompts by id, not by index."""
        return {"rng": self.rng.bit_generator.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what [`~Strategy.state_dict`] returned."""
        self.rng.bit_generator.state = state["rng"]
