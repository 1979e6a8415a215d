"""A strategy that predicts each prompt's pass rate, and trains where rewards are expected to differ most."""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from scipy.special import betaln, expit

from ..errors import ConfigurationError
from .buffer import PriorityBuffer
from .pool import FloatArray, IndexArray
from .regression import logistic_regression, prediction_strength
from .state import CARRIED_OVER, StateError, entry, number, numbers, rows, step_number, steps, table
from .strategy import Outcome, Strategy, StrategyContext, quantile_metrics, successes_and_failures

# Optimizer steps after which a reward counts half: the policy moves on.
_HALF_LIFE = 100.0
# Groups the regression looks back on, and subjects it tells apart.
_GROUPS = 4096
_SUBJECTS = 100
# Log-odds beyond which a score says no more.
_LARGEST_LOG_ODDS = 8.0
_SMALLEST_RATE = 1e-3
# Mean and variance, before there are rewards, of the coefficients: intercept, score, and each subject.
_PRIOR = ((0.0, 4.0), (1.0, 1.0), (0.0, 1.0))
_MASTERED = 0.9


class LearningEdge(Strategy):
    """The prompts whose rewards are expected to differ most: of pass rate p, p (1 - p) is largest.

    Each prompt's pass rate has a Beta distribution, fused from what there is:

    - *its score*, by a logistic regression of all rewards seen on the log-odds of exp(-score), with an intercept for
      each subject. Before there are rewards, exp(-score) is the rate: with `surprisal` the chance of the reference
      answer. What a score is worth shows in the regression's slope, so that a useless one fades.
    - *its own rewards*, discounted each time it is seen, and with age.
    - *how good predictions have been*: a prediction counts as so many completions as makes the groups that were
      predicted most likely.

    The prompts of highest expected value come next, anew for each batch (`curriculum_size` has no part in it). A
    prompt drawn v times counts (1 + v)^-diversity of its value, and a small share of what is drawn is mastered.

    The value of a rate p is p^(2 target) (1 - p)^(2 - 2 target), which is highest at the target: p (1 - p) at 0.5.

    Args:
        target (`float`, *optional*, defaults to `0.5`):
            Pass rate to train at, above 0 and below 1.
        final_target (`float`, *optional*), target_steps (`int`, *optional*):
            Where the target moves to, linearly over so many optimizer steps: from easy to hard where it falls.
        review (`float`, *optional*, defaults to `0.05`):
            Share of the prompts that are drawn from those with an expected pass rate above 0.9, against forgetting.
        diversity (`float`, *optional*, defaults to `0.5`):
            As above: 0 draws the same prompts again for as long as their rewards differ.
        discount (`float`, *optional*, defaults to `0.5`):
            What is kept of a prompt's earlier rewards each time it is seen.
        subjects (`str`, *optional*, defaults to `"subject"`):
            Column of what prompts have in common; it is left out where there is none, or it has over 100 values.
        balance (`bool`, *optional*, defaults to `False`):
            Whether each subject keeps its share of the pool in what is drawn.
        reference (`bool`, *optional*, defaults to `True`):
            Whether prompts with short reference answers are scored by `surprisal`, whatever the configured estimator.
        success_at (`float`, *optional*):
            Reward from which on a completion is a success. By default the reward is the success, from 0 to 1.
    """

    name: ClassVar[str] = "learning_edge"
    trainer_defaults: ClassVar[Mapping[str, Any]] = {"curriculum_fallback": True}

    def __init__(
        self,
        context: StrategyContext,
        *,
        target: float = 0.5,
        final_target: float | None = None,
        target_steps: int | None = None,
        review: float = 0.05,
        diversity: float = 0.5,
        discount: float = 0.5,
        subjects: str = "subject",
        balance: bool = False,
        reference: bool = True,
        success_at: float | None = None,
    ) -> None:
        super().__init__(context)
        if not (0 < target < 1 and (final_target is None or 0 < final_target < 1)):
            raise ConfigurationError(f"{self.name} needs targets between 0 and 1; got {target} and {final_target}.")
        if (final_target is None) != (target_steps is None) or (target_steps is not None and target_steps < 1):
            raise ConfigurationError(
                f"{self.name} needs both final_target and target_steps, at least 1, or neither; got {final_target} "
                f"and {target_steps}."
            )
        if not (0 <= review < 1 and 0 <= discount <= 1 and diversity >= 0):
            raise ConfigurationError(
                f"{self.name} needs review from 0 to below 1, discount from 0 to 1, diversity from 0; got {review}, "
                f"{discount} and {diversity}."
            )
        self.reference_estimator = "surprisal" if reference else None
        self.target, self.final_target, self.target_steps = target, final_target, target_steps
        self.review = review
        self.diversity = diversity
        self.discount = discount
        self.balance = balance
        self.success_at = success_at
        self.scores = PriorityBuffer(self.pool)
        self.subjects = self._subjects(subjects)
        if balance and len(np.unique(self.subjects)) < 2:
            raise ConfigurationError(f"{self.name}, balance: the data set has no column {subjects!r} of subjects.")
        # Successes and failures of each prompt, discounted, and the optimizer step they were last discounted at.
        self.evidence: FloatArray = np.zeros((len(self.pool), 2))
        self._seen_at: IndexArray = np.zeros(len(self.pool), dtype=np.int64)
        # Of each group: prompt, log-odds of its score, predicted rate, successes, failures, version.
        self._groups: deque[tuple[int, float, float, float, float, int]] = deque(maxlen=_GROUPS)
        self._review_owed = 0.0
        self._owed: FloatArray = np.zeros(self.subjects.max() + 1)  # places due to each subject
        self._step = 0
        self._fitted: tuple[FloatArray, float, float] | None = None  # rates, strength, slope

    def _subjects(self, column: str) -> IndexArray:
        """A number for the subject of each prompt, shape (N,); all 0 without subjects."""
        labels = self.pool.labels(column)
        names = sorted(set(labels or []))
        if not 1 < len(names) <= _SUBJECTS:
            return np.zeros(len(self.pool), dtype=np.int64)
        number = {name: index for index, name in enumerate(names)}
        return np.array([number[label] for label in labels or []])

    def wants(self, budget: int) -> IndexArray:
        if budget >= len(self.pool) or not self.scores.known.any():
            return self.any_prompts(budget)
        # Half of them those that would be drawn next, so that these are drawn by what the policy is now.
        value = self.value() * self._seldom()
        first = np.lexsort((self.rng.permutation(len(value)), -value))[: budget // 2]
        rest = np.setdiff1d(np.arange(len(self.pool)), first)
        return np.sort(np.concatenate([first, self.rng.choice(rest, budget - len(first), replace=False)]))

    def _seldom(self) -> FloatArray:
        """What the value of a prompt counts, the less the oftener it was drawn, shape (N,)."""
        return (1.0 + self.pool.visits.astype(np.float64)) ** -self.diversity

    def observe(self, outcomes: Sequence[Outcome]) -> None:
        self.renew(max((outcome.version for outcome in outcomes), default=0))
        log_odds, predicted = self._log_odds(), None
        for outcome in outcomes:
            index = outcome.index
            if outcome.score is not None:
                self.scores.update(index, outcome.score, outcome.version)
                self._fitted = None
            if outcome.rewards is None:
                continue
            counts = successes_and_failures(outcome, self.success_at, self.pool, self.name)
            predicted = self.rates() if predicted is None else predicted
            self._groups.append((index, float(log_odds[index]), float(predicted[index]), *counts, outcome.version))
            self.evidence[index] *= self.discount
            self.evidence[index] += counts
            self._seen_at[index] = outcome.version
        if predicted is not None:
            self._fitted = None

    def _log_odds(self) -> FloatArray:
        """Log-odds of exp(-score), shape (N,); the mean of those known where there is no score.

        Scores below 0 are no surprisal: they are brought to mean 0 and variance 1, and count as minus log-odds.
        """
        known = self.scores.known
        if not known.any():
            return np.zeros(len(self.pool))
        scores = self.scores.scores[known]
        if scores.min() < 0:
            values = -(scores - scores.mean()) / (scores.std() or 1.0)
        else:
            with np.errstate(divide="ignore", over="ignore"):
                values = -np.log(np.expm1(scores))
        values = np.clip(values, -_LARGEST_LOG_ODDS, _LARGEST_LOG_ODDS)
        found = np.full(len(self.pool), values.mean())
        found[known] = values
        return found

    def _design(self, indices: IndexArray, log_odds: FloatArray) -> FloatArray:
        """Intercept, score and subject of prompts, shape (G, 2 + number of subjects)."""
        subjects = np.eye(self.subjects.max() + 1)[self.subjects[indices]]
        return np.column_stack([np.ones(len(indices)), log_odds, subjects])

    def _fit(self) -> tuple[FloatArray, float, float]:
        """Predicted pass rate of each prompt, shape (N,), the completions a prediction counts as, and the slope."""
        if self._fitted is None:
            number = self.subjects.max() + 1
            mean, variance = np.array([*_PRIOR[:2], *[_PRIOR[2]] * number]).T
            coefficients, strength = mean, 4.0
            if self._groups:
                indices, log_odds, predicted, good, bad, versions = np.array(self._groups).T
                fading = self._fading(versions)
                design = self._design(indices.astype(np.int64), log_odds)
                coefficients = logistic_regression(design, good * fading, bad * fading, mean, variance)
                strength = prediction_strength(predicted, good * fading, bad * fading)
            every = np.arange(len(self.pool))
            rates = expit(self._design(every, self._log_odds()) @ coefficients)
            rates = np.clip(rates, _SMALLEST_RATE, 1 - _SMALLEST_RATE)
            self._fitted = rates, strength, float(coefficients[1])
        return self._fitted

    def _fading(self, versions: FloatArray | IndexArray) -> FloatArray:
        return 0.5 ** ((self._step - versions) / (self.half_life or _HALF_LIFE))

    def rates(self) -> FloatArray:
        """Pass rate of each prompt that is predicted from what it has in common with others, shape (N,)."""
        return self._fit()[0]

    def posterior(self) -> FloatArray:
        """Both parameters of each prompt's Beta distribution of the pass rate, shape (N, 2)."""
        rates, strength, _ = self._fit()
        own = self.evidence * self._fading(self._seen_at)[:, None]
        return own + strength * np.column_stack([rates, 1 - rates])

    def value(self) -> FloatArray:
        """Expected value of training on each prompt, shape (N,)."""
        good, bad = self.posterior().T
        target = self.target
        if self.final_target is not None and self.target_steps is not None:
            target += (self.final_target - target) * min(1.0, self._step / self.target_steps)
        return np.exp(betaln(good + 2 * target, bad + 2 - 2 * target) - betaln(good, bad))

    def renew(self, step: int) -> None:
        if step > self._step:
            self._step, self._fitted = step, None

    def select(self, n: int) -> IndexArray:
        free = self.pool.eligible()
        seldom = self._seldom()
        value = np.where(free, self.value() * seldom, -1.0)
        good, bad = self.posterior().T
        mastered = np.where(free & (good / (good + bad) > _MASTERED), seldom, -1.0)
        self._review_owed += self.review * n
        due = int(self._review_owed + 1e-9)
        self._review_owed -= due
        chosen = self._best(mastered, np.empty(0, dtype=np.int64), due)
        for subject, places in enumerate(self._places(chosen, n) if self.balance else ()):
            its = np.where(self.subjects == subject, value, -1.0)
            chosen = np.concatenate([chosen, self._best(its, chosen, places)])
        chosen = np.concatenate([chosen, self._best(value, chosen, n - len(chosen))])
        if len(chosen) < n:  # few are left under the cap on visits: any others
            others = self.rng.permutation(np.setdiff1d(np.arange(len(self.pool)), chosen))
            chosen = np.concatenate([chosen, others[: n - len(chosen)]])
        return chosen

    def _best(self, value: FloatArray, taken: IndexArray, n: int) -> IndexArray:
        """The `n` prompts of highest value, ties at random; fewer where fewer of a positive one are not taken."""
        value = value.copy()
        value[taken] = -1.0
        order = np.lexsort((self.rng.permutation(len(value)), -value))[:n]
        return order[value[order] > 0]

    def _places(self, chosen: IndexArray, n: int) -> list[int]:
        """Places of each subject beside those chosen for it: its share of the pool, carried over between batches."""
        shares = np.bincount(self.subjects) / len(self.pool)
        self._owed += shares * n - np.bincount(self.subjects[chosen], minlength=len(shares))
        places = np.zeros(len(shares), dtype=np.int64)
        for _ in range(n - len(chosen)):
            most = int(np.argmax(self._owed))
            places[most] += 1
            self._owed[most] -= 1
        return places.tolist()

    def outlook(self, n: int, group_size: int) -> tuple[float, float]:
        good, bad = self.posterior().T
        alike = betaln(good + group_size, bad), betaln(good, bad + group_size)
        differ = 1 - sum(np.exp(one - betaln(good, bad)) for one in alike)
        return float(differ[np.argsort(-self.value(), kind="stable")[:n]].mean()), float(differ.mean())

    def metrics(self) -> dict[str, float]:
        good, bad = self.posterior().T
        _, strength, slope = self._fit()
        found = quantile_metrics("pass_rate", good / (good + bad))
        return found | {"prediction_strength": strength, "score_slope": slope}

    def state_dict(self) -> dict[str, Any]:
        seen = np.flatnonzero(self.evidence.any(axis=1))
        return super().state_dict() | {
            "scores": self.scores.state_dict(),
            "evidence": {self.pool.ids[i]: [*self.evidence[i].tolist(), int(self._seen_at[i])] for i in seen},
            "groups": [[self.pool.ids[index], *rest] for index, *rest in self._groups],
            "owed": self._owed.tolist(),
            "review_owed": self._review_owed,
            "step": self._step,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.scores.load_state_dict(entry(state, "scores"))
        indices, evidence = table(state, "evidence", self.pool, 3, least=0.0)
        self.evidence[indices], self._seen_at[indices] = evidence[:, :2], steps(evidence[:, 2], "evidence")
        indices, groups = rows(state, "groups", self.pool, 5)
        if (groups[:, 1:4] < 0).any() or (groups[:, 1] >= 1).any():
            raise StateError(("groups",), "must hold rates within 0 and 1, and counts from 0")
        kept = zip(indices.tolist(), groups[:, :4].tolist(), steps(groups[:, 4], "groups").tolist(), strict=True)
        self._groups.extend((index, *values, version) for index, values, version in kept)
        if len(owed := numbers(state, "owed")) == len(self._owed):  # subjects may have been added
            self._owed = owed
        self._review_owed = number(state, "review_owed", *CARRIED_OVER)
        self._step, self._fitted = step_number(state, "step"), None
