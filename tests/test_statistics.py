import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from edco_rl.statistics import (
    Interval,
    never_certain,
    over_prompts,
    pass_at_k,
    rank_correlation,
    ratio_of_means,
    roc_auc,
    wilson_interval,
    with_interval,
)


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


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_values_that_are_all_alike_are_no_certainty(value):
    found = over_prompts(np.full(16, value))
    assert (found.value, found.low, found.high) == (value, *wilson_interval(int(16 * value), 16))
    drawn = with_interval(np.mean, np.full(16, value))
    assert drawn.low == drawn.high and never_certain(drawn, 16) == found
    some = with_interval(np.mean, np.array([0.2, 0.4, 0.9]))
    assert never_certain(some, 3) == some == over_prompts(np.array([0.2, 0.4, 0.9]))


VALUES = arrays(np.float64, 12, elements=st.integers(-5, 5).map(float))


@given(VALUES, VALUES)
def test_rank_correlation_is_scipys(first, second):
    if np.ptp(first) and np.ptp(second):
        assert rank_correlation(first, second) == pytest.approx(spearmanr(first, second).statistic)
    else:
        assert np.isnan(rank_correlation(first, second))


@given(VALUES, arrays(np.float64, 12, elements=st.sampled_from([0.0, 1.0])))
def test_roc_auc_is_scikit_learns(scores, positive):
    if 0 < positive.sum() < 12:
        assert roc_auc(scores, positive) == pytest.approx(roc_auc_score(positive, scores))
    else:
        assert np.isnan(roc_auc(scores, positive))


def test_the_interval_covers_the_true_value_about_as_often_as_it_says():
    rng = np.random.default_rng(2)
    covered = 0
    for seed in range(100):
        first = rng.normal(size=80)
        second = first + rng.normal(size=80)
        interval = with_interval(rank_correlation, first, second, seed=seed, resamples=300)
        assert interval.low <= interval.value <= interval.high
        covered += interval.low <= 0.690 <= interval.high  # 6/pi asin(rho/2), rho = 1/sqrt(2)
    assert covered >= 85


def test_undetermined_statistics_are_nan():
    interval = with_interval(rank_correlation, np.ones(10), np.arange(10.0))
    assert np.isnan([interval.value, interval.low, interval.high]).all()


def test_costs_are_ratios_of_means():
    first, second = np.array([1.0, 3.0]), np.array([20.0, 20.0])
    assert ratio_of_means(first, second) == pytest.approx(0.1)
    interval = with_interval(ratio_of_means, first, second, paired=False)
    assert (interval.value, interval.low, interval.high) == pytest.approx((0.1, 0.05, 0.15))


def test_the_interval_of_a_mean_is_the_normal_one_and_the_same_for_a_seed():
    values = np.random.default_rng(0).beta(0.5, 0.5, size=2000)
    found = with_interval(np.mean, values, confidence_level=0.9, seed=1)
    half = 1.644854 * values.std(ddof=1) / math.sqrt(len(values))
    assert (found.low, found.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=half * 0.1)
    assert with_interval(np.mean, values, confidence_level=0.9, seed=1) == found != with_interval(np.mean, values)


def test_what_is_not_known_is_left_out_and_a_single_value_has_no_interval():
    first, second = np.array([1.0, np.nan, 3.0, 2.0]), np.array([1.0, 2.0, np.inf, 3.0])
    assert with_interval(np.mean, np.array([2.0, np.nan, 2.0])) == Interval(2.0, 2.0, 2.0)
    assert with_interval(rank_correlation, first, second).value == pytest.approx(1.0)
    alone = with_interval(np.mean, np.array([2.0, np.nan]))
    assert alone.value == 2.0 and np.isnan([alone.low, alone.high]).all()
    assert np.isnan(with_interval(np.mean, np.array([np.nan])).value)


def test_resamples_that_leave_a_statistic_undefined_say_nothing_of_its_spread():
    found = with_interval(roc_auc, np.arange(10.0), np.array([0.0] * 9 + [1.0]))
    assert found == Interval(1.0, 1.0, 1.0)
