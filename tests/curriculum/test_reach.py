"""EDCO that leaves out what is out of reach: against a plain reference, and on a pool where entropy alone fails."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edco_rl.curriculum import Outcome, Outcomes, Pool
from edco_rl.curriculum.reach import Reach
from edco_rl.errors import ConfigurationError

from .drawing import as_read, draw, flat, make, reward, score

AVOIDING = {"strategy_kwargs": {"avoid_hopeless": True}}


def chance(i, scores, groups, ages, half_life):
    """Prompt i's chance of success, from the definition."""

    def seen(indices):
        weights = {j: 0.5 ** (ages[j] / half_life) for j in indices}
        good = sum(weights[j] * sum(groups[j]) for j in indices)
        return good, sum(weights[j] * len(groups[j]) for j in indices)

    rate = 0.5
    if scores[i] is not None:
        ascending = sorted(score for score in scores if score is not None)
        places = [place for place, score in enumerate(ascending) if score == scores[i]]
        reach = max(1, round(0.05 * len(ascending)))
        # Equal scores have the same range: that of any of them, wherever it stands among them.
        low = min(ascending[max(place - reach, 0)] for place in places)
        high = max(ascending[min(place + reach, len(ascending) - 1)] for place in places)
        good, total = seen([j for j, score in enumerate(scores) if score is not None and low <= score <= high])
        rate = (good + 1) / (total + 2)
    good, total = seen([i])
    return (good + 2 * rate) / (total + 2)


@given(st.data())
def test_chances_are_those_of_the_definition(data):
    n = data.draw(st.integers(1, 30))
    scores = data.draw(st.lists(st.none() | st.floats(0, 9), min_size=n, max_size=n, unique=True))
    groups = data.draw(st.lists(st.lists(st.sampled_from([0.0, 0.5, 1.0]), max_size=4), min_size=n, max_size=n))
    ages = data.draw(st.lists(st.integers(0, 5), min_size=n, max_size=n))
    reach = Reach(Pool([f"p{i}" for i in range(n)]), half_life=2.0)
    for age in range(5, -1, -1):
        seen = [Outcome(i, 0, rewards=tuple(g)) for i, g in enumerate(groups) if g and ages[i] == age]
        reach.observe(Outcomes.of(seen))
        if age:
            reach.fade()
    expected = [chance(i, scores, groups, ages, 2.0) for i in range(n)]
    values = np.array([np.nan if score is None else score for score in scores])
    np.testing.assert_allclose(reach.chances(values), expected, atol=1e-9)
    np.testing.assert_array_equal(reach.hopeless(values), reach.chances(values) < 0.15)


def test_prompts_out_of_reach_come_last_known_and_predicted():
    """The three of highest entropy have failed, and of the next three, never tried, the first is in their range."""
    values = [9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0, 0.5, 0.4, 0.3]
    plain, avoiding = make("edco"), make("edco", **AVOIDING)
    for curriculum in (plain, avoiding):
        score(curriculum, values)
        assert curriculum.next_batch().tolist() == [0, 1, 2]
        curriculum.observe([Outcome(i, 0, rewards=(0.0,) * 8) for i in range(3)])
        score(curriculum, values, version=1)
    assert flat(draw(plain, 2)) == [0, 1, 2, 3, 4, 5]
    assert flat(draw(avoiding, 2)) == [4, 5, 6, 7, 8, 9]
    assert avoiding.metrics()["hopeless"] == 4 / 12 and "hopeless" not in plain.metrics()


def test_a_prompt_that_failed_is_kept_where_its_range_does_well_and_one_that_succeeds_where_it_does_not():
    values = np.linspace(1, 0, 12)
    curriculum = make("edco", **AVOIDING)
    score(curriculum, values)
    reward(curriculum, [(1.0,) * 4, (0.0, 0.0), (1.0,) * 4])
    assert curriculum.next_batch().tolist() == [0, 1, 2]
    curriculum = make("edco", **AVOIDING)
    score(curriculum, values)
    reward(curriculum, [(0.0,) * 8, (1.0, 0.0), (0.0,) * 8])
    assert curriculum.next_batch().tolist() == [1, 4, 5]


def test_prompts_out_of_reach_are_tried_again_after_a_while():
    curriculum = make("edco", **{"strategy_kwargs": {"avoid_hopeless": True, "hopeless_half_life": 2.0}})
    values = np.linspace(1, 0, 12)
    score(curriculum, values)
    curriculum.observe([Outcome(i, 0, rewards=(0.0,) * 4) for i in range(3)])
    back = []
    for version in range(20):
        score(curriculum, values, version)
        back.append(curriculum.next_batch()[0] == 0)
    assert not any(back[:3]) and all(back[12:])


def test_every_prompt_out_of_reach_is_edco_again():
    plain, avoiding = make("edco"), make("edco", **AVOIDING)
    values = np.linspace(1, 0, 12)
    for curriculum in (plain, avoiding):
        score(curriculum, values)
        reward(curriculum, [(0.0,) * 8] * 12, version=1)
    assert draw(plain, 2) == draw(avoiding, 2)


def test_where_rewards_are_of_another_scale_success_has_to_be_said():
    curriculum = make("edco", **AVOIDING)
    with pytest.raises(ConfigurationError, match=r"avoid_hopeless needs rewards between 0 and 1; prompt 'p0' got"):
        reward(curriculum, [(-1.0, 2.0)])
    curriculum = make("edco", strategy_kwargs={"avoid_hopeless": True, "success_at": 1.5})
    reward(curriculum, [(-1.0, 2.0)])
    assert curriculum.strategy.reach.evidence[0] == pytest.approx([0.5**0.2] * 2)


@pytest.mark.parametrize("shares", [(0.4, 0.25, 0.35), (0.1, 0.3, 0.6), (0.8, 0.15, 0.05)])
def test_on_a_mixed_pool_most_prompts_drawn_can_be_learned(shares):
    """Mastered prompts of low entropy, learnable ones of high entropy, hopeless ones of a still higher one."""

    def learnable_drawn(seed, **kwargs):
        rng = np.random.default_rng(seed)
        kind = rng.permutation(np.repeat([0, 1, 2], (np.array(shares) * 600).astype(int)))
        chances = np.choose(kind, [0.98, rng.uniform(0.2, 0.8, len(kind)), 0.005])
        entropy = np.choose(kind, [0.2, 1.0, 1.2]) + rng.normal(0, 0.2, len(kind))
        curriculum = make("edco", pool_size=len(kind), batch_size=8, size=32, seed=seed, **kwargs)
        found = []
        for version in range(16):
            score(curriculum, entropy + rng.normal(0, 0.05, len(kind)), version)
            for batch in draw(curriculum, 4):
                found.append(np.mean(kind[batch] == 1))
                groups = [tuple((rng.random(4) < chances[i]).astype(float)) for i in batch]
                curriculum.observe([Outcome(i, version, rewards=g) for i, g in zip(batch, groups, strict=True)])
        return np.mean(found[16:])

    plain = [learnable_drawn(seed) for seed in range(5)]
    avoiding = [learnable_drawn(seed, **AVOIDING) for seed in range(5)]
    # Random order: the share of learnable prompts. Means seen: 0.06, 0.07, 0.46 and 0.53, 0.45, 0.85.
    assert min(avoiding) > 1.3 * shares[1] and min(avoiding) > max(plain) + 0.25


def test_what_was_learned_of_reach_resumes_exactly():
    def run(curriculum, versions, restart_at=None):
        rng = np.random.default_rng(7)
        drawn = []
        for version in range(versions):
            if version == restart_at:
                state = as_read(curriculum)
                curriculum = make("edco", **AVOIDING)
                curriculum.load_state_dict(state)
            score(curriculum, rng.random(12), version)
            for batch in draw(curriculum, 2):
                drawn.append(batch)
                curriculum.observe([Outcome(i, version, rewards=(float(i % 3 == 0),) * 4) for i in batch])
        return drawn

    whole = run(make("edco", **AVOIDING), 8)
    assert run(make("edco", **AVOIDING), 8, restart_at=4) == whole
    with pytest.raises(ConfigurationError, match="hopeless_half_life must be above 0 renewals; got 0"):
        make("edco", strategy_kwargs={"avoid_hopeless": True, "hopeless_half_life": 0})
