"""A strategy that predicts each prompt's pass rate, and trains where rewards are expected to differ most."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigurationError
from .choosing import Places, any_but, highest
from .linear_head import LinearHead, most_rewarded
from .log_odds import EVERYONE, LogOdds
from .outcomes import Outcomes
from .pool import FloatArray, IndexArray
from .pool_state import column, positions
from .regression import PassRates, chance_to_differ, expected_value
from .state import CARRIED_OVER, array, entry, latest_step, number, step_number, within
from .strategy import Strategy, StrategyContext, quantile_metrics, successes_and_failures

# Optimizer steps after which a reward counts half: the policy moves on.
_HALF_LIFE = 100.0
# Subjects that are told apart.
_SUBJECTS = 100
_MASTERED = 0.9
# Prompts that are looked at for a batch, at least, and those of them that are mastered.
_LOOKED_AT = 4096
_REVIEWED = 512


class LearningEdge(Strategy):
    """The prompts whose rewards are expected to differ most: of pass rate p, p (1 - p) is largest.

    Each prompt's pass rate has a Beta distribution, fused from what there is:

    - *its score*, by a logistic regression of all rewards seen on the log-odds of exp(-score), with an intercept for
      each subject. Before there are rewards, exp(-score) is the rate: with `surprisal` the chance of the reference
      answer. What a score is worth shows in the regression's slope, so that a useless one fades.
    - *the policy's hidden state*, with `hidden_state`: what a linear head on it, learned anew at each renewal, says by
      the rewards of other prompts. It enters the same regression, with a slope that begins at 0.
    - *its own rewards*, discounted each time it is seen, and with age.
    - *how good predictions have been*: a prediction counts as so many completions as makes the groups that were
      predicted most likely.

    The prompts of highest expected value come next, anew for each batch. A prompt drawn v times counts
    (1 + v)^-diversity of its value, and a small share of what is drawn is mastered. Of a pool of more than 4,096
    prompts (`curriculum_size` where that is more) as many are looked at for a batch: those of highest value at the
    last renewal, and 512 that were mastered then.

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
        hidden_state (`bool`, *optional*, defaults to `False`):
            Whether the trainer gives the policy's last hidden state at the end of each prompt that is scored.
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
        hidden_state: bool = False,
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
        self.scores = context.scores
        self.subjects = self.pool.numbered(subjects, _SUBJECTS)
        self._places = Places(self.subjects)
        if balance and len(self._places.shares) < 2:
            raise ConfigurationError(f"{self.name}, balance: the data set has no column {subjects!r} of subjects.")
        self.needs_hidden_states = hidden_state
        self.model = PassRates(self.subjects, LinearHead(self.pool) if hidden_state else None)
        # Successes and failures of each prompt, discounted, and the optimizer step they were last discounted at.
        self.evidence: NDArray[np.float32] = np.zeros((len(self.pool), 2), dtype=np.float32)
        self._seen_at: NDArray[np.int32] = np.full(len(self.pool), -1, dtype=np.int32)
        self.log_odds = LogOdds(self.scores)
        self._most = max(_LOOKED_AT, self.size)
        self._looked_at: IndexArray | None = None
        self._review_owed = 0.0
        self._step = 0
        self._fitted = False

    def wants(self, budget: int) -> IndexArray:
        if budget >= len(self.pool) or not self.scores.known.any():
            return self.any_prompts(budget)
        # Half of them those that would be drawn next, so that these are drawn by what the policy is now.
        first = np.sort(highest(self._survey()[0], budget // 2, self.rng))
        return np.sort(np.concatenate([first, any_but(first, len(self.pool), budget - len(first), self.rng)]))

    def wants_hidden_states(self, scored: IndexArray) -> IndexArray:
        seen = np.flatnonzero(self._seen_at >= 0)
        return np.union1d(scored, seen[most_rewarded(self._own(seen))]) if self.model.head else scored[:0]

    def observe_hidden_states(self, prompts: IndexArray, states: NDArray[np.float32]) -> None:
        if self.model.head is not None:
            self.model.head.learn(prompts, states, self._own(prompts))
            self._fitted = False

    def _seldom(self, prompts: IndexArray | slice) -> FloatArray:
        """What prompts count, the less the oftener they were drawn, shape (len(prompts),)."""
        return np.power(1.0 + self.pool.visits[prompts].astype(np.float64), -self.diversity)

    def observe(self, outcomes: Outcomes) -> None:
        model, groups = self._fit(), outcomes.groups  # as these were chosen
        scored = ~np.isnan(outcomes.score)
        if scored.any():
            self.log_odds.learn(outcomes.index[scored])
        if len(groups):
            counts = successes_and_failures(groups, self.success_at, self.pool, self.name)
            log_odds = self.log_odds.of(groups.index)
            predicted = model.predict(model.features(log_odds, groups.index), self.subjects[groups.index])
            model.add(groups.index, log_odds, predicted, counts, groups.version)
            self._fitted = False
        for part in groups.one_each():
            counts = successes_and_failures(part, self.success_at, self.pool, self.name)
            self.evidence[part.index] = self.evidence[part.index] * self.discount + counts
            self._seen_at[part.index] = part.version
        self._go_on(int(outcomes.version.max(initial=0)))

    def _go_on(self, step: int) -> None:
        if step > self._step:
            self._step, self._fitted = step, False

    def _fit(self) -> PassRates:
        if not self._fitted:
            self.model.fit(self._step, self.half_life or _HALF_LIFE)
            self._fitted = True
        return self.model

    def rates(self, prompts: IndexArray | slice = EVERYONE) -> FloatArray:
        """Pass rates of prompts that are predicted from what they have in common with others, by default of all."""
        model = self._fit()
        return model.predict(model.features(self.log_odds.of(prompts), prompts), self.subjects[prompts])

    def _own(self, prompts: IndexArray | slice) -> FloatArray:
        """Successes and failures of prompts' own groups, as they count by now, shape (len(prompts), 2)."""
        age = self._step - self._seen_at[prompts]  # where nothing was seen there is nothing to fade
        return self.evidence[prompts] * (0.5 ** (age / (self.half_life or _HALF_LIFE)))[:, None]

    def posterior(self, prompts: IndexArray | slice = EVERYONE) -> FloatArray:
        """Both parameters of the Beta distributions of prompts' pass rates, shape (N, 2); by default of all."""
        rates = self.rates(prompts)
        return self.model.strength * np.column_stack([rates, 1 - rates]) + self._own(prompts)

    def value(self) -> FloatArray:
        """Expected value of training on each prompt, shape (N,)."""
        return self._value(self.posterior())

    def _value(self, parameters: FloatArray) -> FloatArray:
        target = self.target
        if self.final_target is not None and self.target_steps is not None:
            target += (self.final_target - target) * min(1.0, self._step / self.target_steps)
        return expected_value(parameters, target)

    def _survey(self) -> tuple[FloatArray, NDArray[np.bool_]]:
        """What each prompt counts, and whether it is mastered, shape (N,).

        In large pools that of a prompt without rewards is read off the grid, by its log-odds, unless there is a head.
        """
        if len(self.pool) <= self._most or self.needs_hidden_states:
            return self._counts(EVERYONE)
        model, grid, at = self._fit(), self.log_odds.grid(), self.log_odds.places
        rates = model.predict(grid[:, None], np.arange(len(self._places.shares))[:, None])
        if len(rates) > 1:
            at = np.multiply(self.subjects, len(grid), dtype=np.uint32) + at
        value = self._value(model.strength * np.stack([rates, 1 - rates], axis=-1)).ravel()[at]
        mastered = (rates > _MASTERED).ravel()[at]
        known = np.flatnonzero((self._seen_at >= 0) | (self.pool.visits > 0))
        value[known], mastered[known] = self._counts(known)
        return value, mastered

    def _counts(self, prompts: IndexArray | slice) -> tuple[FloatArray, NDArray[np.bool_]]:
        """The value of prompts, the less the oftener they were drawn, and whether they are mastered."""
        parameters = self.posterior(prompts)
        value = self._value(parameters) * self._seldom(prompts)
        return value, parameters[:, 0] > _MASTERED * parameters.sum(axis=1)

    def renew(self, step: int) -> None:
        self._go_on(step)
        self._look_around()

    def _look_around(self) -> IndexArray:
        """Choose the prompts that are looked at until the next renewal."""
        self._looked_at = np.arange(len(self.pool))
        if len(self.pool) <= self._most:
            return self._looked_at
        (value, mastered), free = self._survey(), self.pool.eligible()
        subjects = range(len(self._places.shares)) if self.balance else ()
        parts = [free & (self.subjects == subject) for subject in subjects] or [free]
        chosen = [highest(value, round(self._most / len(parts)), self.rng, part) for part in parts]
        if self.review:
            known = np.flatnonzero(mastered & free)
            chosen.append(known[highest(self._seldom(known), _REVIEWED, self.rng)])
        self._looked_at = np.unique(np.concatenate(chosen))
        return self._looked_at

    def select(self, n: int) -> IndexArray:
        prompts = self._look_around() if self._looked_at is None else self._looked_at
        free = self.pool.eligible(prompts)
        value, known = self._counts(prompts)
        value = np.where(free, value, -1.0)
        mastered = np.where(free & known, self._seldom(prompts), -1.0)
        self._review_owed += self.review * n
        due = int(self._review_owed + 1e-9)
        self._review_owed -= due
        chosen = self._best(mastered, np.empty(0, dtype=np.int64), due)
        of_subject = self.subjects[prompts]
        for subject, places in enumerate(self._places.due(n, of_subject[chosen]) if self.balance else ()):
            its = np.where(of_subject == subject, value, -1.0)
            chosen = np.concatenate([chosen, self._best(its, chosen, places)])
        chosen = prompts[np.concatenate([chosen, self._best(value, chosen, n - len(chosen))])]
        # Few may be left under the cap on visits: any others.
        return np.concatenate([chosen, any_but(np.sort(chosen), len(self.pool), n - len(chosen), self.rng)])

    def _best(self, value: FloatArray, taken: IndexArray, n: int) -> IndexArray:
        """The `n` prompts of highest value, ties at random; fewer where fewer of a positive one are not taken."""
        free = value > 0
        free[taken] = False
        return highest(value, n, self.rng, free)

    def outlook(self, n: int, group_size: int) -> tuple[float, float]:
        first = highest(self._survey()[0], n, np.random.default_rng(0))
        drawn, pool = (chance_to_differ(self.posterior(one), group_size) for one in (first, self.pool.sample))
        return float(drawn.mean()), float(pool.mean())

    def metrics(self) -> dict[str, float]:
        good, bad = self.posterior(self.pool.sample).T
        found = quantile_metrics("pass_rate", good / (good + bad))
        return found | {"prediction_strength": self.model.strength} | self.model.slopes()

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {
            "model": self.model.state_dict(),
            "evidence": self.evidence.copy(),
            "seen_at": self._seen_at.copy(),
            "looked_at": self._looked_at,
            "owed": self._places.owed.copy(),
            "review_owed": self._review_owed,
            "step": self._step,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        with within("model"):
            self.model.load_state_dict(entry(state, "model"), self.pool)
        self.evidence = column(state, "evidence", self.pool, np.float32, 0.0, 2, least=0.0)
        self._seen_at = column(state, "seen_at", self.pool, np.int32, -1, least=-1, most=latest_step())
        looked_at = entry(state, "looked_at")
        self._looked_at = None if looked_at is None else positions(state, "looked_at", self.pool)
        subjects = len(self._places.owed)
        owed = array(state, "owed", np.float64, subjects if self.pool.saved == len(self.pool) else None)
        if len(owed) == subjects:  # some may have been added
            self._places.owed = owed.copy()
        self._review_owed = number(state, "review_owed", *CARRIED_OVER)
        self._step, self._fitted = step_number(state, "step"), False
        if self.scores.known.any():
            self.log_odds.learn(EVERYONE)
