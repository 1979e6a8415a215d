"""Whether a curriculum's groups carry as much signal as random order's would, from counts of the run itself."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from .buffer import PriorityBuffer
from .gates import has_signal
from .pool import IndexArray, Pool
from .state import StateError, flag, flag_of, sequence, within
from .strategy import Outcome

# Renewals in a row in which a curriculum has to fall short.
_RENEWALS = 3
# By how many standard errors it has to, in all of them together.
_ERRORS = 3.0
# Groups drawn at random from which on these alone say what random order would give.
_ENOUGH = 10
# Ranges of scores, as many prompts in each, and how many new prompts of a range say what it holds.
_RANGES = 5
_ENOUGH_OF_RANGE = 3


@dataclass(frozen=True)
class Share:
    """A share of groups, and the variance of its estimate."""

    value: float
    variance: float

    @classmethod
    def of(cls, found: int, groups: int) -> Self:
        """So many of the groups; the variance is that of Jeffreys' posterior, which no count makes 0."""
        a, b = found + 0.5, groups - found + 0.5
        return cls(found / groups, a * b / ((a + b) ** 2 * (a + b + 1)))


@dataclass
class _Interval:
    """Groups between two renewals: whether each had a signal, and of new prompts, which prompt it was."""

    chosen: list[bool] = field(default_factory=list)
    at_random: list[bool] = field(default_factory=list)
    new: list[tuple[int, bool]] = field(default_factory=list)


class SignalWatch:
    """Compares the share of groups with a signal, rewards that differ, with what random order would have had.

    What random order would have had is counted on the prompts drawn at random (`curriculum_exploration`), where the
    last three intervals between renewals have ten of them. Otherwise it is estimated from prompts drawn for the first
    time, of which rewards have told the strategy nothing yet: the pool is cut into five ranges of the latest scores,
    and one of prompts without; each range counts by its share of the pool. A range with less than three new prompts is
    not known and counts as one without any signal, so that the estimate is too low rather than too high.

    Args:
        pool (`Pool`):
            The prompts.
    """

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.scores = PriorityBuffer(pool)
        self._told = False
        self._current = _Interval()
        self._closed: list[_Interval] = []
        # Prompts drawn and not observed yet: whether each was drawn at random, and for the first time.
        self._drawn: dict[int, list[tuple[bool, bool]]] = {}

    def draw(self, indices: IndexArray, *, at_random: bool) -> None:
        """Learn what was drawn, before the pool counts it as visited, and whether it was drawn at random."""
        for index in indices.tolist():
            self._drawn.setdefault(index, []).append((at_random, not self.pool.visits[index]))

    def observe(self, outcomes: Sequence[Outcome]) -> None:
        """Count the groups of prompts that were drawn; groups of one have nothing to differ from."""
        for outcome in outcomes:
            if outcome.score is not None:
                self.scores.update(outcome.index, outcome.score, outcome.version)
            if outcome.rewards is None or outcome.index not in self._drawn:
                continue
            draws = self._drawn[outcome.index]
            at_random, new = draws.pop(0)
            if not draws:
                del self._drawn[outcome.index]
            if len(outcome.rewards) < 2:
                continue
            signal = has_signal(outcome)
            (self._current.at_random if at_random else self._current.chosen).append(signal)
            if new:
                self._current.new.append((outcome.index, signal))

    def renew(self, fallback: bool) -> str | None:
        """Close an interval; one without a group the strategy chose goes on.

        Args:
            fallback (`bool`):
                Whether random order takes the strategy's place where it falls short.

        Returns:
            `str` or `None`: what is to be told, once: that it falls short, and what is or can be done.
        """
        if self._current.chosen:
            self._closed = [*self._closed, self._current][-_RENEWALS:]
            self._current = _Interval()
        self._drawn.clear()
        if not self.falls_short() or (self._told and not fallback):
            return None
        self._told = True
        return f"{self._summary()} " + (
            "From here on prompts are drawn in random order (curriculum_fallback)."
            if fallback
            else "Take strategy random or learning_edge, or the gate equal_rewards, which drops groups without a "
            "signal; with curriculum_fallback random order takes over by itself."
        )

    def drawn(self) -> Share | None:
        """Share with a signal among the groups the strategy chose, in the last three intervals."""
        return _share([signal for interval in self._closed for signal in interval.chosen])

    def random(self) -> tuple[Share, bool] | None:
        """The share random order would have had in these intervals, and whether all ranges were known for it.

        `None` where nothing is known.
        """
        counted = [signal for interval in self._closed for signal in interval.at_random]
        if len(counted) >= _ENOUGH:
            return Share.of(sum(counted), len(counted)), True
        ranges = np.full(len(self.pool), _RANGES)
        known = self.scores.known
        if known.any():
            scores = self.scores.scores[known]
            edges = np.quantile(scores, np.arange(1, _RANGES) / _RANGES)
            ranges[known] = np.searchsorted(edges, scores, side="right")
        weights = np.bincount(ranges, minlength=_RANGES + 1) / len(self.pool)
        new = [found for interval in self._closed for found in interval.new]
        value = variance = covered = 0.0
        for number, weight in enumerate(weights):
            signals = [signal for index, signal in new if ranges[index] == number]
            if len(signals) >= _ENOUGH_OF_RANGE:
                share = Share.of(sum(signals), len(signals))
                value += weight * share.value
                variance += weight**2 * share.variance
                covered += weight
        return (Share(value, variance), covered > 1 - 1e-9) if covered else None

    def falls_short(self) -> bool:
        """Whether the last three intervals each had a smaller share than random order, together beyond chance."""
        drawn, random = self.drawn(), self.random()
        if len(self._closed) < _RENEWALS or drawn is None or random is None:
            return False
        estimate, _ = random
        if any(np.mean(interval.chosen) >= estimate.value for interval in self._closed):
            return False
        return estimate.value - drawn.value > _ERRORS * np.sqrt(estimate.variance + drawn.variance)

    def _summary(self) -> str:
        drawn, random = self.drawn(), self.random()
        assert drawn is not None and random is not None
        estimate, whole = random
        return (
            f"in the last {_RENEWALS} intervals rewards differed in {drawn.value:.1%} of the groups the curriculum "
            f"chose; in random order it would have been {'' if whole else 'at least '}{estimate.value:.1%}."
        )

    def metrics(self) -> dict[str, float]:
        """`signal_drawn` of the last interval, and `signal_random` of the last three where it is known."""
        found: dict[str, float] = {}
        if self._closed:
            found["signal_drawn"] = float(np.mean(self._closed[-1].chosen))
            random = self.random()
            if random is not None and random[1]:
                found["signal_random"] = random[0].value
        return found

    def state_dict(self) -> dict[str, Any]:
        """Everything a restart needs, by prompt id."""
        return {
            "scores": self.scores.state_dict(),
            "told": self._told,
            "intervals": [self._plain(interval) for interval in (*self._closed, self._current)],
            "drawn": {self.pool.ids[i]: [list(draw) for draw in draws] for i, draws in sorted(self._drawn.items())},
        }

    def _plain(self, interval: _Interval) -> dict[str, Any]:
        new = [[self.pool.ids[index], signal] for index, signal in interval.new]
        return {"chosen": list(interval.chosen), "at_random": list(interval.at_random), "new": new}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what [`~SignalWatch.state_dict`] returned."""
        with within("scores"):
            self.scores.load_state_dict(state["scores"])
        self._told = flag(state, "told")
        with within("intervals"):
            *self._closed, self._current = map(self._interval, sequence(state, "intervals"))
        if len(self._closed) > _RENEWALS or not all(interval.chosen for interval in self._closed):
            raise StateError(("intervals",), f"must be at most {_RENEWALS} with groups, and one more")
        with within("drawn"):
            for prompt_id, draws in state["drawn"].items():
                index = self.pool.index[prompt_id]
                if not 0 < len(draws) <= self.pool.visits[index] or [new for _, new in draws[1:] if flag_of(new)]:
                    raise StateError(
                        (prompt_id,), f"was drawn {len(draws)} times, of {self.pool.visits[index]} in all"
                    )
                self._drawn[index] = [(flag_of(at_random), flag_of(new)) for at_random, new in draws]

    def _interval(self, kept: dict[str, Any]) -> _Interval:
        """An interval as a state has it."""
        chosen, at_random = (list(map(flag_of, sequence(kept, name))) for name in ("chosen", "at_random"))
        new = [(self.pool.index[prompt_id], flag_of(signal)) for prompt_id, signal in sequence(kept, "new")]
        if len(new) > len(chosen) + len(at_random):
            raise StateError(("new",), f"holds {len(new)} of {len(chosen) + len(at_random)} groups")
        return _Interval(chosen, at_random, new)


def _share(signals: Sequence[bool]) -> Share | None:
    return Share.of(sum(signals), len(signals)) if signals else None
