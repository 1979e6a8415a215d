from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edco_rl.audit.groups import (
    best_signal,
    curriculum_signal,
    expected_steps_ratio,
    mean_of_highest,
    pool_shares,
    signal_chance,
)

VALUES = st.sampled_from([0.0, 0.1, 0.5, 1.0])
ANSWERS = st.lists(VALUES, min_size=2, max_size=7)


@given(ANSWERS, st.integers(2, 7))
def test_the_chance_of_a_signal_is_the_share_of_the_groups_that_can_be_drawn(answers, size):
    size = min(size, len(answers))
    drawn = [len(set(group)) > 1 for group in combinations(answers, size)]
    assert signal_chance(np.array([answers]), size)[0] == pytest.approx(np.mean(drawn))


def test_the_chance_of_a_signal_is_that_of_new_answers():
    """Over the binomial distribution of right answers it is 1 - p^G - (1 - p)^G."""
    samples, size, p = 9, 4, 0.3
    outcomes = np.array([[float(bit) for bit in f"{number:09b}"] for number in range(2**samples)])
    weights = np.prod(np.where(outcomes == 1, p, 1 - p), axis=1)
    assert weights @ signal_chance(outcomes, size) == pytest.approx(1 - p**size - (1 - p) ** size)


def test_rewards_that_rounding_sets_apart_are_equal_and_unknown_ones_say_nothing():
    rewards = np.array([[0.3, 0.1 + 0.2, 0.3], [0.0, 1.0, np.nan], [0.0, 1.0, 0.0]])
    np.testing.assert_allclose(signal_chance(rewards, 2), [0.0, np.nan, 2 / 3])
    assert [share.value for share in pool_shares(rewards).values()] == [0.0, 0.5, 0.5]


def test_a_pool_is_mastered_learnable_and_hopeless_prompts():
    rewards = np.array([[1.0, 1.0], [1.0, 0.0], [0.2, 0.2], [0.0, 0.0], [0.2, 0.4]])
    shares = pool_shares(rewards)
    assert {name: share.value for name, share in shares.items()} == {
        "mastered": 0.2,
        "learnable": 0.4,
        "hopeless": 0.4,
    }
    assert all(0 < share.low < share.value < share.high < 1 for share in shares.values())
    assert pool_shares(np.ones((20, 2)))["hopeless"].high > 0  # none seen is not none


@given(
    st.lists(st.tuples(st.integers(0, 3), st.floats(0, 1)), min_size=1, max_size=7),
    st.floats(0.01, 0.99),
)
def test_prompts_of_equal_score_count_equally(prompts, share):
    scores, values = np.array(prompts, dtype=float).T
    count = max(1, round(share * len(prompts)))
    chosen = list(combinations(range(len(prompts)), count))
    highest = max(sorted(scores[list(c)]) for c in chosen)
    equally_good = [values[list(c)].mean() for c in chosen if sorted(scores[list(c)]) == highest]
    assert mean_of_highest(scores, values, share) == pytest.approx(np.mean(equally_good), abs=1e-12)


def pool(rng, prompts=4000, samples=16):
    """Answers to a pool that is half learnable, 30 % hopeless and 20 % mastered, and their pass rates."""
    kind = rng.choice(3, size=prompts, p=[0.5, 0.3, 0.2])
    p = np.choose(kind, [rng.uniform(0.2, 0.8, size=prompts), 0.0, 1.0])
    return (rng.random((prompts, samples)) < p[:, None]).astype(float), p


def test_what_a_curriculum_would_draw_is_what_it_draws():
    rng = np.random.default_rng(0)
    rewards, p = pool(rng)
    scores = p * (1 - p) + rng.normal(scale=0.1, size=len(p))
    found = curriculum_signal(scores, signal_chance(rewards, 4), 0.25)
    drawn = np.argsort(-scores)[: len(p) // 4]
    groups = rng.random((len(drawn), 200, 4)) < p[drawn, None, None]
    seen = np.mean(groups.any(axis=2) & ~groups.all(axis=2))
    assert found.low < seen < found.high and found.value == pytest.approx(seen, abs=0.03)


def test_luck_in_the_answers_is_no_better_curriculum():
    rng = np.random.default_rng(1)
    rewards = (rng.random((2000, 16)) < 0.1).astype(float)  # all prompts are alike
    found = best_signal(rewards, 4, 0.25)
    assert found.low < 1 - 0.9**4 - 0.1**4 < found.high
    lucky = mean_of_highest(rewards.var(axis=1), signal_chance(rewards, 4), 0.25)
    assert lucky > found.value + 0.2


def test_the_best_possible_is_between_random_order_and_knowing_all():
    rng = np.random.default_rng(2)
    rewards, p = pool(rng)
    truth = 1 - p**4 - (1 - p) ** 4
    found = best_signal(rewards, 4, 0.25)
    knowing_all = mean_of_highest(p * (1 - p), truth, 0.25)
    assert truth.mean() < found.low < found.value <= knowing_all + 0.02
    assert found.value > 0.9 * knowing_all


def test_an_interval_narrows_with_the_pool_and_widens_with_its_level():
    rng = np.random.default_rng(3)
    rewards, p = pool(rng)
    chances = signal_chance(rewards, 4)

    def width(prompts, level):
        found = curriculum_signal(p[:prompts], chances[:prompts], 0.25, confidence_level=level)
        return found.high - found.low

    assert width(4000, 0.95) < width(200, 0.95) < width(200, 0.999)


def test_steps_are_expected_in_inverse_proportion_to_the_groups_with_a_signal():
    assert expected_steps_ratio(0.5, 0.25) == pytest.approx(0.616, abs=1e-3)  # 2 ** -0.7
    assert expected_steps_ratio(0.3, 0.3) == 1.0
    assert expected_steps_ratio(0.0, 0.25) is None
