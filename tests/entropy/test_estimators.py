import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import optimize, stats

from edco_rl.config import EstimatorConfig
from edco_rl.entropy import (
    Estimator,
    Request,
    Score,
    TokenLogprobs,
    available_estimators,
    make_estimator,
    rollout_entropy,
)
from edco_rl.errors import ConfigurationError


def sample(top, logprobs=None):
    return TokenLogprobs(np.zeros(len(top)) if logprobs is None else np.asarray(logprobs), np.asarray(top))


def uniform(tokens, width):
    return np.full((tokens, width), -np.log(width))


def score(name, samples, vocabulary_size=4, **settings):
    return make_estimator(EstimatorConfig(estimator=name, **settings)).score(samples, vocabulary_size)


@pytest.mark.parametrize(
    ("name", "request_"),
    [
        ("prefix_entropy", Request("continuation", 16, 4, 0.7, 20, True, 0.9, True)),
        ("sequence_entropy", Request("continuation", 512, 4, 0.7, 20, False, 0.9, True)),
        ("answer_entropy", Request("continuation", 1, 1, 0.0, 20, quick_answer=True)),
        ("option_entropy", Request("labels", 1, 1, 0.0, 0, quick_answer=True)),
        ("perplexity", Request("reference")),
        ("surprisal", Request("reference", end_of_turn=False)),
        ("learnability", Request("reference", end_of_turn=False)),
        ("rollout_entropy", Request("continuation", 512, 4, 0.7, 0, top_p=0.9)),
    ],
)
def test_each_estimator_says_what_it_asks_of_the_engine(name, request_):
    config = EstimatorConfig(
        estimator=name, scoring_samples=4, scoring_temperature=0.7, scoring_top_p=0.9, scoring_logprobs="model"
    )
    assert make_estimator(config).request() == request_
    assert make_estimator(EstimatorConfig(), name).request().evidence == request_.evidence


def test_every_estimator_is_in_the_list_of_names():
    assert available_estimators() == [
        "answer_entropy",
        "learnability",
        "option_entropy",
        "perplexity",
        "prefix_entropy",
        "rollout_entropy",
        "sequence_entropy",
        "surprisal",
    ]


def test_an_average_over_tokens_and_samples_has_a_standard_error():
    samples = [sample(np.pad(uniform(3, 2), ((0, 0), (0, 2)), constant_values=-np.inf)), sample(uniform(1, 4))]
    found = score("prefix_entropy", samples, scoring_samples=2, scoring_temperature=1.0)
    values = np.log([2, 4])
    assert found.value == pytest.approx(values.mean())
    assert found.standard_error == pytest.approx(values.std(ddof=1) / np.sqrt(2))
    assert found.tokens == 4


def flat_entropies(*entropies, width=20):
    """A sample of which token i has that entropy, in nats: some tokens equally likely, the others impossible."""
    counts = np.exp(entropies).round().astype(int)
    return sample([np.log(np.where(np.arange(width) < n, 1 / n, 0)) for n in counts])


@pytest.mark.filterwarnings("ignore:divide by zero")
@pytest.mark.parametrize(
    ("tokens", "share", "counted"),
    [(10, 0.2, 2), (4, 0.2, 1), (1, 0.2, 1), (14, 0.2, 2), (128, 0.2, 25), (10, 1.0, 10), (3, 0.5, 1)],
)
def test_the_mean_is_that_of_the_largest_share_of_the_token_entropies(tokens, share, counted):
    """As EDCO's released code counts: the share of the tokens, rounded down, but at least one."""
    entropies = np.log(np.random.default_rng(tokens).integers(1, 20, tokens))
    found = score("prefix_entropy", [flat_entropies(*entropies)], 20, scoring_largest_share=share)
    assert found.value == pytest.approx(np.mean(sorted(entropies)[-counted:]))
    assert found.tokens == tokens


def coin(bits):
    """Log-probabilities of two tokens whose entropy is so many bits."""
    p = optimize.brentq(lambda p: stats.entropy([p, 1 - p], base=2) - bits, 1e-9, 0.5) if bits < 1 else 0.5
    return np.log([1 - p, p])


def test_the_largest_fifth_of_ten_tokens_is_two_of_them():
    top = [coin(tenths / 10) for tenths in range(1, 11)]
    found = score("prefix_entropy", [sample(top)], 2, scoring_largest_share=0.2)
    assert found.value / np.log(2) == pytest.approx(0.95)


def test_a_renormalised_tail_leaves_nothing_open_and_counts_the_generated_token():
    top = np.log([[0.5, 0.25], [0.6, 0.3]])
    settings = {"vocabulary_size": 1000, "scoring_tail": "renormalised"}
    among = score("prefix_entropy", [sample(top, np.log([0.25, 0.6]))], **settings)
    expected = [stats.entropy([0.5, 0.25]), stats.entropy([0.6, 0.3])]
    assert among.value == among.lower == among.upper == pytest.approx(np.mean(expected))
    beyond = score("prefix_entropy", [sample(top, np.log([0.125, 0.6]))], **settings)
    expected[0] = stats.entropy([0.5, 0.25, 0.125])
    assert beyond.value == pytest.approx(np.mean(expected))


def test_a_single_sample_has_no_standard_error():
    assert np.isnan(score("prefix_entropy", [sample(uniform(2, 4))]).standard_error)


LABELS = arrays(np.float64, st.tuples(st.just(1), st.integers(2, 8)), elements=st.floats(-60, 0))


@given(LABELS)
def test_option_entropy_is_that_of_the_normalised_labels(logprobs):
    p = np.exp(logprobs[0] - logprobs.max())
    p /= p.sum()
    found = score("option_entropy", [sample(logprobs)])
    assert found.value == pytest.approx(-(p * np.log(p)).sum(), abs=1e-9)
    assert 0 <= found.lower == found.value == found.upper <= np.log(len(p)) + 1e-9


@given(arrays(np.float64, st.integers(1, 30), elements=st.floats(-40, 0)))
def test_perplexity_is_minus_the_mean_log_probability(logprobs):
    found = score("perplexity", [TokenLogprobs(logprobs, np.empty((0, 0)))])
    assert found.value == pytest.approx(-logprobs.mean())
    assert found.tokens == len(logprobs) and np.isnan(found.standard_error)


@given(arrays(np.float64, st.integers(1, 30), elements=st.floats(-40, 0)))
def test_surprisal_is_minus_the_log_probability_of_the_answer(answer):
    found = score("surprisal", [TokenLogprobs(answer, np.empty((0, 0)))])
    assert found.value == pytest.approx(-answer.sum())
    assert found.tokens == len(answer) and np.isnan(found.standard_error)


@given(arrays(np.float64, st.integers(2, 12), elements=st.floats(-5, 0)), st.integers(0, 2**32 - 1))
def test_learnability_is_the_variance_of_the_reward_that_the_reference_alone_earns(logprobs, seed):
    found = score("learnability", [TokenLogprobs(logprobs, np.empty((0, 0)))])
    rewards = np.random.default_rng(seed).random(20_000) < np.prod(np.exp(logprobs))
    assert found.value == pytest.approx(rewards.var(), abs=0.02)
    assert 0 <= found.value <= 0.25 and found.tokens == len(logprobs) and np.isnan(found.standard_error)


def test_learnability_is_never_negative():
    assert score("learnability", [TokenLogprobs(np.array([1e-7]), np.empty((0, 0)))]).value == 0


def test_rollout_entropy_estimates_the_entropy_without_bias():
    rng = np.random.default_rng(0)
    p = np.array([0.5, 0.25, 0.125, 0.125])
    logprobs = [np.log(rng.choice(p, size=20, p=p)) for _ in range(4000)]
    found = rollout_entropy(logprobs)
    exact = -(p * np.log(p)).sum()
    assert abs(found.value - exact) < 4 * found.standard_error < 0.05
    assert rollout_entropy(logprobs, prefix_tokens=1).value == pytest.approx(-np.mean([s[0] for s in logprobs]))
    samples = [sample(uniform(20, 4), values) for values in logprobs]
    assert score("rollout_entropy", samples).value == found.value


def test_rollout_entropy_samples_also_where_scoring_is_greedy():
    estimator = make_estimator(EstimatorConfig(estimator="rollout_entropy", scoring_samples=3))
    assert estimator.request().temperature == 1.0


class FirstToken(Estimator):
    def request(self):
        return Request(temperature=1.0)

    def score(self, samples, vocabulary_size):
        value = -float(samples[0].logprobs[0])
        return Score(value, float("nan"), value, value, tokens=1)


@pytest.mark.parametrize("name", [f"{__name__}:FirstToken", f"{__name__}.FirstToken"])
def test_an_estimator_of_ones_own_is_found_by_its_import_path(name):
    assert score(name, [sample(uniform(1, 4), [-0.5])]).value == 0.5


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("entropi", "Unknown estimator 'entropi'. Available: answer_entropy, learnability"),
        ("nowhere:Mine", "Cannot import estimator 'nowhere:Mine'"),
        ("edco_rl.entropy:Nothing", "Cannot import estimator"),
        ("edco_rl.entropy:Score", "is not a subclass of"),
    ],
)
def test_what_is_no_estimator_is_refused(name, message):
    with pytest.raises(ConfigurationError, match=message):
        make_estimator(EstimatorConfig(estimator=name))
