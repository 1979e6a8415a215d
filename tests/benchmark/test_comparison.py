"""Statistics of a matrix against scipy on the same arrays, and on matrices whose truth is known."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from edco_rl.benchmark.comparison import (
    Learning,
    compare,
    cost_of_target,
    crossing,
    mean_over_training,
    paired_test,
)
from edco_rl.statistics import band, holm

STEPS = np.arange(0.0, 61.0, 10.0)


def learn(rng, speed, prompts=200, ceiling=0.7, seeds=4, noise=0.25):
    """Runs whose accuracy rises from 0.3, those of one seed on the same prompts; an easy one tends to be right."""
    runs = {}
    for seed in range(seeds):
        rate = speed * np.exp(noise * rng.normal()) / 20
        top = ceiling + 0.02 * rng.normal()
        accuracy = top - (top - 0.3) * np.exp(-rate * STEPS)
        hardness = np.random.default_rng(seed).uniform(size=prompts)
        flips = rng.uniform(-0.15, 0.15, size=(len(STEPS), prompts))
        right = (hardness + flips < accuracy[:, None]).astype(float)
        costs = {"steps": STEPS, "tokens": STEPS * 1000, "seconds": STEPS * (3 + rng.uniform())}
        runs[seed] = Learning(costs, right, prompts=f"seed {seed}")
    return runs


def matrix(rng, speeds, **settings):
    """Verdicts on a matrix: each curriculum against the first, with Holm's correction."""
    baseline, *others = [learn(rng, speed, **settings) for speed in speeds]
    found = [compare(runs, baseline, 0.5, resamples=300, seed=1) for runs in others]
    adjusted = holm([one.p_value for one in found])
    return [dataclasses.replace(one, adjusted=p).verdict() for one, p in zip(found, adjusted, strict=True)]


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


def test_without_noise_the_ratio_is_known_and_a_target_out_of_reach_is_told():
    right = (np.linspace(0, 1, 7)[:, None] > np.linspace(0, 1, 200, endpoint=False)).astype(float)
    slow = {s: Learning({"steps": STEPS}, right, f"{s}") for s in range(3)}
    fast = {s: Learning({"steps": STEPS / 2}, right, f"{s}") for s in range(3)}
    found = compare(fast, slow, 0.4)
    assert found.ratio == pytest.approx(0.5) and found.low == pytest.approx(0.5) == found.high
    cut = {s: Learning({"steps": STEPS[:3]}, right[:3], f"{s}") for s in range(3)}
    found = compare(cut, slow, 0.6)
    assert np.isinf(found.ratio) and found.cost.seeds_reached == 0 and found.cost.limit == 20.0
    # Above 20 steps against at most 36 and a bit: more cannot be known, and 1 is not left out.
    assert found.low == pytest.approx(20 / 36, abs=0.12) and np.isinf(found.high) and found.verdict() == 0
    found = compare(cut, cut, 0.6)
    assert np.isnan(found.ratio) and (found.low, found.high) == (0.0, np.inf)
    found = compare(slow, cut, 0.6)
    assert found.ratio == 0.0 and found.low == 0.0 and found.high > 1.5


def test_the_interval_with_one_seed_is_scipys_bootstrap_over_prompts():
    rng = np.random.default_rng(2)
    [a], [b] = (list(learn(rng, speed, seeds=1).values()) for speed in (2.0, 1.0))

    def ratio(indices):
        sides = [Learning(run.costs, run.right[:, indices.astype(int)]) for run in (a, b)]
        times = [cost_of_target({0: side}, "steps", 0.5).value for side in sides]
        return times[0] / times[1] if times[1] else 1.0

    mine = compare({0: a}, {0: b}, 0.5, resamples=4000)
    theirs = stats.bootstrap(
        (np.arange(200.0),), ratio, vectorized=False, n_resamples=4000, method="percentile", rng=3
    ).confidence_interval
    assert (mine.low, mine.high) == pytest.approx(tuple(theirs), abs=0.03)


def test_the_paired_test_with_own_prompts_is_scipys_t_test_over_seeds():
    rng = np.random.default_rng(3)
    fast, slow = learn(rng, 1.5), learn(rng, 1.0)
    pairs = [(fast[s], slow[s]) for s in fast]
    areas = [[np.trapezoid(run.right.mean(axis=1), STEPS) / 60 for run in pair] for pair in pairs]
    expected = stats.ttest_rel(*zip(*areas, strict=True))
    difference, p_value = paired_test(pairs, "steps")
    assert difference == pytest.approx(np.diff(areas, axis=1).mean() * -1) and p_value == pytest.approx(
        expected.pvalue
    )
    one = paired_test(pairs[:1], "steps")[1]
    values = [mean_over_training(run, "steps", 60.0) for run in pairs[0]]
    assert one == pytest.approx(stats.ttest_rel(*values).pvalue)


def test_with_prompts_shared_by_all_seeds_both_must_carry_the_difference():
    rng = np.random.default_rng(4)

    def p_value(seed_effect, prompt_effect):
        effects = seed_effect * rng.normal(size=(5, 1)) + prompt_effect * rng.normal(size=40)
        values = 0.3 + effects + 0.1 * rng.normal(size=(5, 40))
        runs = [Learning({"steps": np.array([0.0, 1.0])}, np.array([v, v]), "shared") for v in values]
        nothing = Learning({"steps": np.array([0.0, 1.0])}, np.zeros((2, 40)), "shared")
        return paired_test([(run, nothing) for run in runs], "steps")[1], values

    small, values = p_value(0.2, 0.0)  # seeds alone vary: the t-test over them, nearly
    assert small == pytest.approx(stats.ttest_1samp(values.mean(axis=1), 0).pvalue, rel=0.3)
    small, values = p_value(0.0, 1.0)  # prompts alone vary: the t-test over them, nearly
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


def test_prompts_shared_by_all_seeds_are_drawn_once_for_all_of_them():
    rng = np.random.default_rng(5)
    fast, slow = learn(rng, 1.5, seeds=6, noise=0), learn(rng, 1.0, seeds=6, noise=0)

    def width(name):
        named = [{s: dataclasses.replace(r, prompts=name(s)) for s, r in side.items()} for side in (fast, slow)]
        found = compare(*named, 0.5)
        return found.high - found.low

    assert width(lambda seed: "all") > 1.1 * width(lambda seed: f"{seed}")  # their noise does not average out


def test_what_cannot_be_paired_is_refused():
    rng = np.random.default_rng(6)
    one, two = learn(rng, 1.0), learn(rng, 1.0)
    with pytest.raises(ValueError, match="no seed in common"):
        compare({7: one[0]}, two, 0.5)
    with pytest.raises(ValueError, match="different prompts"):
        compare({0: one[0]}, {0: dataclasses.replace(two[0], prompts="others")}, 0.5)


def test_a_known_effect_is_found_in_most_matrices_and_in_the_right_direction():
    rng = np.random.default_rng(7)
    found = [matrix(rng, (1.0, 3.0, 0.15), seeds=6) for _ in range(20)]
    assert all(faster >= 0 and slower <= 0 for faster, slower in found)
    assert sum(faster == 1 for faster, _ in found) >= 16 and sum(slower == -1 for _, slower in found) >= 16


@pytest.mark.parametrize("seeds", [3, 6])
def test_without_an_effect_at_most_one_matrix_in_twenty_names_a_winner(seeds):
    rng = np.random.default_rng(8)
    found = [matrix(rng, (1.0, 1.0, 1.0, 1.0), seeds=seeds) for _ in range(200)]
    assert sum(any(verdicts) for verdicts in found) <= 10
