"""A curriculum is compared with random order by the run's own counts: warned of, or left, where it falls short."""

from typing import ClassVar

import numpy as np
import pytest

from edco_rl.curriculum import Outcome, Strategy
from edco_rl.errors import ConfigurationError

from .drawing import as_read, make, plain


class Blind(Strategy):
    """Chooses at random: equal to random order."""

    def wants(self, budget):
        return self.any_prompts(budget)

    def select(self, n):
        return self.rng.choice(len(self.pool), n, replace=False)


class FirstOnes(Strategy):
    def select(self, n):
        return np.arange(n)


class InOrder(Strategy):
    def select(self, n):
        if len(self.queue) < n:
            self.queue = np.arange(len(self.pool))
        return self.take(n)


class OfOurs(FirstOnes):
    trainer_defaults: ClassVar = {"curriculum_fallback": True}


def chances(kind, rng, size=400):
    """Four in ten prompts can be learned, three are mastered, three hopeless; scores tell, lie or say nothing."""
    learnable, mastered = rng.random(size) < 0.4, rng.random(size) < 0.5
    rates = np.where(learnable, rng.uniform(0.2, 0.8, size), np.where(mastered, 0.98, 0.005))
    return rates, {"good": 1, "bad": -1, "blind": 0}[kind] * 4 * rates * (1 - rates) + rng.normal(0, 0.3, size)


class Simulation:
    """A curriculum over such a pool: four batches between two renewals, groups of four."""

    def __init__(self, strategy, kind, seed, **kwargs):
        self.rng = np.random.default_rng(seed)
        self.rates, self.scores = chances(kind, self.rng)
        self.made_with = {"pool_size": len(self.rates), "batch_size": 16, "size": 64, "seed": seed, **kwargs}
        self.strategy = strategy
        self.curriculum = make(strategy, **self.made_with)
        self.drawn = []
        self.notices = {}

    def resume(self):
        state, before = as_read(self.curriculum), plain(self.curriculum)
        self.curriculum = make(self.strategy, **self.made_with)
        self.curriculum.load_state_dict(state)
        assert plain(self.curriculum) == before

    def run(self, renewals, resume_at=(), first=0):
        for renewal in range(first, renewals):
            noisy = self.scores + self.rng.normal(0, 0.05, len(self.scores))
            wanted = self.curriculum.wants(None)
            self.curriculum.observe([Outcome(int(i), renewal, score=float(noisy[i])) for i in wanted])
            notice = self.curriculum.renew(renewal)
            if notice is not None:
                self.notices[renewal] = notice
            for number in range(4):
                batch = self.curriculum.next_batch().tolist()
                self.drawn.append(batch)
                if (renewal, number) in resume_at:
                    self.resume()
                groups = [tuple((self.rng.random(4) < self.rates[i]).astype(float)) for i in batch]
                outcomes = [Outcome(i, renewal, rewards=g) for i, g in zip(batch, groups, strict=True)]
                self.curriculum.observe(outcomes[::-1])
        return self


@pytest.mark.parametrize("seed", range(5))
def test_a_curriculum_that_leads_away_from_signal_is_warned_of_once_after_three_renewals(seed):
    found = Simulation("edco", "bad", seed, exploration=0.25).run(12)
    [(renewal, notice)] = found.notices.items()
    assert renewal in (3, 4)  # the first one begins training
    assert notice.startswith(f"Optimizer step {renewal}, strategy 'edco': in the last 3 intervals rewards differed in")
    assert "in random order it would have been" in notice and "equal_rewards" in notice
    metrics = found.curriculum.metrics()
    truth = np.mean(1 - found.rates**4 - (1 - found.rates) ** 4)
    assert metrics["signal_random"] == pytest.approx(truth, abs=0.2) and metrics["signal_drawn"] < 0.15
    assert "fallback" not in metrics


def test_a_good_curriculum_is_never_warned_of():
    for seed in range(30):
        for exploration in (0.0, 0.1, 0.5):
            found = Simulation("edco", "good", seed, exploration=exploration).run(12)
            assert not found.notices and found.curriculum.metrics()["signal_drawn"] > 0.5


def test_a_curriculum_that_equals_random_order_is_seldom_warned_of():
    """In 26 of 500 runs of forty renewals (`tests/benchmarks/signal_watch.py`); here there are twelve."""
    runs = [
        Simulation(f"{__name__}:Blind", "blind", seed, exploration=exploration).run(12)
        for seed in range(40)
        for exploration in (0.0, 0.25)
    ]
    assert sum(bool(run.notices) for run in runs) <= 4


def test_without_draws_at_random_or_ranges_that_are_known_nothing_is_claimed():
    found = Simulation("edco", "bad", 0).run(12)
    assert not found.notices and "signal_random" not in found.curriculum.metrics()
    assert found.curriculum.metrics()["signal_drawn"] < 0.2


def test_random_order_has_nothing_to_be_compared_with():
    assert (
        not {"signal_drawn", "fallback"}
        & Simulation("random", "bad", 0, exploration=0.5).run(5).curriculum.metrics().keys()
    )


def observe_batch(curriculum, signals, group=(0.0, 1.0)):
    batch = curriculum.next_batch().tolist()
    outcomes = [Outcome(i, 0, rewards=group if s else group[:1] * 2) for i, s in zip(batch, signals, strict=True)]
    curriculum.observe(outcomes)
    return batch


def test_the_shares_are_those_of_groups_chosen_and_of_groups_drawn_at_random():
    curriculum = make(f"{__name__}:FirstOnes", pool_size=40, batch_size=8, size=8, exploration=0.5)
    curriculum.renew(0)
    for number in range(3):
        batch = observe_batch(curriculum, [True, False, False, False, True, True, False, number == 0])
        assert batch[:4] == [0, 1, 2, 3]
    assert "signal_drawn" not in curriculum.metrics()  # of intervals that are over
    curriculum.renew(1)
    assert curriculum.metrics()["signal_drawn"] == 1 / 4
    assert curriculum.metrics()["signal_random"] == 7 / 12
    observe_batch(curriculum, [True] * 4 + [False] * 4)
    curriculum.renew(2)
    assert curriculum.metrics()["signal_drawn"] == 1 and curriculum.metrics()["signal_random"] == 7 / 16


def test_without_draws_at_random_each_range_of_scores_counts_by_its_share_of_the_pool():
    """Prompts are drawn from the first, ten of forty have no score; of a range only prompts new to the run count."""

    curriculum = make(f"{__name__}:InOrder", pool_size=40, batch_size=8, size=8)
    values = [i // 6 for i in range(30)]  # five ranges of six prompts
    curriculum.observe([Outcome(i, 0, score=float(v)) for i, v in enumerate(values)])
    curriculum.renew(0)
    signals = {i: i % (2 + i // 6) == 0 for i in range(40)}
    for number in range(5):
        batch = range(8 * number, 8 * number + 8)
        assert observe_batch(curriculum, [signals[i] for i in batch]) == list(batch)
    curriculum.renew(1)
    parts = [range(6 * k, 6 * k + 6) for k in range(5)] + [range(30, 40)]
    expected = sum(len(part) / 40 * np.mean([signals[i] for i in part]) for part in parts)
    assert curriculum.metrics()["signal_random"] == pytest.approx(expected)
    for _ in range(5):  # seen again: the estimate stays
        observe_batch(curriculum, [True] * 8)
    curriculum.renew(2)
    assert curriculum.metrics()["signal_random"] == pytest.approx(expected)
    assert curriculum.metrics()["signal_drawn"] == 1


def test_groups_of_one_and_prompts_that_were_not_drawn_are_not_counted():
    curriculum = make(f"{__name__}:FirstOnes", pool_size=40, batch_size=8, size=8, exploration=0.5)
    curriculum.renew(0)
    for i in curriculum.next_batch():
        curriculum.observe([Outcome(int(i), 0, rewards=(1.0,))])
    curriculum.observe([Outcome(30, 0, rewards=(0.0, 1.0))])
    curriculum.renew(1)
    assert "signal_drawn" not in curriculum.metrics()


@pytest.mark.parametrize("seed", range(3))
def test_with_fallback_random_order_takes_over_for_good_and_says_so(seed):
    found = Simulation("edco", "bad", seed, exploration=0.25, fallback=True).run(3)
    assert found.curriculum.metrics()["fallback"] == 0
    found.run(12, first=3)
    [(renewal, notice)] = found.notices.items()
    assert renewal in (3, 4) and notice.endswith(
        "From here on prompts are drawn in random order (curriculum_fallback)."
    )
    assert found.curriculum.metrics()["fallback"] == 1 and len(found.curriculum.wants(None)) == 0
    # Random order as the strategy of that name draws it: passes over the pool's own order.
    chosen = [batch[:12] for batch in found.drawn[4 * renewal :]]
    order = found.curriculum.pool.order(0).tolist()
    assert chosen[:33] == [order[12 * i : 12 * i + 12] for i in range(33)]


def test_a_strategy_can_bring_fallback_along_and_settings_come_before_it():
    settings = {"pool_size": 12, "batch_size": 3, "size": 3}
    assert make(f"{__name__}:OfOurs", **settings).fallback
    assert not make(f"{__name__}:OfOurs", **settings, fallback=False).fallback
    assert not make("edco", **settings).fallback and make("edco", **settings, fallback=True).fallback


@pytest.mark.parametrize("fallback", [False, True])
def test_what_was_counted_resumes_exactly_before_and_after_the_notice(fallback):
    def run(resume_at=()):
        return Simulation("edco", "bad", 1, exploration=0.25, fallback=fallback).run(8, resume_at)

    whole, resumed = run(), run(resume_at={(0, 2), (2, 3), (3, 0), (6, 1)})
    assert whole.notices and whole.notices == resumed.notices
    assert whole.drawn == resumed.drawn and whole.curriculum.digest == resumed.curriculum.digest
    assert plain(whole.curriculum) == plain(resumed.curriculum)


def test_fallback_can_be_turned_on_after_the_warning_and_a_run_that_fell_back_stays():
    found = Simulation("edco", "bad", 1, exploration=0.25).run(6)
    assert found.notices
    found.made_with["fallback"] = True
    found.resume()
    found.run(7, first=6)
    assert found.curriculum.metrics()["fallback"] == 1
    found.made_with["fallback"] = False
    found.resume()
    assert found.curriculum.fell_back
    with pytest.raises(ConfigurationError, match="curriculum_exploration"):
        found.made_with["exploration"] = 0.0
        found.resume()
