import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import log_softmax

from edco_rl.entropy import entropy_from_top_logprobs, renormalised_entropy
from edco_rl.entropy.topk import at_temperature


def exact_entropy(logits):
    logits = logits.astype(np.float64)
    p = np.exp(logits - logits.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    return -(p * np.log(np.where(p > 0, p, 1))).sum(-1), np.log(np.where(p > 0, p, 1e-300))


SHAPES = st.tuples(st.integers(1, 4), st.integers(2, 40))
LOGITS = st.one_of(
    arrays(np.float64, SHAPES, elements=st.floats(-30, 30)),
    # Degenerate ones: one-hot, uniform, ties, and tokens without any probability.
    arrays(np.float64, SHAPES, elements=st.sampled_from([0.0, -1000.0, 30.0])),
)


@given(LOGITS, st.integers(1, 40))
def test_the_exact_entropy_lies_within_the_bounds(logits, k):
    entropy, logprobs = exact_entropy(logits)
    top = -np.sort(-logprobs, axis=1)[:, : min(k, logits.shape[1])]
    found = entropy_from_top_logprobs(top, logits.shape[1])
    assert (found.lower <= entropy + 1e-7).all()
    assert (entropy <= found.upper + 1e-7).all()
    assert (found.lower <= found.estimate).all() and (found.estimate <= found.upper).all()


@given(LOGITS)
def test_the_whole_vocabulary_leaves_nothing_open(logits):
    entropy, logprobs = exact_entropy(logits)
    found = entropy_from_top_logprobs(-np.sort(-logprobs, axis=1), logits.shape[1])
    np.testing.assert_allclose(found.estimate, entropy, atol=1e-6)
    np.testing.assert_allclose(found.upper, found.lower, atol=1e-6)


def test_the_bounds_are_reached():
    # Tail mass 0.4 over 8 tokens of at most 0.2: two tokens at least, spread evenly at most.
    found = entropy_from_top_logprobs(np.log([[0.4, 0.2]]), 10)
    known = -0.4 * np.log(0.4) - 0.2 * np.log(0.2)
    np.testing.assert_allclose(found.lower, known - 2 * 0.2 * np.log(0.2))
    np.testing.assert_allclose(found.upper, known - 8 * 0.05 * np.log(0.05))


def test_positions_cut_off_by_top_p_have_no_tail():
    found = entropy_from_top_logprobs(np.array([[np.log(0.5), np.log(0.5), -np.inf]]), 1000)
    np.testing.assert_allclose(found.estimate, np.log(2))


def test_renormalised_entropy_is_that_of_the_known_tokens_alone():
    # 1/2 and 1/4 become 2/3 and 1/3: 0.9183 bits.
    logprobs = np.log([[0.5, 0.25, 1e-300], [0.9, 0.09, 0.009]])
    logprobs[0, 2] = -np.inf
    found = renormalised_entropy(logprobs)
    assert found[0] == pytest.approx(0.6365, abs=5e-5) and found[0] / np.log(2) == pytest.approx(0.9183, abs=5e-5)
    p = np.array([0.9, 0.09, 0.009]) / 0.999
    assert found[1] == pytest.approx(-(p * np.log(p)).sum())
    assert renormalised_entropy(np.array([[-1e-9, -np.inf]])).tolist() == [0.0]


@pytest.mark.parametrize("bad", [np.zeros(3), np.zeros((2, 0))])
def test_a_wrong_shape_is_refused(bad):
    with pytest.raises(ValueError, match="must have shape"):
        entropy_from_top_logprobs(bad, 10)


def test_what_is_no_distribution_is_refused():
    with pytest.raises(ValueError, match=r"sum to 2\.000"):
        entropy_from_top_logprobs(np.zeros((1, 2)), 10)


# Beyond, a tail is the rounding of one minus its complement.
@given(arrays(np.float64, SHAPES, elements=st.floats(-5, 5)), st.integers(1, 40), st.floats(0.2, 5.0))
def test_log_probabilities_at_another_temperature_lie_within_the_bounds(logits, k, temperature):
    """Of every token, whether it is among the largest or not, against the formula on all logits."""
    logprobs, exact = log_softmax(logits, axis=1), log_softmax(logits / temperature, axis=1)
    top = -np.sort(-logprobs, axis=1)[:, : min(k, logits.shape[1])]
    for token in range(logits.shape[1]):
        found = at_temperature(logprobs[:, token], top, temperature, logits.shape[1])
        estimate, low, high = found
        slack = 1e-5 * (1 + np.abs(exact[:, token]))  # a tail of 0 can be rounding
        assert (low - slack <= exact[:, token]).all() and (exact[:, token] <= high + slack).all()
        assert ((low - 1e-9 <= estimate) & (estimate <= high + 1e-9)).all()


def test_twenty_of_many_tokens_are_enough_at_a_temperature_of_rollouts():
    logits = np.random.default_rng(0).normal(size=(50, 5000)) * 3
    logprobs, exact = log_softmax(logits, axis=1), log_softmax(logits / 0.7, axis=1)
    top = -np.sort(-logprobs, axis=1)[:, :20]
    estimate, *_ = at_temperature(logprobs.max(axis=1), top, 0.7, 5000)
    assert np.abs(estimate - exact.max(axis=1)).max() < 0.2
