import numpy as np
import pytest

from edco_rl.audit.reliability import reliability_interval, single_sample_reliability, split_half_reliability
from edco_rl.statistics import rank_correlation


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


def test_an_interval_is_the_same_for_the_same_seed_and_narrows_with_more_prompts():
    rng = np.random.default_rng(3)
    _, samples = noisy(rng, prompts=400)
    small, large = (reliability_interval(samples[:count], seed=1) for count in (50, 400))
    assert small == reliability_interval(samples[:50], seed=1)
    assert large.high - large.low < small.high - small.low
    assert large.low <= large.value <= large.high


def test_the_reliability_of_one_sample_is_that_of_the_mean_stepped_down():
    of_one = 0.2
    of_eight = 8 * of_one / (1 + 7 * of_one)
    assert single_sample_reliability(of_eight, 8) == pytest.approx(of_one)


@pytest.mark.filterwarnings("error")
def test_where_nothing_was_measured_there_is_no_reliability_and_no_warning():
    found = reliability_interval(np.full((8, 4), np.nan))
    assert np.isnan([found.value, found.low, found.high]).all()
