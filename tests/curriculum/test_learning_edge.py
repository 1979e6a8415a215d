"""Pass rates predicted from scores, subjects and rewards, and what is drawn by them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import betabinom
from sklearn.linear_model import LogisticRegression

from edco_rl.curriculum import Outcome
from edco_rl.curriculum.regression import likelihoods, logistic_regression, prediction_strength
from edco_rl.errors import ConfigurationError

from .drawing import draw, flat, make, reward, score


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.integers(1, 40))
def test_logistic_regression_is_that_of_scikit_learn(seed, groups):
    rng = np.random.default_rng(seed)
    x, successes, failures = rng.normal(size=(groups, 2)), rng.uniform(0, 4, groups), rng.uniform(0, 4, groups)
    subject = rng.integers(0, 3, groups)
    # Its prior leaves the intercept out, so that is the slope of a constant here; a fraction counts as a weight.
    design = np.column_stack([np.ones(groups), x, np.eye(3)[subject]])
    reference = LogisticRegression(C=9.0, fit_intercept=False, tol=1e-10, max_iter=1000)
    labels, weights = np.repeat([1, 0], groups), np.concatenate([successes, failures])
    reference.fit(np.concatenate([design, design]), labels, sample_weight=weights)
    found = logistic_regression(x, subject, successes, failures, np.zeros(6), np.full(6, 9.0))
    assert found == pytest.approx(reference.coef_[0], abs=1e-4)


def test_without_groups_a_regression_is_its_prior():
    nothing = np.empty((0, 1)), np.empty(0, dtype=np.int64), np.empty(0), np.empty(0)
    assert logistic_regression(*nothing, np.array([0.5, 1.0, 2.0]), np.ones(3)).tolist() == [0.5, 1.0, 2.0]


@pytest.mark.parametrize("strength", [1.0, 30.0])
def test_the_strength_of_predictions_is_found_from_what_came_of_them(strength):
    rng = np.random.default_rng(5)
    predicted = rng.uniform(0.1, 0.9, 4000)
    successes = betabinom.rvs(8, predicted * strength, (1 - predicted) * strength, random_state=rng)
    likelihood = likelihoods(predicted, successes, 8 - successes)
    assert strength / 1.5 < prediction_strength(likelihood, np.ones(4000)) < strength * 1.5
    # A group that counts nothing is none.
    other = np.where(np.arange(4000) < 2000, 8 - successes, successes)
    found = prediction_strength(likelihoods(predicted, other, 8 - other), np.arange(4000) >= 2000)
    assert strength / 1.5 < found < strength * 1.5


def simulate(rates, scores, steps=30, seed=0, size=4, columns=None, **kwargs):
    """Chances that a group drawn at each step differs in rewards; the curriculum."""
    rng = np.random.default_rng(seed)
    curriculum = make(
        "learning_edge", pool_size=len(rates), batch_size=8, size=80, columns=columns, strategy_kwargs=kwargs
    )
    if scores is not None:
        score(curriculum, scores)
    chances = []
    for version in range(steps):
        batch = curriculum.next_batch()
        chances.append(signal(rates[batch], size).mean())
        curriculum.observe(
            [Outcome(index=i, version=version, rewards=tuple(map(float, rng.random(size) < rates[i]))) for i in batch]
        )
    return np.array(chances), curriculum


def signal(rates, size=4):
    return 1 - rates**size - (1 - rates) ** size


def mixed(seed, mastered=0.6, hopeless=0.25, size=600):
    rng = np.random.default_rng(seed)
    kind = rng.choice(3, size, p=[mastered, 1 - mastered - hopeless, hopeless])
    log_odds = rng.normal(np.array([5.0, 0.0, -6.0])[kind], 1.0)
    return rng, kind, log_odds, 1 / (1 + np.exp(-log_odds))


@pytest.mark.parametrize("seed", range(3))
def test_with_the_chance_of_the_reference_most_groups_have_a_signal_from_the_first(seed):
    rng, _, log_odds, rates = mixed(seed)
    chances, _ = simulate(rates, np.log1p(np.exp(-log_odds + rng.normal(0, 0.8, len(rates)))), seed=seed)
    best = np.sort(signal(rates))[-240:].mean()  # as many prompts as are drawn
    assert signal(rates).mean() < 0.2 and chances.min() > 0.3 and chances.mean() > 0.75 * best


@pytest.mark.parametrize("seed", range(3))
def test_subjects_and_rewards_find_what_a_useless_score_does_not(seed):
    rng, kind, _, rates = mixed(seed)
    subject = np.where(rng.random(len(kind)) < 0.9, kind, rng.integers(0, 3, len(kind)))
    columns = {"subject": [f"subject {number}" for number in subject]}
    useless = rng.uniform(0, 2, len(rates))
    with_subjects, curriculum = simulate(rates, useless, seed=seed, columns=columns)
    without, _ = simulate(rates, useless, seed=seed)
    assert with_subjects[5:].mean() > 2.5 * signal(rates).mean() and without[5:].mean() > 1.3 * signal(rates).mean()
    assert abs(curriculum.metrics()["score_slope"]) < 0.5


@pytest.mark.parametrize("sign", [1, -1])
def test_it_does_not_matter_in_which_direction_a_score_points(sign):
    rng = np.random.default_rng(3)
    scores = rng.normal(size=400)
    rates = 1 / (1 + np.exp(-(4 * scores - 8)))
    chances, curriculum = simulate(rates, sign * scores)
    assert chances[10:].mean() > 2 * signal(rates).mean()
    assert np.abs(curriculum.strategy.rates() - rates).mean() < 0.1


def test_before_there_are_rewards_the_rate_is_the_chance_of_the_reference():
    curriculum = make("learning_edge", pool_size=4, batch_size=1, size=1)
    rates = np.array([0.02, 0.4, 0.9])
    score(curriculum, [*-np.log(rates), None])
    assert curriculum.strategy.rates()[:3] == pytest.approx(rates)
    # A prompt of which nothing is known is in the middle of the others.
    assert curriculum.strategy.rates()[3] == pytest.approx(1 / (1 + np.exp(-np.log(rates / (1 - rates)).mean())))
    assert flat(draw(curriculum, 1)) == [1]


def test_the_outlook_is_the_chance_that_rewards_differ():
    """Against rates drawn from each prompt's distribution, and groups from these."""
    curriculum = make("learning_edge", pool_size=40, batch_size=4, size=4)
    rng = np.random.default_rng(0)
    score(curriculum, rng.exponential(1.0, 40))
    reward(curriculum, [(0.0, 1.0, 1.0) if i % 3 == 0 else None for i in range(40)])
    good, bad = curriculum.strategy.posterior().T
    successes = rng.binomial(5, rng.beta(good, bad, size=(40_000, 40)))
    chances = ((successes > 0) & (successes < 5)).mean(axis=0)
    drawn = np.argsort(-curriculum.strategy.value())[:6]
    expected = chances[drawn].mean(), chances.mean()
    assert curriculum.strategy.outlook(6, 5) == pytest.approx(expected, abs=0.01)


def test_a_prompts_own_rewards_count_most_when_they_are_new():
    def rate(half_life):
        curriculum = make("learning_edge", pool_size=2, batch_size=1, size=1, half_life=half_life)
        score(curriculum, [0.7, 0.7])
        reward(curriculum, [(0.0,) * 8, None], version=0)
        curriculum.renew(40)
        good, bad = curriculum.strategy.posterior()[0]
        return good / (good + bad)

    assert rate(half_life=1000) < 0.25 < rate(half_life=4)


def test_drawn_prompts_are_diverse_and_some_are_mastered():
    scores = np.full(100, 0.7)
    scores[:20] = 0.001

    def drawn(**kwargs):
        curriculum = make("learning_edge", pool_size=100, batch_size=10, size=10, strategy_kwargs=kwargs)
        score(curriculum, scores)
        return np.array(flat(draw(curriculum, 8)))

    assert len(set(drawn(review=0.0))) == 80 and (drawn(review=0.0) >= 20).all()
    assert len(set(drawn(diversity=0.0))) < 80
    assert (drawn(review=0.25) < 20).sum() == 20


def test_half_of_what_is_scored_again_are_the_prompts_that_come_next():
    curriculum = make("learning_edge", pool_size=40, batch_size=4, size=4)
    assert len(set(curriculum.wants(10))) == 10  # nothing is known yet
    score(curriculum, np.where(np.arange(40) < 5, 0.7, 5.0))
    wanted = [curriculum.wants(10).tolist() for _ in range(20)]
    assert all(set(range(5)) < set(one) and len(set(one)) == 10 for one in wanted)
    assert len({index for one in wanted for index in one}) > 30
    assert curriculum.wants(50).tolist() == list(range(40))


def test_each_subject_can_keep_its_share():
    """The first subject has the best scores, and three quarters of the pool are of the others."""
    columns = {"subject": [f"s{i % 4}" for i in range(80)]}
    kwargs = {"balance": True, "review": 0.0}
    curriculum = make("learning_edge", pool_size=80, batch_size=6, size=20, columns=columns, strategy_kwargs=kwargs)
    score(curriculum, [0.7 if i % 4 == 0 else 3.0 for i in range(80)])
    batches = np.array(draw(curriculum, 10)) % 4
    assert np.bincount(batches.ravel()).tolist() == [15] * 4
    with pytest.raises(ConfigurationError, match="balance: the data set has no column 'topic'"):
        make("learning_edge", strategy_kwargs={"balance": True, "subjects": "topic"})


def test_the_target_moves_from_easy_to_hard():
    rates = np.linspace(0.02, 0.98, 97)
    kwargs = {"target": 0.9, "final_target": 0.2, "target_steps": 10, "review": 0.0}
    curriculum = make("learning_edge", pool_size=97, batch_size=4, size=4, strategy_kwargs=kwargs)
    score(curriculum, -np.log(rates))
    first = rates[curriculum.next_batch()].mean()
    curriculum.renew(10)
    last = rates[curriculum.next_batch()].mean()
    # The value of a rate averages over what the rate could be, which draws both a little to the middle.
    assert first > 0.8 and last < 0.3


def test_it_goes_on_after_a_restart_as_if_nothing_had_been():
    rng, kind, _, rates = mixed(1, size=60)
    columns = {"subject": [str(number) for number in kind]}
    _, curriculum = simulate(rates, rng.uniform(0, 2, 60), steps=5, columns=columns, balance=True, review=0.2)
    again = make(
        "learning_edge",
        pool_size=60,
        batch_size=8,
        size=80,
        columns=columns,
        strategy_kwargs={"balance": True, "review": 0.2},
    )
    again.load_state_dict(curriculum.state_dict())
    groups = [Outcome(index=i, version=6, score=0.3, rewards=(0.0, 1.0)) for i in range(7)]
    for one in (curriculum, again):
        one.observe(groups)
    assert draw(curriculum, 6) == draw(again, 6) and curriculum.digest == again.digest


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"target": 0.0}, "targets between 0 and 1; got 0.0"),
        ({"final_target": 0.3}, "both final_target and target_steps"),
        ({"review": 1.0}, "review from 0 to below 1"),
        ({"diversity": -1.0}, "diversity from 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(kwargs, message):
    with pytest.raises(ConfigurationError, match=message):
        make("learning_edge", strategy_kwargs=kwargs)
