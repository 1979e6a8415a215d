"""A linear head on vectors of prompts: its regression, what it adds to learning_edge, and what it is kept as."""

import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from edco_rl.curriculum import Outcome, Pool
from edco_rl.curriculum.linear_head import LinearHead, leave_one_out
from edco_rl.errors import ConfigurationError

from .drawing import as_read, draw, make, plain, score
from .test_learning_edge import signal


def scikit_learn(vectors, successes, failures, variance):
    """Coefficients and intercept with the same priors, 4 is the intercept's variance; fractions count as weights."""
    scale = (4 / variance) ** 0.5
    design = np.column_stack([vectors, np.full(len(vectors), scale)])
    model = LogisticRegression(C=variance, fit_intercept=False, tol=1e-10, max_iter=10_000)
    labels, weights = np.repeat([1, 0], len(vectors)), np.concatenate([successes, failures])
    model.fit(np.concatenate([design, design]), labels, sample_weight=weights)
    return model.coef_[0, :-1], model.coef_[0, -1] * scale


@pytest.mark.parametrize("variance", [0.1, 1.0, 10.0])
def test_each_prompt_is_predicted_as_by_a_fit_without_it(variance):
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(40, 60)) / 60**0.5
    rates = expit(vectors @ rng.normal(0, 2, 60))
    successes = rng.binomial(8, rates) * 0.7
    failures = 8 * 0.7 - successes
    weights, added, likelihood = leave_one_out(variance * vectors @ vectors.T, successes, failures)
    coefficients, _ = scikit_learn(vectors, successes, failures, variance)
    assert variance * vectors.T @ weights == pytest.approx(coefficients, abs=1e-3)
    expected, found = [], 0.0
    for row in range(40):
        rest = np.arange(40) != row
        coefficients, intercept = scikit_learn(vectors[rest], successes[rest], failures[rest], variance)
        expected.append(vectors[row] @ coefficients)
        rate = expit(expected[-1] + intercept)
        found += successes[row] * np.log(rate) + failures[row] * np.log(1 - rate)
    in_sample = vectors @ (variance * vectors.T @ weights)
    error = np.abs(added - expected).max()
    assert error < 0.15 and error < 0.2 * np.abs(in_sample - expected).max()
    assert likelihood == pytest.approx(found, rel=0.02)


def learned(counts, vectors):
    head = LinearHead(Pool([str(number) for number in range(len(vectors))]))
    head.learn(np.arange(len(vectors)), vectors.astype(np.float32), counts)
    return head.log_odds


def test_prompts_without_rewards_are_predicted_from_others_and_a_prompts_own_have_no_part():
    rng = np.random.default_rng(1)
    vectors = rng.normal(3.0, 5.0, size=(300, 50))
    log_odds = (vectors - 3) @ rng.normal(0, 2, 50) / 5 / 50**0.5
    good = rng.binomial(8, expit(log_odds - 1))
    counts = np.column_stack([good, 8 - good]) * (np.arange(300) < 200)[:, None]
    found = learned(counts, vectors)
    assert np.corrcoef(found[200:], log_odds[200:])[0, 1] > 0.8 and abs(found[200:].mean()) < 0.5
    other = counts.copy()
    other[7] = other[7, ::-1] if abs(good[7] - 4) > 2 else (8.0, 0.0)
    moved = np.abs(learned(other, vectors) - found)
    assert moved[7] < 0.15 and moved[[*range(7), *range(8, 300)]].max() > 0.01


def test_it_says_nothing_before_sixteen_prompts_have_rewards_and_learns_from_those_with_most():
    rng = np.random.default_rng(2)
    vectors = rng.normal(size=(1300, 4))
    good = rng.binomial(8, expit(2 * vectors[:, 0]))
    counts = np.column_stack([good, 8 - good]).astype(np.float64)
    few = np.where(np.arange(1300) < 15, 1.0, 0.0)[:, None]
    assert not learned(counts * few, vectors).any()
    # Rewards that count less than those of 1,024 others are as none.
    less = np.where(np.arange(1300) < 1024, 1.0, 0.01)[:, None]
    without = np.where(np.arange(1300) < 1024, 1.0, 0.0)[:, None]
    assert learned(counts * less, vectors) == pytest.approx(learned(counts * without, vectors), abs=1e-6)


def simulate(rates, scores, vectors, renewals=3, seed=0, **kwargs):
    """Mean chance, for each interval of eight batches of eight prompts, that a group drawn differs; the curriculum."""
    rng = np.random.default_rng(seed)
    kwargs = {"hidden_state": vectors is not None} | kwargs
    curriculum = make("learning_edge", pool_size=len(rates), batch_size=8, size=64, strategy_kwargs=kwargs)
    chances = []
    for renewal in range(renewals):
        renew(curriculum, scores, vectors, 8 * renewal)
        chances.append(0.0)
        for step in range(8 * renewal, 8 * renewal + 8):
            batch = curriculum.next_batch()
            chances[-1] += signal(rates[batch], 8).mean() / 8
            groups = [tuple(map(float, rng.random(8) < rates[i])) for i in batch]
            curriculum.observe([Outcome(i, step, rewards=group) for i, group in zip(batch, groups, strict=True)])
    return chances, curriculum


def renew(curriculum, scores, vectors, step):
    """As a trainer does it, when all prompts are scored."""
    curriculum.observe([Outcome(i, step, score=float(one)) for i, one in enumerate(scores)])
    wanted = curriculum.strategy.wants_hidden_states(np.arange(len(scores)))
    if len(wanted):
        curriculum.observe_hidden_states(wanted, vectors[wanted].astype(np.float32))
    curriculum.renew(step)


def pool(seed, size=600, width=30):
    """Vectors that say how likely a prompt is to come out well, of which most come out all alike."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(size, width))
    return rng, vectors, expit(vectors @ rng.normal(0, 6, width) / width**0.5 - 5)


@pytest.mark.parametrize("seed", range(3))
def test_vectors_that_tell_pass_rates_lead_to_more_signal_within_two_renewals(seed):
    rng, vectors, rates = pool(seed)
    useless = rng.uniform(0, 2, len(rates))
    with_head, curriculum = simulate(rates, useless, vectors, seed=seed)
    without, _ = simulate(rates, useless, None, seed=seed)
    assert with_head[0] == without[0]
    assert with_head[2] > 1.5 * without[2] and with_head[2] > 2.5 * signal(rates, 8).mean()
    assert curriculum.metrics()["head_slope"] > 0.7


@pytest.mark.parametrize("seed", range(3))
def test_useless_vectors_fade_within_two_renewals(seed):
    rng, _, rates = pool(seed)
    scores = np.log1p(np.exp(-np.log(rates / (1 - rates)) + rng.normal(0, 2, len(rates))))
    with_head, curriculum = simulate(rates, scores, rng.normal(size=(len(rates), 100)), seed=seed)
    without, _ = simulate(rates, scores, None, seed=seed)
    assert np.mean(with_head[1:]) > 0.9 * np.mean(without[1:])
    added = curriculum.metrics()["head_slope"] * curriculum.strategy.model.head.log_odds
    told = curriculum.metrics()["score_slope"] * curriculum.strategy.log_odds.of(slice(None))
    assert added.std() < 0.1 * told.std()


def test_strategies_that_do_not_ask_get_no_hidden_states():
    for strategy in (make("edco").strategy, make("learning_edge").strategy):
        assert not strategy.needs_hidden_states and not len(strategy.wants_hidden_states(np.arange(12)))


def test_hidden_states_are_wanted_of_what_was_scored_and_of_what_is_learned_from():
    curriculum = make("learning_edge", strategy_kwargs={"hidden_state": True})
    score(curriculum, np.linspace(0.1, 2, 12))
    curriculum.observe([Outcome(index, 0, rewards=(0.0, 1.0)) for index in (3, 9)])
    assert curriculum.strategy.wants_hidden_states(np.array([0, 3, 5])).tolist() == [0, 3, 5, 9]


def test_it_resumes_exactly_in_a_data_set_that_has_grown_too():
    rng, vectors, rates = pool(0, size=60)
    scores = rng.uniform(0, 2, 60)
    _, whole = simulate(rates, scores, vectors, renewals=2)
    resumed, grown = (
        make("learning_edge", pool_size=size, batch_size=8, size=64, strategy_kwargs={"hidden_state": True})
        for size in (60, 64)
    )
    for one in (resumed, grown):
        one.load_state_dict(as_read(whole))
    assert grown.strategy.model.head.log_odds.tolist() == [*whole.strategy.model.head.log_odds.tolist(), 0, 0, 0, 0]
    for one in (whole, resumed):
        renew(one, scores, vectors, 16)
    assert draw(whole, 4) == draw(resumed, 4) and plain(whole) == plain(resumed)
    assert np.abs(whole.strategy.model.head.log_odds).max() > 0


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, r"model\.head\.log_odds is missing"),
        (np.zeros(12), r"model\.head\.log_odds must be an array of float32, shape \(12\); got float64"),
        (np.zeros(11, dtype=np.float32), r"log_odds must be .* shape \(12\); got float32, shape \(11\)"),
        (np.full(12, 9, dtype=np.float32), r"log_odds\[0\] must be a finite number from -8 to 8.0; got 9"),
        (np.full(12, np.nan, dtype=np.float32), r"log_odds\[0\] must be a finite number"),
    ],
)
def test_a_state_that_cannot_be_is_refused(value, message):
    curriculum = make("learning_edge", strategy_kwargs={"hidden_state": True})
    state = curriculum.state_dict()
    state["strategy_state"]["model"]["head"] = {} if value is None else {"log_odds": value}
    with pytest.raises(ConfigurationError, match=rf"^strategy_state\..*{message}"):
        curriculum.load_state_dict(state)


def test_a_run_does_not_resume_with_another_choice():
    state = make("learning_edge").state_dict()
    with pytest.raises(ConfigurationError, match=r"strategy_kwargs \{\}, this run has \{'hidden_state': True"):
        make("learning_edge", strategy_kwargs={"hidden_state": True}).load_state_dict(state)
