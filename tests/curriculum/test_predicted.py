"""Pass rates predicted from scores."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from edco_rl.curriculum import Outcome
from edco_rl.curriculum.predicted import logistic_regression

from .drawing import make, reward, score


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.integers(1, 40))
def test_logistic_regression_is_that_of_scikit_learn(seed, groups):
    rng = np.random.default_rng(seed)
    x, successes, failures = rng.normal(size=groups), rng.uniform(0, 4, groups), rng.uniform(0, 4, groups)
    # Its prior leaves the intercept out, so that is the slope of a constant here; a fraction counts as a weight.
    design = np.column_stack([np.ones_like(x), x])
    reference = LogisticRegression(C=9.0, fit_intercept=False, tol=1e-10, max_iter=1000)
    labels, weights = np.repeat([1, 0], groups), np.concatenate([successes, failures])
    reference.fit(np.concatenate([design, design]), labels, sample_weight=weights)
    assert logistic_regression(x, successes, failures) == pytest.approx(reference.coef_[0], abs=1e-4)


@pytest.mark.parametrize("sign", [1, -1])
def test_predicted_pass_rate_finds_the_prompts_in_reach_by_a_score_of_either_direction(sign):
    """The rates of prompts follow from their scores; random order would meet one in ten that is in reach."""
    rng = np.random.default_rng(3)
    scores = rng.normal(size=400)
    rates = 1 / (1 + np.exp(-(4 * scores - 8)))
    in_reach = (rates > 0.1) & (rates < 0.9)
    curriculum = make("predicted_pass_rate", pool_size=400, batch_size=8, size=80)
    score(curriculum, sign * scores)
    shares = []
    for version in range(30):
        batch = curriculum.next_batch()
        shares.append(in_reach[batch].mean())
        groups = [Outcome(index=i, version=version, rewards=tuple(rng.random(4) < rates[i])) for i in batch]
        curriculum.observe(groups)
    assert in_reach.mean() < 0.1 and np.mean(shares[:3]) < 0.5 < np.mean(shares[5:])
    found = curriculum.strategy.rates()
    assert np.abs(found - rates).mean() < 0.05


def test_predicted_pass_rate_forgets_groups_and_takes_prompts_without_a_score_for_the_target():
    def rates(**kwargs):
        curriculum = make("predicted_pass_rate", pool_size=4, batch_size=1, size=1, **kwargs)
        score(curriculum, [-1.0, 1.0, 0.0, None])
        assert curriculum.strategy.rates().tolist() == [0.5] * 4
        reward(curriculum, [(0.0,) * 4, (1.0,) * 4], version=0)
        reward(curriculum, [(1.0,) * 4, (0.0,) * 4], version=40)
        return curriculum.strategy.rates()

    assert rates() == pytest.approx([0.5] * 4)
    faded = rates(half_life=5)
    assert faded[0] > 0.8 and faded[1] < 0.2 and faded[3] == 0.5
