import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edco_rl.statistics import bootstrap_interval, pass_at_k, wilson_interval


@given(st.lists(st.booleans(), min_size=1, max_size=9), st.data())
def test_pass_at_k_is_the_share_of_draws_without_replacement_that_hold_a_right_answer(answers, data):
    k = data.draw(st.integers(1, len(answers)))
    draws = list(itertools.combinations(answers, k))
    exact = sum(any(draw) for draw in draws) / len(draws)
    assert pass_at_k(np.array([answers], dtype=float), k)[0] == pytest.approx(exact)


def test_pass_at_k_is_the_formula_of_the_paper_for_each_prompt():
    n, k = 200, 100
    counts = [0, 1, 3, 100, 101, 200]
    right = np.array([[1.0] * c + [0.0] * (n - c) for c in counts])
    exact = [1 - math.comb(n - c, k) / math.comb(n, k) for c in counts]
    assert pass_at_k(right, k) == pytest.approx(exact)
    assert pass_at_k(right, 1) == pytest.approx([c / n for c in counts])


@pytest.mark.parametrize("k", [0, 5])
def test_k_beyond_the_samples_is_refused(k):
    with pytest.raises(ValueError, match="between 1 and the 4 answers"):
        pass_at_k(np.zeros((2, 4)), k)


@pytest.mark.parametrize(("right", "total"), [(0, 10), (3, 10), (10, 10), (123, 400)])
def test_wilsons_interval_is_where_the_score_test_changes_its_mind(right, total):
    for bound in wilson_interval(right, total, 0.95):
        if 0 < bound < 1:
            z = abs(right / total - bound) / math.sqrt(bound * (1 - bound) / total)
            assert z == pytest.approx(1.959964, abs=1e-4)
    low, high = wilson_interval(right, total)
    assert 0 <= low <= right / total <= high <= 1


def test_the_bootstrap_interval_of_many_values_is_the_normal_one_and_the_same_for_a_seed():
    values = np.random.default_rng(0).beta(0.5, 0.5, size=2000)
    low, high = bootstrap_interval(values, 0.9, seed=1)
    half = 1.644854 * values.std(ddof=1) / math.sqrt(len(values))
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=half * 0.1)
    assert bootstrap_interval(values, 0.9, seed=1) == (low, high)
    assert bootstrap_interval(np.ones(5)) == (1.0, 1.0)
    assert np.isnan(bootstrap_interval(np.ones(1))).all()
