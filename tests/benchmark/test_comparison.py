"""Statistics of a matrix against scipy on the same arrays, and on matrices whose truth is known."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from edco_rl.benchmark.comparison import compare, paired_difference
from edco_rl.benchmark.learning import Learning, cost_of_target, crossing, mean_over_training, mean_until
from edco_rl.statistics import band, holm, t_test

from ..benchmarks.report_power import STEPS, Setting, learn, simulate


def test_the_band_is_scipys_interval_of_a_mean():
    values = np.random.default_rng(0).normal(size=(5, 7))
    mean, low, high = band(values, 0.9)
    expected = stats.t.interval(0.9, 4, loc=values.mean(axis=0), scale=stats.sem(values))
    assert np.allclose([low, high], expected) and np.allclose(mean, values.mean(axis=0))
    assert np.isnan(band(values[:1])[1]).all()


@given(st.lists(st.floats(0, 1), min_size=2, max_size=9), st.floats(0.01, 1))
def test_a_crossing_is_where_the_interpolated_curve_first_reaches_the_target(values, target):
    grid = np.arange(len(values)) * 10.0
    found = float(crossing(grid, np.array(values), target))
    fine = np.linspace(0, grid[-1], 5000)
    above = np.interp(fine, grid, values) >= target
    if np.isinf(found):
        assert max(values) < target
    else:
        assert np.interp(found, grid, values) == pytest.approx(target, abs=1e-6) or (
            found == 0 and values[0] >= target
        )
        assert not above[fine < found - 1e-6].any()


@given(st.lists(st.floats(0, 1), min_size=2, max_size=9), st.floats(0, 1))
def test_a_mean_over_training_is_that_of_the_interpolated_curve(values, share):
    grid = np.arange(len(values)) * 10.0
    end = share * grid[-1]
    fine = np.linspace(0, end, 20001)
    expected = np.interp(fine, grid, values).mean()
    assert mean_until(grid, np.array(values), np.array([end]))[0] == pytest.approx(expected, abs=1e-3)


def test_without_noise_the_ratio_is_known_and_what_never_comes_about_is_told():
    right = (np.linspace(0, 1, 7)[:, None] > np.linspace(0, 1, 200, endpoint=False)).astype(float)
    slow = {s: Learning({"steps": STEPS}, right, f"{s}") for s in range(3)}
    fast = {s: Learning({"steps": STEPS / 2}, right, f"{s}") for s in range(3)}
    found = compare(fast, slow)
    assert (found.low, found.ratio, found.high) == pytest.approx((0.5, 0.5, 0.5), rel=1e-3)
    found = compare(slow, fast)
    assert (found.low, found.ratio, found.high) == pytest.approx((2, 2, 2), rel=1e-3)
    best = {s: Learning({"steps": STEPS}, right * 0 + 1, f"{s}") for s in range(3)}
    found = compare(best, slow)
    assert found.ratio == 0 and found.low == 0 and found.high < 1 / 8
    worse = {s: Learning({"steps": STEPS}, right * 0, f"{s}") for s in range(3)}
    found = compare(worse, slow)
    assert np.isinf(found.ratio) and found.low > 8 and np.isinf(found.high)
    nothing = {s: Learning({"steps": STEPS}, right[:1].repeat(7, axis=0), f"{s}") for s in range(3)}
    found = compare(nothing, nothing)
    assert np.isnan(found.ratio) and (found.low, found.high) == (0.0, np.inf) and found.p_value == 1
    cut = {s: Learning({"steps": STEPS[:3]}, right[:3], f"{s}") for s in range(3)}
    assert np.isinf(cost_of_target(cut, "steps", 0.6).value) and cost_of_target(cut, "steps", 0.6).limit == 20


def test_the_interval_leaves_out_one_where_the_test_does_and_pooled_noise_has_more_degrees():
    rng = np.random.default_rng(2)
    for _ in range(60):
        slow, fast, third = (learn(rng, speed, seeds=3) for speed in (1.0, rng.uniform(0.4, 2.5), 1.0))
        found = compare(fast, slow, 0.55, others=[third])
        assert (found.low > 1 or found.high < 1) == (found.p_value < 0.05)
        pairs = [(fast[s], slow[s]) for s in fast]
        assert paired_difference(pairs, "steps", 60.0, [fast, slow, third])[1].degrees == 4
        assert paired_difference(pairs, "steps", 60.0)[1].degrees == 2


def p_value(pairs, end=60.0):
    return t_test(*paired_difference(pairs, "steps", end))


def test_the_paired_test_with_own_prompts_is_scipys_t_test_over_seeds():
    rng = np.random.default_rng(3)
    fast, slow = learn(rng, 1.5), learn(rng, 1.0)
    pairs = [(fast[s], slow[s]) for s in fast]
    areas = [[np.trapezoid(run.right.mean(axis=1), STEPS) / 60 for run in pair] for pair in pairs]
    expected = stats.ttest_rel(*zip(*areas, strict=True))
    difference, _ = paired_difference(pairs, "steps", 60.0)
    assert difference == pytest.approx(np.diff(areas, axis=1).mean() * -1)
    assert p_value(pairs) == pytest.approx(expected.pvalue)
    values = [mean_over_training(run, "steps", 60.0) for run in pairs[0]]
    assert p_value(pairs[:1]) == pytest.approx(stats.ttest_rel(*values).pvalue)


def test_the_noise_is_that_of_a_two_way_layout():
    rng = np.random.default_rng(9)
    series = [learn(rng, 1.0, seeds=4) for _ in range(3)]
    pairs = [(series[0][s], series[1][s]) for s in range(4)]
    means = np.array([[mean_over_training(runs[s], "steps", 60.0).mean() for runs in series] for s in range(4)])
    rest = means - means.mean(axis=0) - means.mean(axis=1, keepdims=True) + means.mean()
    _, error = paired_difference(pairs, "steps", 60.0, series)
    assert error.degrees == 6 and error.value == pytest.approx(np.sqrt(2 * (rest**2).sum() / 6 / 4))
    del series[2][3]  # a cell that failed
    assert paired_difference(pairs, "steps", 60.0, series)[1].degrees == 5


def test_with_prompts_shared_by_all_seeds_both_must_carry_the_difference():
    rng = np.random.default_rng(4)

    def shared(seed_effect, prompt_effect):
        effects = seed_effect * rng.normal(size=(5, 1)) + prompt_effect * rng.normal(size=40)
        values = 0.3 + effects + 0.1 * rng.normal(size=(5, 40))
        runs = [Learning({"steps": np.array([0.0, 1.0])}, np.array([v, v]), "shared") for v in values]
        nothing = Learning({"steps": np.array([0.0, 1.0])}, np.zeros((2, 40)), "shared")
        return p_value([(run, nothing) for run in runs], 1.0), values

    small, values = shared(0.2, 0.0)  # seeds alone vary: the t-test over them, nearly
    assert small == pytest.approx(stats.ttest_1samp(values.mean(axis=1), 0).pvalue, rel=0.3)
    small, values = shared(0.0, 1.0)  # prompts alone vary: the t-test over them, nearly
    assert small == pytest.approx(stats.ttest_1samp(values.mean(axis=0), 0).pvalue, rel=0.5)


@settings(max_examples=50)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holms_correction_rejects_as_his_steps_do(p_values):
    adjusted = holm(p_values)
    for alpha in (0.01, 0.05, 0.3):
        rejected = set()
        for step, index in enumerate(np.argsort(p_values, kind="stable")):
            if p_values[index] * (len(p_values) - step) > alpha:
                break
            rejected.add(int(index))
        assert rejected == set(np.flatnonzero(adjusted <= alpha).tolist())


def test_what_cannot_be_paired_is_refused():
    rng = np.random.default_rng(6)
    one, two = learn(rng, 1.0), learn(rng, 1.0)
    with pytest.raises(ValueError, match="no seed in common"):
        compare({7: one[0]}, two)
    with pytest.raises(ValueError, match="different prompts"):
        compare({0: one[0]}, {0: dataclasses.replace(two[0], prompts="others")})


def not_more_often_than(share, found, matrices):
    return stats.binomtest(round(found * matrices), matrices, share, alternative="greater").pvalue > 0.01


def test_a_factor_of_two_is_told_with_five_seeds_and_as_many_are_said_to_be_needed():
    found = simulate(Setting("", (1.0, 1.0, 1.0, 2.0), 5, {}), 60, 7)
    assert found["told"] >= 0.8 and not_more_often_than(0.05, found["false alarms"], 60)
    assert not_more_often_than(0.05, 1 - found["covered"], 60) and 3 <= found["seeds for 2x"] <= 6


@pytest.mark.parametrize("seeds", [3, pytest.param(5, marks=pytest.mark.slow)])
def test_without_an_effect_one_matrix_in_twenty_names_a_winner_at_most(seeds):
    found = simulate(Setting("", (1.0,) * 4, seeds, {}), 100, 8)
    assert not_more_often_than(0.05, found["false alarms"], 100)
