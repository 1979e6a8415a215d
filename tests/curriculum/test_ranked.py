"""Strategies that rank by signals, against references written here the plain way."""

import functools
import operator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edco_rl.curriculum import STRATEGIES, Outcome, Signal
from edco_rl.curriculum.fusion import reciprocal_rank_fusion

from .drawing import as_read, draw, flat, make, reward, score


def test_edco_takes_the_prompts_of_highest_entropy_in_order():
    curriculum = make("edco")
    values = [0.1, 0.9, 0.3, 0.8, 0.2, 0.7, 0.4, 0.6, 0.5, 0.0, 0.05, 0.15]
    score(curriculum, values)
    drawn = [*curriculum.next_batch(), *curriculum.next_batch()]
    assert drawn == sorted(range(12), key=lambda i: -values[i])[:6]


def test_edco_trains_on_unscored_prompts_last():
    curriculum = make("edco", pool_size=6)
    score(curriculum, [None, 0.1, None, 0.2, None, 0.3])
    assert curriculum.next_batch().tolist() == [5, 3, 1]
    assert sorted(curriculum.next_batch()) == [0, 2, 4]


def test_a_curriculum_that_is_used_up_is_shuffled_and_used_again():
    curriculum = make("edco", size=5)
    score(curriculum, np.linspace(1, 0, 12))
    drawn = [curriculum.next_batch().tolist() for _ in range(10)]
    assert all(len(set(batch)) == 3 for batch in drawn)
    flat = functools.reduce(operator.iadd, drawn, [])
    assert set(flat) == {0, 1, 2, 3, 4}
    assert max(map(flat.count, set(flat))) - min(map(flat.count, set(flat))) <= 1


def test_passes_in_ranked_order_are_all_the_same():
    """As EDCO's released code: 200 prompts in batches of 8 are passed over four times in 100 steps."""
    curriculum = make("edco", pool_size=500, batch_size=8, size=200, strategy_kwargs={"pass_order": "ranked"})
    values = np.random.default_rng(0).random(500)
    score(curriculum, values)
    ranking = sorted(range(500), key=lambda i: -values[i])[:200]
    assert flat(draw(curriculum, 100)) == ranking * 4


def test_passes_in_ranked_order_go_on_within_a_batch():
    curriculum = make("edco", size=5, strategy_kwargs={"pass_order": "ranked"})
    score(curriculum, np.linspace(1, 0, 12))
    assert draw(curriculum, 4) == [[0, 1, 2], [3, 4, 0], [1, 2, 3], [4, 0, 1]]


def test_passes_can_all_be_shuffled():
    curriculum = make("edco", pool_size=100, batch_size=4, size=40, strategy_kwargs={"pass_order": "shuffled"})
    score(curriculum, np.linspace(1, 0, 100))
    first, second = flat(draw(curriculum, 10)), flat(draw(curriculum, 10))
    assert sorted(first) == sorted(second) == list(range(40))
    assert first != sorted(first) and second not in (first, sorted(second))


def test_loss_takes_the_prompts_whose_reference_is_least_likely_each_time_anew():
    assert STRATEGIES.find("loss").estimator == "perplexity"
    curriculum = make("loss", pool_size=6, batch_size=2, size=2)
    for version, losses in enumerate([[0.1, 2.0, 0.5, 0.3, 1.0, 0.2], [0.1, 0.2, 0.5, 3.0, 0.1, 0.6]]):
        assert sorted(curriculum.wants(None)) == list(range(6))
        score(curriculum, losses, version)
        assert curriculum.next_batch().tolist() == sorted(range(6), key=lambda i: -losses[i])[:2]


def test_a_pool_smaller_than_the_curriculum_is_used_whole():
    curriculum = make("edco", pool_size=4, size=100)
    score(curriculum, [0.0, 1.0, 2.0, 3.0])
    assert set(np.concatenate([curriculum.next_batch() for _ in range(4)])) == {0, 1, 2, 3}


@pytest.mark.parametrize(("budget", "expected"), [(None, 12), (5, 5), (50, 12)])
def test_candidates_are_different_prompts_of_the_pool(budget, expected):
    wanted = make("edco").wants(budget)
    assert len(set(wanted.tolist())) == len(wanted) == expected
    assert wanted.min() >= 0 and wanted.max() < 12


def test_edco_looks_past_prompts_that_reached_the_cap():
    curriculum = make("edco", pool_size=6, batch_size=2, size=2, max_visits=1)
    for _ in range(3):
        score(curriculum, [6.0, 5.0, 4.0, 3.0, 2.0, 1.0])
        curriculum.next_batch()
    assert curriculum.batch.tolist() == [4, 5]


GROUPS = [None, (0.0, 0.0), (0.0, 1.0), None, (1.0, 1.0), (0.0, 0.5), (1.0, 0.2), None]


@pytest.mark.parametrize(
    ("strategy", "value"),
    [
        ("reward_variance", lambda group: float(np.var(group))),
        ("target_pass_rate", lambda group: -abs(float(np.mean(group)) - 0.5)),
    ],
)
def test_reward_strategies_rank_by_the_last_group_and_take_unseen_prompts_for_average(strategy, value):
    curriculum = make(strategy, pool_size=8, batch_size=8, size=8)
    reward(curriculum, [(1.0, 0.0)] * 8)  # forgotten: only the last group counts
    reward(curriculum, [group or (0.3, 0.3) for group in GROUPS], version=1)
    values = [value(group or (0.3, 0.3)) for group in GROUPS]
    assert [values[i] for i in curriculum.next_batch()] == sorted(values, reverse=True)

    curriculum = make(strategy, pool_size=8, batch_size=8, size=8)
    reward(curriculum, GROUPS)
    mean = np.mean([value(group) for group in GROUPS if group])
    values = [mean if group is None else value(group) for group in GROUPS]
    assert [values[i] for i in curriculum.next_batch()] == sorted(values, reverse=True)


def test_a_single_reward_is_averaged_with_earlier_ones_into_a_chance_of_success():
    curriculum = make("reward_variance", pool_size=3, batch_size=3, size=3)
    for version, rewards in enumerate([(1.0, 0.0, 1.0), (0.0, 0.0, 1.0), (0.0, 1.0, 1.0)]):
        reward(curriculum, [(r,) for r in rewards], version)
    # Chances 0.25, 0.5 and 1: variances p (1 - p).
    assert curriculum.strategy.signals["reward_variance"].buffer.scores == pytest.approx([0.1875, 0.25, 0.0])
    assert curriculum.next_batch().tolist() == [1, 0, 2]


@given(
    entropy=st.lists(st.one_of(st.none(), st.integers(0, 5)), min_size=6, max_size=6),
    rewards=st.lists(st.one_of(st.none(), st.tuples(*[st.sampled_from([0.0, 1.0])] * 2)), min_size=6, max_size=6),
    weight=st.sampled_from([0.5, 1.0, 3.0]),
    constant=st.sampled_from([1.0, 60.0]),
)
def test_combined_is_a_weighted_reciprocal_rank_fusion(entropy, rewards, weight, constant):
    kwargs = {"signals": {"entropy": weight, "reward_variance": 1.0}, "constant": constant}
    curriculum = make("combined", pool_size=6, batch_size=6, size=6, strategy_kwargs=kwargs)
    curriculum.observe(
        [
            Outcome(index=i, version=0, score=e, rewards=r)
            for i, (e, r) in enumerate(zip(entropy, rewards, strict=True))
        ]
    )
    variances = [None if group is None else float(np.var(group)) for group in rewards]
    known = [value for value in variances if value is not None]
    average = np.mean(known) if known else 0.0
    fused = {}
    for i in range(6):
        # Without a score: behind all others. Without rewards: the average one. For the fusion: in the middle.
        by_entropy = mean_rank([-1 if value is None else value for value in entropy], i)
        by_variance = mean_rank([average if value is None else value for value in variances], i)
        ranks = 3.5 if entropy[i] is None else by_entropy, 3.5 if rewards[i] is None else by_variance
        fused[i] = weight / (constant + ranks[0]) + 1.0 / (constant + ranks[1])
    curriculum.renew(0)
    drawn = curriculum.next_batch().tolist()
    assert [fused[i] for i in drawn] == pytest.approx(sorted(fused.values(), reverse=True))


def mean_rank(values, i):
    """The mean of the places that values equal to one have, from the highest on."""
    places = [place for place, value in enumerate(sorted(values, reverse=True), start=1) if value == values[i]]
    return np.mean(places)


class CutOff(Signal):
    """Prefers prompts of which fewer completions were cut off."""

    def value(self, outcome):
        return None if outcome.truncated is None else -float(sum(outcome.truncated))


def test_a_users_own_signal_is_found_by_its_import_path_ranks_and_resumes():
    path = f"{__name__}:CutOff"
    cut = [3, 0, 2, 1]
    shape = {"pool_size": 4, "batch_size": 2, "size": 4, "strategy_kwargs": {"signals": {path: 1.0}}}
    curriculum = make("combined", **shape)
    assert len(curriculum.wants(None)) == 0
    curriculum.observe([Outcome(i, 0, truncated=(True,) * n + (False,)) for i, n in enumerate(cut)])
    resumed = make("combined", **shape)
    resumed.load_state_dict(as_read(curriculum))
    for ranked in (curriculum, resumed):
        ranked.renew(0)
        assert [cut[i] for i in flat(draw(ranked, 2))] == [0, 1, 2, 3]
    assert curriculum.metrics()[f"{path}_pool"] == -1.5


def test_the_fusion_of_rankings_is_the_sum_of_reciprocal_ranks():
    ranks = [np.array([1.0, 2.0, 3.0]), np.array([3.0, 1.5, 1.5])]
    expected = [2 / 11 + 1 / 13, 2 / 12 + 1 / 11.5, 2 / 13 + 1 / 11.5]
    assert reciprocal_rank_fusion(ranks, constant=10, weights=[2, 1]) == pytest.approx(expected)
    assert reciprocal_rank_fusion(ranks[:1]) == pytest.approx([1 / 61, 1 / 62, 1 / 63])
