import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from edco_rl.audit.statistics import (
    rank_correlation,
    ratio_interval,
    ratio_of_means,
    reliability_interval,
    roc_auc,
    split_half_reliability,
    with_interval,
)

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


def noisy(rng, prompts=2000, samples=8, noise=2.0):
    truth = rng.normal(size=prompts)
    return truth, truth[:, None] + noise * rng.normal(size=(prompts, samples))


def test_split_half_reliability_foretells_the_agreement_of_two_means():
    rng = np.random.default_rng(0)
    truth, samples = noisy(rng)
    second = (truth[:, None] + 2.0 * rng.normal(size=samples.shape)).mean(axis=1)
    reliability = split_half_reliability(samples)
    assert reliability == pytest.approx(rank_correlation(samples.mean(axis=1), second), abs=0.05)
    assert np.sqrt(reliability) == pytest.approx(rank_correlation(samples.mean(axis=1), truth), abs=0.03)
    assert reliability == pytest.approx(8 / (8 + 4), abs=0.05)  # variance of the truth over that of the mean


def test_noise_alone_has_no_reliability():
    samples = np.random.default_rng(1).normal(size=(1000, 16))
    assert abs(split_half_reliability(samples)) < 0.15


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


def test_an_interval_is_the_same_for_the_same_seed_and_narrows_with_more_prompts():
    rng = np.random.default_rng(3)
    _, samples = noisy(rng, prompts=400)
    small, large = (reliability_interval(samples[:count], seed=1) for count in (50, 400))
    assert small == reliability_interval(samples[:50], seed=1)
    assert large.high - large.low < small.high - small.low
    assert large.low <= large.value <= large.high


def test_undetermined_statistics_are_nan():
    interval = with_interval(rank_correlation, np.ones(10), np.arange(10.0))
    assert np.isnan([interval.value, interval.low, interval.high]).all()


def test_costs_are_ratios_of_means():
    first, second = np.array([1.0, 3.0]), np.array([20.0, 20.0])
    assert ratio_of_means(first, second) == pytest.approx(0.1)
    interval = ratio_interval(first, second)
    assert (interval.value, interval.low, interval.high) == pytest.approx((0.1, 0.05, 0.15))
