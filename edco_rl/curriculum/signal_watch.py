"""Whether a curriculum's groups carry as much signal as random order's would, from counts of the run itself."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from .buffer import PriorityBuffer
from .gates import have_signal
from .outcomes import Outcomes
from .pool import FloatArray, IndexArray, Pool
from .pool_state import positions_of
from .state import StateError, array, flag, refuse, sequence, within

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

    Of large pools the ranges are those of [`~PriorityBuffer.sample`].

    Args:
        pool (`Pool`):
            The prompts.
        scores (`PriorityBuffer`):
            Their latest scores.
    """

    def __init__(self, pool: Pool, scores: PriorityBuffer) -> None:
        self.pool = pool
        self.scores = scores
        self._told = False
        self._current = _Interval()
        self._closed: list[_Interval] = []
        # Prompts drawn and not observed yet: whether each was drawn at random, and for the first time.
        self._drawn: dict[int, list[tuple[bool, bool]]] = {}

    def draw(self, indices: IndexArray, *, at_random: bool) -> None:
        """Learn what was drawn, before the pool counts it as visited, and whether it was drawn at random."""
        for index in indices.tolist():
            self._drawn.setdefault(index, []).append((at_random, not self.pool.visits[index]))

    def observe(self, outcomes: Outcomes) -> None:
        """Count the groups of prompts that were drawn; groups of one have nothing to differ from."""
        groups = outcomes.groups
        for index, size, signal in zip(
            groups.index.tolist(), groups.sizes.tolist(), have_signal(groups).tolist(), strict=True
        ):
            if index not in self._drawn:
                continue
            draws = self._drawn[index]
            at_random, new = draws.pop(0)
            if not draws:
                del self._drawn[index]
            if size < 2:
                continue
            (self._current.at_random if at_random else self._current.chosen).append(signal)
            if new:
                self._current.new.append((index, signal))

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
        scored, known = self.scores.sample(), self.scores.count() / len(self.pool)
        edges = np.quantile(scored, np.arange(1, _RANGES) / _RANGES) if len(scored) else np.empty(0)

        def ranges(scores: FloatArray) -> IndexArray:
            return np.where(np.isnan(scores), _RANGES, np.searchsorted(edges, scores, side="right"))

        weights = np.bincount(ranges(scored), minlength=_RANGES + 1) * (known / max(len(scored), 1))
        weights[_RANGES] = 1 - known
        new = [found for interval in self._closed for found in interval.new]
        of_new = ranges(self.scores.scores[np.array([index for index, _ in new], dtype=np.int64)])
        value = variance = covered = 0.0
        for number, weight in enumerate(weights):
            signals = [signal for (_, signal), its in zip(new, of_new, strict=True) if its == number]
            if len(signals) >= _ENOUGH_OF_RANGE:
                share = Share.of(sum(signals), len(signals))
                value += weight * share.value
                variance += weight**2 * share.variance
                covered += weight
        return (Share(value, variance), covered > 1 - 1e-9) if covered else None

    def falls_short(self) -> bool:
        """Whether the last three intervals each had a smaller share than random order, together beyond chance."""
        if len(self._closed) < _RENEWALS:
            return False
        drawn, random = self.drawn(), self.random()
        if drawn is None or random is None:
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
        """Everything a restart needs."""
        drawn = [(index, *draw) for index, draws in sorted(self._drawn.items()) for draw in draws]
        return {
            "told": self._told,
            "intervals": [self._plain(interval) for interval in (*self._closed, self._current)],
            "drawn": np.array(drawn, dtype=np.int64).reshape(-1, 3),
        }

    def _plain(self, interval: _Interval) -> dict[str, Any]:
        new = np.array(interval.new, dtype=np.int64).reshape(-1, 2)
        chosen, at_random = np.array(interval.chosen, dtype=bool), np.array(interval.at_random, dtype=bool)
        return {"chosen": chosen, "at_random": at_random, "new": new}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what [`~SignalWatch.state_dict`] returned."""
        self._told = flag(state, "told")
        intervals = []
        for place, kept in enumerate(sequence(state, "intervals")):
            with within(f"intervals[{place}]"):
                intervals.append(self._interval(kept))
        if not 0 < len(intervals) <= _RENEWALS + 1 or not all(interval.chosen for interval in intervals[:-1]):
            raise StateError(("intervals",), f"must be at most {_RENEWALS} with groups, and one more")
        *self._closed, self._current = intervals
        self._drawn = {}
        for place, (index, at_random, new) in enumerate(self._rows(state, "drawn", 3)):
            draws = self._drawn.setdefault(index, [])
            draws.append((bool(at_random), bool(new)))
            if len(draws) > self.pool.visits[index] or (new and len(draws) > 1):
                raise StateError((f"drawn[{place}]",), f"is of a prompt drawn {self.pool.visits[index]} times in all")

    def _interval(self, kept: dict[str, Any]) -> _Interval:
        """An interval as a state has it."""
        chosen, at_random = (array(kept, name, np.bool_, None).tolist() for name in ("chosen", "at_random"))
        new = [(index, bool(signal)) for index, signal in self._rows(kept, "new", 2)]
        if len(new) > len(chosen) + len(at_random):
            raise StateError(("new",), f"holds {len(new)} of {len(chosen) + len(at_random)} groups")
        return _Interval(chosen, at_random, new)

    def _rows(self, state: dict[str, Any], name: str, width: int) -> list[list[int]]:
        """Prompts, where they are now, each with flags."""
        rows = array(state, name, np.int64, None, width, least=0)
        prompts, flags = positions_of(rows[:, 0], name, self.pool, different=False), rows[:, 1:]
        refuse(name, flags > 1, "must be a prompt and flags")
        return np.column_stack([prompts, flags]).tolist()


def _share(signals: Sequence[bool]) -> Share | None:
    return Share.of(sum(signals), len(signals)) if signals else None
