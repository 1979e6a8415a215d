"""Strategies that follow the rewards, against references written here the plain way."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edco_rl.errors import ConfigurationError

from .drawing import draw, flat, make, reward


def test_mopps_keeps_a_discounted_beta_posterior_and_draws_near_the_target():
    curriculum = make("mopps", pool_size=3, batch_size=1, strategy_kwargs={"discount": 0.5})
    for version in range(2):
        reward(curriculum, [(1.0, 1.0, 1.0, 1.0), (1.0, 0.0, 0.5, 0.5), (0.0, 0.0, 0.0, 0.0)], version)
    assert curriculum.strategy.evidence.tolist() == [[2 + 4, 0], [1 + 2, 1 + 2], [0, 2 + 4]]
    drawn = flat(draw(curriculum, 300))
    # Brute force: how often the middle one is nearest 0.5 among three independent draws.
    rates = np.random.default_rng(9).beta([1 + 6, 1 + 3, 1 + 0], [1 + 0, 1 + 3, 1 + 6], size=(20000, 3))
    expected = np.bincount(np.abs(rates - 0.5).argmin(axis=1), minlength=3) / 20000
    assert np.bincount(drawn, minlength=3) / 300 == pytest.approx(expected, abs=0.08)


@pytest.mark.parametrize("name", ["mopps", "learning_edge"])
def test_rewards_that_are_no_chances_are_refused(name):
    message = rf"{name} needs rewards between 0 and 1; prompt 'p1' got \[0.0, 3.0\]"
    with pytest.raises(ConfigurationError, match=message):
        reward(make(name), [None, (0.0, 3.0)])


def test_mopps_looks_at_some_candidates_of_a_pass_for_each_place():
    """Every prompt of a pass is a candidate once; of a batch's candidates those nearest the target are taken."""
    kwargs = {"candidates": 4, "discount": 1.0}
    curriculum = make("mopps", pool_size=24, batch_size=3, size=6, strategy_kwargs=kwargs)
    easy, hard = (1.0,) * 400, (0.0,) * 400
    # One in four prompts has a rate near 0.5; the others are far from it.
    reward(curriculum, [(0.0, 1.0) * 200 if i % 4 == 0 else easy if i % 2 else hard for i in range(24)])
    for _ in range(20):
        pair = draw(curriculum, 2)  # two batches of 12 candidates: a pass
        middle = [sum(i % 4 == 0 for i in batch) for batch in pair]
        assert sum(middle) <= 6 and len(set(flat(pair))) == 6
    batches = draw(curriculum, 200)
    # Of 12 candidates 3 are near on average, but seldom exactly 3: not every batch is full of them.
    assert 0.6 < np.mean([i % 4 == 0 for i in flat(batches)]) < 0.95
    whole = make("mopps", pool_size=24, batch_size=3, size=6, strategy_kwargs={"candidates": None})
    whole.load_state_dict({**curriculum.state_dict(), "settings": whole.settings})
    assert all(i % 4 == 0 for i in flat(draw(whole, 200)))


def test_mopps_counts_answers_from_a_reward_on_as_right():
    curriculum = make("mopps", pool_size=2, batch_size=1, strategy_kwargs={"success_at": 1.0})
    for version in range(2):
        reward(curriculum, [(1.1, 1.0, 0.1, 0.9), (-1.0, 0.0)], version)
    # The published discount for mathematics, 1, forgets nothing.
    assert curriculum.strategy.evidence.tolist() == [[4, 4], [0, 4]]


def nearest_as_published(difficulty, rewards, n):
    """How far the prompts of each batch are from the target, on the authors' own scale of 0 to 100."""
    target = 0.0
    for mean in [*rewards, 0.0]:
        yield sorted(abs(value - target) for value in difficulty)[:n], target
        target = min(max(target + 50.0 * np.tanh(2.0 * (mean - 0.5)), 0.0), 100.0)


@given(
    difficulty=st.lists(st.integers(0, 100), min_size=4, max_size=12),
    rewards=st.lists(st.sampled_from([0.0, 0.125, 0.5, 0.75, 1.0]), max_size=6),
)
def test_adarft_takes_the_nearest_as_published(difficulty, rewards):
    """Of equally near ones the first, whose order the authors' sort leaves open; prompts may come again at once."""
    kwargs = {"column": "difficulty", "difficulty_range": [0, 100]}
    shape = {"pool_size": len(difficulty), "batch_size": 2, "columns": {"difficulty": difficulty}}
    curriculum = make("adarft", strategy_kwargs=kwargs, **shape)
    assert curriculum.next_batch().tolist() == sorted(range(len(difficulty)), key=difficulty.__getitem__)[:2]
    for mean, (distances, target) in zip([*rewards, 0.0], nearest_as_published(difficulty, rewards, 2), strict=True):
        found = [abs(difficulty[i] - target) for i in curriculum.next_batch()]
        assert found == pytest.approx(distances, abs=1e-6)
        reward(curriculum, [(mean,)])


def test_adarft_without_a_range_takes_quantiles_and_can_take_the_least_visited():
    kwargs = {"column": "difficulty", "least_visited": True}
    columns = {"difficulty": [2.0**i for i in range(12)]}
    curriculum = make("adarft", batch_size=2, size=4, columns=columns, strategy_kwargs=kwargs)
    assert draw(curriculum, 2) == [[0, 1], [2, 3]]
    reward(curriculum, [(1.0,), (1.0,)])
    expected = 0.5 * np.tanh(2.0 * 0.5)
    assert curriculum.strategy.target == pytest.approx(expected)
    nearest = sorted(range(12), key=lambda i: abs(i / 11 - expected))[:4]
    visits = {i: int(i < 4) for i in nearest}
    assert curriculum.next_batch().tolist() == sorted(nearest, key=visits.__getitem__)[:2]
    for _ in range(5):
        reward(curriculum, [(0.0,)] * 3)
    assert curriculum.strategy.target == 0.0
