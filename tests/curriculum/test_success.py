"""Strategies that follow the rewards, against references written here the plain way."""

import numpy as np
import pytest

from edco_rl.errors import ConfigurationError

from .drawing import draw, flat, make, reward


def test_mopps_keeps_a_discounted_beta_posterior_and_draws_near_the_target():
    curriculum = make("mopps", pool_size=3, batch_size=1, strategy_kwargs={"discount": 0.5})
    for version in range(2):
        reward(curriculum, [(1.0, 1.0, 1.0, 1.0), (1.0, 0.0, 0.5, 0.5), (0.0, 0.0, 0.0, 0.0)], version)
    evidence = curriculum.state_dict()["strategy_state"]["evidence"]
    assert evidence == {"p0": [2 + 4, 0], "p1": [1 + 2, 1 + 2], "p2": [0, 2 + 4]}
    drawn = flat(draw(curriculum, 300))
    # Brute force: how often the middle one is nearest 0.5 among three independent draws.
    rates = np.random.default_rng(9).beta([1 + 6, 1 + 3, 1 + 0], [1 + 0, 1 + 3, 1 + 6], size=(20000, 3))
    expected = np.bincount(np.abs(rates - 0.5).argmin(axis=1), minlength=3) / 20000
    assert np.bincount(drawn, minlength=3) / 300 == pytest.approx(expected, abs=0.08)


@pytest.mark.parametrize("name", ["mopps", "predicted_pass_rate"])
def test_rewards_that_are_no_chances_are_refused(name):
    message = rf"{name} needs rewards between 0 and 1; prompt 'p1' got \[0.0, 3.0\]"
    with pytest.raises(ConfigurationError, match=message):
        reward(make(name), [None, (0.0, 3.0)])


def test_adarft_moves_its_target_with_the_reward():
    columns = {"difficulty": list(range(12))}
    kwargs = {"column": "difficulty", "step_size": 0.5}
    curriculum = make("adarft", batch_size=3, size=3, columns=columns, strategy_kwargs=kwargs)
    assert sorted(curriculum.next_batch()) == [0, 1, 2]
    reward(curriculum, [(1.0,), (1.0,), (1.0,)])
    expected = 0.5 * np.tanh(2.0 * 0.5)
    assert curriculum.strategy.target == pytest.approx(expected)
    nearest = sorted(range(12), key=lambda i: abs(i / 11 - expected))[:3]
    assert sorted(curriculum.next_batch()) == sorted(nearest)
    for _ in range(5):
        reward(curriculum, [(0.0,)] * 3)
    assert curriculum.strategy.target == 0.0
