"""The interface of a curriculum strategy: it decides which prompts come next, and which should be scored."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigurationError
from .buffer import PriorityBuffer
from .choosing import any_but
from .outcomes import Outcomes
from .pool import FloatArray, IndexArray, Pool
from .pool_state import positions
from .state import restore_generator


@dataclass(frozen=True)
class StrategyContext:
    """What a run gives to every strategy, and a strategy to its signals; the rest are settings of their own.

    Args:
        pool (`Pool`):
            The prompts.
        size (`int`):
            Prompts in a curriculum (`curriculum_size`).
        seed (`int`):
            Seed of the strategy's random generator, the same on every rank.
        half_life (`float`, *optional*):
            Optimizer steps after which what is known of a prompt counts half (`curriculum_half_life`); by default it
            does not fade.
    """

    pool: Pool
    size: int
    seed: int
    half_life: float | None = None
    scores: PriorityBuffer = field(init=False)
    """The estimator's latest score of each prompt, which the curriculum keeps."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "scores", PriorityBuffer(self.pool))


def success_rates(rewards: Sequence[float], success_at: float | None) -> Sequence[float]:
    """1 for each reward that reaches `success_at` and 0 for the others; the rewards themselves where it is `None`."""
    return rewards if success_at is None else [float(reward >= success_at) for reward in rewards]


def successes_and_failures(groups: Outcomes, success_at: float | None, pool: Pool, name: str) -> FloatArray:
    """How many completions of each group came out well, and how many badly, in parts too, shape (G, 2).

    Args:
        groups ([`Outcomes`]):
            Groups with rewards.
        success_at (`float`, *optional*):
            As of [`success_rates`].
        pool (`Pool`):
            The prompts, for the message.
        name (`str`):
            What needs them, for the message.

    Raises:
        ConfigurationError: A reward is not between 0 and 1, and `success_at` does not say what a success is.
    """
    rates = groups.rewards if success_at is None else (groups.rewards >= success_at).astype(np.float64)
    wrong = np.flatnonzero((rates < 0) | (rates > 1))
    if len(wrong):
        row = int(np.searchsorted(np.cumsum(groups.sizes), wrong[0], side="right"))
        [outcome] = groups.take(np.array([row]))
        raise ConfigurationError(
            f"{name} needs rewards between 0 and 1; prompt {pool.ids[outcome.index]!r} got "
            f"{list(outcome.rewards or ())}. success_at says from which reward on an answer is right."
        )
    good = groups.sums(rates)
    return np.column_stack([good, groups.sizes - good])


class Strategy(ABC):
    """Base class of strategies. Every method but [`~Strategy.select`] has a default that does nothing.

    Every `curriculum_interval` optimizer steps a strategy is asked what it [`~Strategy.wants`], given the scores to
    [`~Strategy.observe`], and told to [`~Strategy.renew`] its curriculum. For each batch it must [`~Strategy.select`]
    prompts, and may [`~Strategy.observe`] what their rollouts said. It is the same on every rank: it sees the same
    observations, and draws from its own seeded generator only.

    A strategy's own settings (`strategy_kwargs`) are keyword arguments after the context, each named in its
    constructor, so that a wrong one is found before the constructor runs.

    Args:
        context ([`StrategyContext`]):
            What the run gives; its fields but the seed are attributes of the strategy.

    Attributes:
        rng (`np.random.Generator`): The strategy's own, from the seed of the run.
        queue (`IndexArray`): Prompts that are planned already, each once; empty until the strategy fills it, and kept
            over restarts.

    Example:

    ```python
    >>> class FewestVisits(Strategy):
    ...     def __init__(self, context, *, slack=0):
    ...         super().__init__(context)
    ...         self.slack = slack
    ...
    ...     def select(self, n):
    ...         visits = self.pool.visits + self.rng.integers(0, self.slack + 1, len(self.pool))
    ...         return np.argsort(visits, kind="stable")[:n]
    ```
    """

    estimator: ClassVar[str | None] = None
    """Name of the estimator whose scores the strategy needs; `None` takes the configured one."""

    reference_estimator: str | None = None
    """Name of the estimator it takes instead where rows have short reference answers."""

    trainer_defaults: ClassVar[Mapping[str, Any]] = {}
    """Settings of the trainer that the strategy's method comes with, by field; those a user gives come before them."""

    needs_validation: bool = False
    """Whether the strategy has to be told how validation goes: a run without evaluations is refused."""

    needs_hidden_states: bool = False
    """Whether the strategy asks for hidden states of the policy: a run whose policy gives none is refused."""

    def __init__(self, context: StrategyContext) -> None:
        self.pool = context.pool
        self.size = context.size
        self.half_life = context.half_life
        self.rng = np.random.default_rng(context.seed)
        self.queue: IndexArray = np.empty(0, dtype=np.int64)

    @abstractmethod
    def select(self, n: int) -> IndexArray:
        """The next `n` prompts to train on, as indices into the pool, each at most once.

        Never called with `n` above the size of the pool. Prompts drawn `curriculum_max_visits` times already, or
        in quarantine, are replaced.
        """

    def take(self, n: int) -> IndexArray:
        """The first `n` prompts of the queue, or fewer where it holds no more; they leave it."""
        taken, self.queue = self.queue[:n], self.queue[n:]
        return taken

    def any_prompts(self, n: int) -> IndexArray:
        """`n` prompts of the pool at random, or all where it has no more, in the pool's order."""
        if n >= len(self.pool):
            return np.arange(len(self.pool))
        return np.sort(any_but(np.empty(0, dtype=np.int64), len(self.pool), n, self.rng))

    def wants(self, budget: int) -> IndexArray:
        """At most `budget` prompts the strategy would like scored next. None by default: scoring is skipped."""
        return np.empty(0, dtype=np.int64)

    def observe(self, outcomes: Outcomes) -> None:  # noqa: B027 (learning nothing is a valid strategy)
        """Learn what scoring or rollouts said about prompts, those of groups that no gate admitted among them.

        Args:
            outcomes ([`Outcomes`]):
                Columns; iterated over, an [`Outcome`] each.
        """

    def validate(self, loss: float) -> None:  # noqa: B027
        """Learn the loss on the validation set, each time it was evaluated."""

    def wants_hidden_states(self, scored: IndexArray) -> IndexArray:
        """Prompts whose hidden states the strategy would like, once those wanted were scored. None by default.

        Args:
            scored (`NDArray[np.int64]`):
                The prompts that were scored for this renewal, ascending.
        """
        return np.empty(0, dtype=np.int64)

    def observe_hidden_states(self, prompts: IndexArray, states: NDArray[np.float32]) -> None:  # noqa: B027
        """Learn the policy's last hidden state at the last token of prompts, shape (len(prompts), H)."""

    def progress(self) -> float | None:
        """How far along its stages the last batch was, 0 in the first and 1 in the last; `None` without stages."""
        return None

    def ends_pass(self, batch_size: int) -> bool:
        """Whether the last batch, of `batch_size` prompts, was the last of a pass over those of its stage, or of it.

        The weights of a stage that the next one can start from are those after such batches.
        """
        return False

    def stage_lengths(self, batch_size: int) -> list[int | None] | None:
        """Batches that each stage lasts, `None` for one that validation ends; `None` alone without stages.

        A learning-rate schedule for each stage (`lr_schedule_per_stage`) is made from it. The last stage goes on until
        training ends, whatever its entry.

        Args:
            batch_size (`int`):
                Prompts in a batch.
        """
        return None

    def renew(self, step: int) -> None:  # noqa: B027
        """Form the curriculum that begins at optimizer step `step`. Called once wanted scores were observed."""

    def outlook(self, n: int, group_size: int) -> tuple[float, float] | None:
        """Shares of groups whose rewards are expected to differ, with the next `n` prompts and in random order.

        `None` where the strategy expects nothing.
        """
        return None

    def metrics(self) -> dict[str, float]:
        """Numbers to log, without prefix."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Everything a restart needs, as plain values and NumPy arrays, which are not changed any more.

        Prompts are kept by id, or by position: the pool says where they are when the state is restored, of a list of
        prompts by `self.pool.moved(...)`, and of an array with a value for each prompt by `self.pool.restored(...)`.
        """
        return {"rng": self.rng.bit_generator.state, "queue": np.asarray(self.queue, dtype=np.int64)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what [`~Strategy.state_dict`] returned."""
        restore_generator(state, "rng", self.rng)
        self.queue = positions(state, "queue", self.pool)


def quantile_metrics(name: str, values: FloatArray) -> dict[str, float]:
    """The quantiles of 10, 50 and 90 % of values, to log as `name_p10`, `name_p50` and `name_p90`."""
    names = (f"{name}_p10", f"{name}_p50", f"{name}_p90")
    return dict(zip(names, np.quantile(values, (0.1, 0.5, 0.9)).tolist(), strict=True))
