"""The curriculum: a strategy over a pool, checked at each step, with visits counted and state that survives."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigurationError
from .choosing import any_but
from .orders import Random
from .outcomes import Outcome, Outcomes
from .pool import IndexArray, Pool
from .pool_state import drawn_prompts
from .quarantine import Quarantine
from .registry import STRATEGIES
from .signal_watch import SignalWatch
from .state import (
    CARRIED_OVER,
    StateError,
    changed_settings,
    digest,
    entry,
    flag,
    number,
    restore_generator,
    step_number,
    within,
)
from .strategy import Strategy, StrategyContext
from .visits import Visits

_FORMAT = 8
# How much is drawn at a time: from where a run resumes on, it may be something else.
_MAY_CHANGE = ("batch_size", "curriculum_size")


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
        strategy_kwargs (`Mapping[str, Any]`, *optional*):
            The strategy's own settings.
        exploration (`float`, *optional*, defaults to `0.0`):
            Share of the prompts that is drawn from the whole pool at random, 0 to 1.
        half_life (`float`, *optional*):
            See [`~edco_rl.curriculum.StrategyContext`].
        fallback (`bool`, *optional*):
            Whether random order takes the strategy's place where it falls short of it, see [`SignalWatch`]. By default
            what the strategy's `trainer_defaults` say of `curriculum_fallback`, and `False` where they say nothing.

    Raises:
        ConfigurationError: The strategy is unknown or does not take the settings, or pool or size are smaller than a
            batch.
    """

    def __init__(
        self,
        pool: Pool,
        strategy: str,
        *,
        batch_size: int,
        size: int,
        seed: int = 0,
        strategy_kwargs: Mapping[str, Any] | None = None,
        exploration: float = 0.0,
        half_life: float | None = None,
        fallback: bool | None = None,
    ) -> None:
        if len(pool) < batch_size:
            raise ConfigurationError(
                f"The data set has {len(pool)} prompts, but a generation batch takes {batch_size}."
            )
        if size < batch_size:
            raise ConfigurationError(
                f"curriculum_size is {size}, but a generation batch takes {batch_size} different prompts; it must be "
                "at least that."
            )
        self.pool = pool
        self.quarantine = Quarantine(pool)
        self.visits = Visits(pool)
        self.batch_size = batch_size
        self.exploration = exploration
        self.strategy_name = strategy
        self._context = StrategyContext(pool, size=size, seed=seed, half_life=half_life)
        self.scores = self._context.scores
        self.strategy: Strategy = STRATEGIES.make(strategy, self._context, settings=strategy_kwargs)
        default = bool(self.strategy.trainer_defaults.get("curriculum_fallback", False))
        self.fallback = default if fallback is None else fallback
        self.fell_back = False
        """Whether random order has taken the strategy's place."""
        self.watch = None if isinstance(self.strategy, Random) else SignalWatch(pool, self.scores)
        self.settings = {
            "strategy": strategy,
            "strategy_kwargs": dict(strategy_kwargs or {}),
            "batch_size": batch_size,
            "seed": seed,
            "curriculum_size": size,
            "curriculum_exploration": exploration,
            "curriculum_half_life": half_life,
            "curriculum_max_visits": pool.max_visits,
        }
        self.batch: IndexArray = np.empty(0, dtype=np.int64)
        self.ahead: IndexArray = np.empty(0, dtype=np.int64)
        """The prompts of the generation batch after it, where they are drawn already."""
        self.renewed_at: int | None = None
        self.digest = ""
        """Hash of all that was drawn and observed: two ranks with the same one are in the same state."""
        self._rng = np.random.default_rng((seed, 1))
        self._explored = 0.0

    def next_batch(self) -> IndexArray:
        """The prompts of the next generation batch, as indices into the pool, shape (batch_size,).

        Raises:
            ValueError: The strategy selected too few prompts, the same one twice, or one outside the pool.
            ConfigurationError: Every prompt was drawn as often as `curriculum_max_visits` allows.
        """
        self.batch, self.ahead = self.ahead, np.empty(0, dtype=np.int64)
        return self.batch if len(self.batch) else self.draw(self.batch_size)

    def draw_ahead(self) -> IndexArray:
        """Draw the prompts that [`~Curriculum.next_batch`] then returns, shape (batch_size,).

        Raises:
            ValueError, ConfigurationError: As [`~Curriculum.next_batch`].
        """
        batch, self.batch = self.batch, np.empty(0, dtype=np.int64)
        try:
            self.ahead = self.draw(self.batch_size)
        finally:
            self.batch = batch
        return self.ahead

    def draw(self, n: int) -> IndexArray:
        """`n` more prompts for the current generation batch, none of which it holds already, shape (n,).

        Raises:
            ValueError, ConfigurationError: As [`~Curriculum.next_batch`].
        """
        self._explored += self.exploration * n
        explore = int(self._explored + 1e-9)
        self._explored -= explore
        chosen = self._select(n - explore) if explore < n else self.batch[:0]
        chosen = chosen[self.pool.eligible(chosen) & ~np.isin(chosen, self.batch)]
        others = self._any(n - len(chosen), chosen) if len(chosen) < n else chosen[:0]
        if self.watch is not None:
            self.watch.draw(chosen, at_random=False)
            self.watch.draw(others, at_random=True)
        chosen = np.concatenate([chosen, others])
        self.visits.draw(chosen)
        self.batch = np.concatenate([self.batch, chosen])
        self._digest(chosen.tobytes())
        return chosen

    def _select(self, n: int) -> IndexArray:
        chosen = np.asarray(self.strategy.select(n))
        if chosen.shape != (n,) or not np.issubdtype(chosen.dtype, np.integer):
            raise ValueError(
                f"strategy {self.strategy_name!r} must select {n} indices; got shape {chosen.shape} of type "
                f"{chosen.dtype}."
            )
        if len(np.unique(chosen)) < n or chosen.min() < 0 or chosen.max() >= len(self.pool):
            raise ValueError(
                f"strategy {self.strategy_name!r} must select different prompts between 0 and "
                f"{len(self.pool) - 1}; got {chosen.tolist()}."
            )
        return chosen.astype(np.int64)

    def _any(self, n: int, chosen: IndexArray) -> IndexArray:
        """`n` random prompts that may be drawn and are not in the batch yet."""
        taken = self._taken(chosen)
        free = len(self.pool) - len(taken)
        if free < n:
            raise ConfigurationError(
                f"Every prompt may be drawn curriculum_max_visits = {self.pool.max_visits} times, and of the "
                f"{len(self.pool)} only {free} are left for {n} places. Raise curriculum_max_visits, or train "
                "fewer steps."
                if self.pool.max_visits is not None
                else f"A batch takes more different prompts than the {self.pool.eligible().sum()} that can be drawn."
            )
        return any_but(taken, len(self.pool), n, self._rng)

    def _taken(self, chosen: IndexArray) -> IndexArray:
        """The prompts that cannot be added to the batch and those `chosen`, ascending."""
        held = np.concatenate([self.batch, chosen])
        if self.pool.max_visits is not None or self.pool.quarantined.any():
            held = np.concatenate([held, np.flatnonzero(~self.pool.eligible())])
        return np.unique(held)

    def room(self) -> int:
        """Prompts that can still be added to the current generation batch."""
        return len(self.pool) - len(self._taken(self.batch))

    def wants(self, budget: int | None) -> IndexArray:
        """Prompts the strategy would like scored, at most `budget`; the whole pool where that is `None`."""
        wanted = self.strategy.wants(len(self.pool) if budget is None else min(budget, len(self.pool)))
        return wanted[~self.pool.quarantined[wanted]]

    def observe(self, outcomes: Iterable[Outcome]) -> None:
        """Pass on what became known; the order of outcomes within a call does not matter.

        Args:
            outcomes (`Iterable[Outcome]` or [`Outcomes`]):
                Columns are taken as they are.
        """
        ordered = Outcomes.of(outcomes).sorted()
        self._digest(*ordered.tobytes())
        scored = ~np.isnan(ordered.score)
        if scored.any():
            self.scores.update(ordered.index[scored], ordered.score[scored], ordered.version[scored])
        if self.watch is not None:
            self.watch.observe(ordered)
        self.strategy.observe(ordered)

    def observe_hidden_states(self, prompts: IndexArray, states: NDArray[np.float32]) -> None:
        """Pass on hidden states that the strategy asked for, see [`Strategy`]."""
        self._digest(prompts.tobytes(), states.tobytes())
        self.strategy.observe_hidden_states(prompts, states)

    def validate(self, loss: float) -> None:
        """Pass on the loss on the validation set."""
        self._digest(repr(float(loss)).encode())
        self.strategy.validate(float(loss))

    def renew(self, step: int) -> str | None:
        """Let the strategy form the curriculum that begins at optimizer step `step`.

        Returns:
            `str` or `None`: what is to be told, once: that the strategy falls short of random order.
        """
        notice = None if self.watch is None else self.watch.renew(self.fallback)
        if notice is not None and self.fallback:
            self._fall_back()
        self.strategy.renew(step)
        self.renewed_at = step
        self.visits.renew()
        return notice and f"Optimizer step {step}, strategy {self.strategy_name!r}: {notice}"

    def _fall_back(self) -> None:
        self.strategy, self.watch, self.fell_back = Random(self._context), None, True

    def _digest(self, *event: bytes) -> None:
        hashed = hashlib.sha256(self.digest.encode())
        for part in event:
            hashed.update(part)
        self.digest = hashed.hexdigest()

    def metrics(self) -> dict[str, float]:
        """Numbers to log.

        The strategy's own; those of [`Visits`]; `quarantined`, prompts that are not drawn again; `steps_skipped`,
        optimizer steps left out; those of [`SignalWatch`]; and `fallback`, 1 from where random order has taken the
        strategy's place.
        """
        found = self.strategy.metrics() | self.visits.metrics()
        found |= {"quarantined": len(self.quarantine.entries), "steps_skipped": self.quarantine.skipped}
        if self.watch is not None:
            found |= self.watch.metrics()
        if self.fallback:
            found["fallback"] = float(self.fell_back)
        return found

    def state_dict(self) -> dict[str, Any]:
        """The whole state: plain values and NumPy arrays, prompts by their position among those of `keys`."""
        return {
            "format": _FORMAT,
            "settings": self.settings,
            **self.visits.state_dict(),
            "scores": self.scores.state_dict(),
            "batch": self.batch,
            "ahead": self.ahead,
            "renewed_at": self.renewed_at,
            "digest": self.digest,
            "rng": self._rng.bit_generator.state,
            "explored": self._explored,
            "fell_back": self.fell_back,
            "quarantine": self.quarantine.state_dict(),
            "watch": None if self.watch is None else self.watch.state_dict(),
            "strategy_state": self.strategy.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what [`~Curriculum.state_dict`] returned.

        Prompts may have been added or moved since, and a batch or a curriculum be of another size.

        Raises:
            ConfigurationError: The state is of another format, setting or data set; the message names the difference.
        """
        if entry(state, "format") != _FORMAT:
            raise ConfigurationError(
                f"The checkpoint's curriculum has format {state['format']!r}, this version reads {_FORMAT}."
            )
        fixed = {name: value for name, value in self.settings.items() if name not in _MAY_CHANGE}
        changed = changed_settings(entry(state, "settings"), fixed)
        if changed:
            raise ConfigurationError(f"The checkpoint's curriculum has {'; '.join(changed.values())}.")
        self.visits.load_state_dict(state)
        with within("scores"):
            self.scores.load_state_dict(entry(state, "scores"))
        self.batch = drawn_prompts(state, "batch", self.pool)
        self.ahead = drawn_prompts(state, "ahead", self.pool)
        self.renewed_at = None if entry(state, "renewed_at") is None else step_number(state, "renewed_at")
        self.digest = digest(state, "digest")
        restore_generator(state, "rng", self._rng)
        self._explored = number(state, "explored", *CARRIED_OVER)
        with within("quarantine"):
            self.quarantine.load_state_dict(entry(state, "quarantine"))
        if flag(state, "fell_back"):
            self._fall_back()
        if (self.watch is None) != (entry(state, "watch") is None):
            raise StateError(("watch",), "is not that of the strategy")
        if self.watch is not None:
            with within("watch"):
                self.watch.load_state_dict(entry(state, "watch"))
        with within("strategy_state"):
            self.strategy.load_state_dict(entry(state, "strategy_state"))
