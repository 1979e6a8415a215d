"""Strategies through the curriculum that draws from them, against references written here the plain way."""

import functools
import json
import operator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from edco_rl.errors import ConfigurationError
from edco_rl.curriculum import Curriculum, Outcome, Pool, Strategy, available_strategies
from edco_rl.curriculum.fusion import reciprocal_rank_fusion
from edco_rl.curriculum.predicted import logistic_regression


def make(strategy, pool_size=12, batch_size=3, size=6, seed=0, columns=None, max_visits=None, **kwargs):
    columns = columns or {name: list(range(pool_size)) for name in ("prompt_length", "difficulty")}
    pool = Pool([f"p{i}" for i in range(pool_size)], column=columns.__getitem__, max_visits=max_visits, seed=seed)
    return Curriculum(pool, strategy, batch_size=batch_size, size=size, seed=seed, **kwargs)


def score(curriculum, values, version=0):
    curriculum.observe([Outcome(index=i, version=version, score=v) for i, v in enumerate(values) if v is not None])
    curriculum.renew(version)


def reward(curriculum, groups, version=0):
    curriculum.observe([Outcome(index=i, version=version, rewards=r) for i, r in enumerate(groups) if r is not None])
    curriculum.renew(version)


def draw(curriculum, batches):
    return [curriculum.next_batch().tolist() for _ in range(batches)]


def flat(batches):
    return functools.reduce(operator.iadd, batches, [])


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


def test_a_pool_smaller_than_the_curriculum_is_used_whole():
    curriculum = make("edco", pool_size=4, size=100)
    score(curriculum, [0.0, 1.0, 2.0, 3.0])
    assert set(np.concatenate([curriculum.next_batch() for _ in range(4)])) == {0, 1, 2, 3}


@pytest.mark.parametrize(("budget", "expected"), [(None, 12), (5, 5), (50, 12)])
def test_candidates_are_different_prompts_of_the_pool(budget, expected):
    wanted = make("edco").wants(budget)
    assert len(set(wanted.tolist())) == len(wanted) == expected
    assert wanted.min() >= 0 and wanted.max() < 12


def test_random_asks_for_no_scores_and_covers_the_pool_in_each_pass():
    curriculum = make("random")
    assert len(curriculum.wants(None)) == 0
    for _ in range(3):
        assert sorted(np.concatenate([curriculum.next_batch() for _ in range(4)])) == list(range(12))


@pytest.mark.parametrize("strategy", available_strategies())
@settings(max_examples=40)
@given(data=st.data())
def test_properties_of_every_strategy(strategy, data):
    """No prompt twice in a batch, nothing outside the pool, the same for a seed in whatever order outcomes come, the
    cap on visits kept, and a state that survives JSON exactly."""
    pool_size = data.draw(st.integers(4, 20))
    batch_size = data.draw(st.integers(1, pool_size))
    shape = {
        "pool_size": pool_size,
        "batch_size": batch_size,
        "size": data.draw(st.integers(batch_size, 25)),
        "seed": data.draw(st.integers(0, 3)),
        "exploration": data.draw(st.sampled_from([0.0, 0.3, 1.0])),
        "half_life": data.draw(st.sampled_from([None, 2.0])),
        "max_visits": data.draw(st.sampled_from([None, 8])),
    }
    first, second = make(strategy, **shape), make(strategy, **shape)
    for step in range(4):
        budget = data.draw(st.integers(1, 25))
        wanted = first.wants(budget)
        assert wanted.tolist() == second.wants(budget).tolist()
        assert len(set(wanted.tolist())) == len(wanted) <= budget and all(0 <= i < pool_size for i in wanted)
        outcomes = [Outcome(index=int(i), version=step, score=data.draw(st.floats(0, 9))) for i in wanted]
        for index in first.batch:
            rewards = tuple(data.draw(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=1, max_size=3)))
            outcomes.append(Outcome(index=int(index), version=step, rewards=rewards, entropy=float(len(rewards))))
        first.observe(outcomes)
        second.observe(data.draw(st.permutations(outcomes)))
        first.renew(step)
        second.renew(step)
        chosen = getattr(first.strategy, "curriculum", np.empty(0)).tolist()
        assert len(set(chosen)) == len(chosen) <= shape["size"]
        for _ in range(2):
            batch = first.next_batch().tolist()
            assert len(set(batch)) == batch_size and all(0 <= i < pool_size for i in batch)
            assert batch == second.next_batch().tolist()
        if first.room():
            extra = first.draw(1).tolist()
            assert extra == second.draw(1).tolist() and not set(extra) & set(batch)
        assert first.pool.visits.max() <= (shape["max_visits"] or 12)
        restored = make(strategy, **shape)
        restored.load_state_dict(json.loads(json.dumps(first.state_dict(), default=lambda a: a.tolist())))
        assert restored.state_dict() == first.state_dict()
        assert restored.digest == second.digest
        second = restored


def test_random_drops_the_incomplete_batch_of_a_pass_like_trl():
    import torch
    from trl.trainer.utils import RepeatSampler

    def order(epoch):
        generator = torch.Generator().manual_seed(7)
        return [torch.randperm(11, generator=generator).numpy() for _ in range(epoch + 1)][-1]

    curriculum = Curriculum(Pool([str(i) for i in range(11)], order), "random", batch_size=3, size=6)
    sampler = RepeatSampler(list(range(11)), mini_repeat_count=1, batch_size=3, seed=7)
    expected = [*sampler, *sampler, *sampler]
    drawn = np.concatenate([curriculum.next_batch() for _ in range(9)]).tolist()
    assert drawn == expected


class Shortest(Strategy):
    def select(self, n):
        return np.argsort([len(prompt_id) for prompt_id in self.pool.ids], kind="stable")[:n]


class Broken(Strategy):
    def __init__(self, pool, *, size, seed, answer):
        super().__init__(pool, size=size, seed=seed)
        self.answer = answer

    def select(self, n):
        return self.answer


@pytest.mark.parametrize("path", [f"{__name__}:Shortest", f"{__name__}.Shortest"])
def test_a_users_own_strategy_is_found_by_its_import_path(path):
    assert make(path).next_batch().tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ([0, 1], "must select 3 indices"),
        ([0.0, 1.0, 2.0], "must select 3 indices"),
        ([0, 1, 1], "must select different prompts"),
        ([0, 1, 12], "between 0 and 11"),
    ],
)
def test_a_strategy_that_selects_nonsense_is_told_so(answer, message):
    with pytest.raises(ValueError, match=message):
        make(f"{__name__}:Broken", strategy_kwargs={"answer": answer}).next_batch()


@pytest.mark.parametrize(
    ("strategy", "kwargs", "message"),
    [
        ("edko", {}, "Unknown strategy 'edko'. Available: adarft, baby_step"),
        ("nowhere:Class", {}, "Cannot import strategy"),
        ("json:dumps", {}, "not a subclass"),
        ("edco", {"strategy_kwargs": {"speed": 1}}, "strategy_kwargs"),
        ("edco", {"pool_size": 2}, "has 2 prompts, but a generation batch takes 3"),
        ("edco", {"size": 2}, "it must be at least"),
    ],
)
def test_wrong_settings_are_refused(strategy, kwargs, message):
    with pytest.raises(ConfigurationError, match=message):
        make(strategy, **kwargs)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"strategy": "random"}, "strategy 'random', this run has 'edco'"),
        ({"batch_size": 4}, "batch_size 4, this run has 3"),
        ({"size": 7}, "size 7, this run has 6"),
        ({"exploration": 0.5}, "exploration 0.5, this run has 0.0"),
        ({"seed": 1}, "seed 1, this run has 0"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_with_the_difference(change, message):
    curriculum = make("edco")
    state = curriculum.state_dict()
    with pytest.raises(ConfigurationError, match=message):
        curriculum.load_state_dict(state | {"settings": state["settings"] | change})


def test_a_checkpoint_of_another_version_or_data_set_is_refused():
    curriculum = make("edco")
    with pytest.raises(ConfigurationError, match="format 0, this version reads 2"):
        curriculum.load_state_dict(curriculum.state_dict() | {"format": 0})
    with pytest.raises(ConfigurationError, match=r"Of the 13 prompts .* 1 are not in this data set, .* id 'p12'"):
        curriculum.load_state_dict(make("edco", pool_size=13).state_dict())


@pytest.mark.parametrize("strategy", available_strategies())
def test_a_data_set_that_grew_and_was_reordered_resumes(strategy):
    def over(ids):
        pool = Pool(ids, column=lambda name: [len(ids) - i for i in range(len(ids))], seed=3)
        return Curriculum(pool, strategy, batch_size=2, size=4, seed=3)

    old = over([f"p{i}" for i in range(9)])
    score(old, np.linspace(0, 1, 9))
    drawn = [old.pool.ids[i] for i in flat(draw(old, 3))]
    grown = over(["new", *[f"p{i}" for i in reversed(range(9))]])
    grown.load_state_dict(old.state_dict())
    visits = {grown.pool.ids[i]: int(n) for i, n in enumerate(grown.pool.visits) if n}
    assert visits == {prompt_id: drawn.count(prompt_id) for prompt_id in drawn}
    draw(grown, 9)


def test_two_prompts_with_one_id_are_refused():
    with pytest.raises(ValueError, match="Two prompts of the pool have the id 'a'"):
        Pool(["a", "b", "a"])


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
    fused = {}
    orders = {n: s.buffer.order(0, _replayed(curriculum, n)).tolist() for n, s in curriculum.strategy.signals.items()}
    for i in range(6):
        known = {"entropy": entropy[i] is not None, "reward_variance": rewards[i] is not None}
        ranks = {name: orders[name].index(i) + 1 if known[name] else 3.5 for name in orders}
        fused[i] = weight / (constant + ranks["entropy"]) + 1.0 / (constant + ranks["reward_variance"])
    curriculum.renew(0)
    drawn = curriculum.next_batch().tolist()
    assert [fused[i] for i in drawn] == pytest.approx(sorted(fused.values(), reverse=True))


def _replayed(curriculum, name):
    """The generator in the state in which `rank` breaks the ties of that signal."""
    rng = np.random.default_rng(0)
    for other in curriculum.strategy.signals:
        if other == name:
            return rng
        rng.permutation(6)


@pytest.mark.parametrize("strategy", ["easy_to_hard", "hard_to_easy", "length"])
def test_static_orders_go_through_the_pool_by_a_column(strategy):
    difficulty = [5, 3, 3, 8, 1, 9, 2, 7]
    columns = {"difficulty": difficulty, "prompt_length": difficulty}
    kwargs = {} if strategy == "length" else {"column": "difficulty"}
    curriculum = make(strategy, pool_size=8, batch_size=3, columns=columns, strategy_kwargs=kwargs)
    assert len(curriculum.wants(None)) == 0
    passes = [difficulty[i] for i in flat(draw(curriculum, 8))]
    expected = sorted(difficulty, reverse=strategy == "hard_to_easy")
    assert passes == expected * 3


def test_a_static_order_by_an_estimator_scores_each_prompt_once():
    curriculum = make("easy_to_hard", pool_size=8, batch_size=2)
    first = curriculum.wants(5)
    assert len(first) == 5
    curriculum.observe([Outcome(index=int(i), version=0, score=float(i)) for i in first])
    rest = curriculum.wants(5)
    assert sorted([*first, *rest]) == list(range(8))
    curriculum.observe([Outcome(index=int(i), version=1, score=float(i)) for i in rest])
    curriculum.observe([Outcome(index=0, version=2, score=99.0)])
    assert len(curriculum.wants(5)) == 0
    curriculum.renew(2)
    assert flat(draw(curriculum, 4)) == list(range(8))


def test_perplexity_names_the_estimator_it_needs():
    assert make("perplexity").strategy.estimator == "perplexity"
    assert make("edco").strategy.estimator is None


def test_baby_step_trains_stage_i_on_the_easiest_i_subsets():
    columns = {"difficulty": [11 - i for i in range(12)]}
    kwargs = {"stages": 3, "column": "difficulty"}
    curriculum = make("baby_step", batch_size=2, columns=columns, strategy_kwargs=kwargs)
    # A stage lasts one pass over its prompts: 4, 8 and 12 of them, the easiest last in the data set.
    assert sorted(flat(draw(curriculum, 2))) == [8, 9, 10, 11]
    assert sorted(flat(draw(curriculum, 4))) == [4, 5, 6, 7, 8, 9, 10, 11]
    assert sorted(flat(draw(curriculum, 6))) == list(range(12))
    assert sorted(flat(draw(curriculum, 6))) == list(range(12))
    curriculum = make("baby_step", batch_size=2, columns=columns, strategy_kwargs=kwargs | {"stage_batches": 5})
    stages = []
    for _ in range(12):
        curriculum.next_batch()
        stages.append(curriculum.metrics()["stage"])
    assert stages == [1] * 5 + [2] * 5 + [3] * 2
    curriculum = make("baby_step", batch_size=2, columns=columns, strategy_kwargs=kwargs | {"stage_passes": 2})
    for passes_of in (4, 4, 8, 8, 12, 12, 12):
        assert sorted(flat(draw(curriculum, passes_of // 2))) == list(range(12 - passes_of, 12))


@pytest.mark.parametrize(
    ("limit", "expected"), [({}, [1, 1, 1, 1, 2, 2, 2]), ({"stage_batches": 3}, [1, 1, 1, 2, 2, 2, 3])]
)
def test_baby_step_goes_on_when_validation_stops_improving(limit, expected):
    kwargs = {"stages": 3, "column": "difficulty", "patience": 2} | limit
    curriculum = make("baby_step", batch_size=2, strategy_kwargs=kwargs)
    stages = []
    # The lowest loss of a stage counts, not that of the run; equal is no improvement.
    for loss in (3.0, 2.0, 2.0, 2.5, 9.0, 9.0, 9.0):
        curriculum.next_batch()
        stages.append(curriculum.metrics()["stage"])
        curriculum.validate(loss)
        restored = make("baby_step", batch_size=2, strategy_kwargs=kwargs)
        restored.load_state_dict(json.loads(json.dumps(curriculum.state_dict())))
        curriculum = restored
    assert stages == expected
    assert curriculum.strategy.progress() == (stages[-1] - 1) / 2


def test_the_fusion_of_rankings_is_the_sum_of_reciprocal_ranks():
    ranks = [np.array([1.0, 2.0, 3.0]), np.array([3.0, 1.5, 1.5])]
    expected = [2 / 11 + 1 / 13, 2 / 12 + 1 / 11.5, 2 / 13 + 1 / 11.5]
    assert reciprocal_rank_fusion(ranks, constant=10, weights=[2, 1]) == pytest.approx(expected)
    assert reciprocal_rank_fusion(ranks[:1]) == pytest.approx([1 / 61, 1 / 62, 1 / 63])


def test_mopps_keeps_a_discounted_beta_posterior_and_draws_near_the_target():
    curriculum = make("mopps", pool_size=3, batch_size=1, strategy_kwargs={"discount": 0.5})
    for version in range(2):
        reward(curriculum, [(1.0, 1.0, 1.0, 1.0), (1.0, 0.0, 0.5, 0.5), (0.0, 0.0, 0.0, 0.0)], version)
    strategy = curriculum.strategy
    assert strategy.successes.tolist() == [2 + 4, 1 + 2, 0]
    assert strategy.failures.tolist() == [0, 1 + 2, 2 + 4]
    drawn = flat(draw(curriculum, 300))
    # Brute force: how often the middle one is nearest 0.5 among three independent draws.
    rates = np.random.default_rng(9).beta(1 + strategy.successes, 1 + strategy.failures, size=(20000, 3))
    expected = np.bincount(np.abs(rates - 0.5).argmin(axis=1), minlength=3) / 20000
    assert np.bincount(drawn, minlength=3) / 300 == pytest.approx(expected, abs=0.08)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.integers(1, 40))
def test_logistic_regression_is_that_of_scikit_learn(seed, groups):
    rng = np.random.default_rng(seed)
    x, successes, failures = rng.normal(size=groups), rng.uniform(0, 4, groups), rng.uniform(0, 4, groups)
    # Its prior leaves the intercept out, so that is the slope of a constant here; a fraction counts as a weight.
    design = np.column_stack([np.ones_like(x), x])
    reference = LogisticRegression(C=9.0, fit_intercept=False, tol=1e-10, max_iter=1000)
    labels, weights = np.repeat([1, 0], groups), np.concatenate([successes, failures])
    reference.fit(np.concatenate([design, design]), labels, sample_weight=weights)
    assert logistic_regression(x, successes, failures) == pytest.approx(reference.coef_[0], abs=1e-4)


@pytest.mark.parametrize("sign", [1, -1])
def test_predicted_pass_rate_finds_the_prompts_in_reach_by_a_score_of_either_direction(sign):
    """The rates of prompts follow from their scores; random order would meet one in ten that is in reach."""
    rng = np.random.default_rng(3)
    scores = rng.normal(size=400)
    rates = 1 / (1 + np.exp(-(4 * scores - 8)))
    in_reach = (rates > 0.1) & (rates < 0.9)
    curriculum = make("predicted_pass_rate", pool_size=400, batch_size=8, size=80)
    score(curriculum, sign * scores)
    shares = []
    for version in range(30):
        batch = curriculum.next_batch()
        shares.append(in_reach[batch].mean())
        groups = [Outcome(index=i, version=version, rewards=tuple(rng.random(4) < rates[i])) for i in batch]
        curriculum.observe(groups)
    assert in_reach.mean() < 0.1 and np.mean(shares[:3]) < 0.5 < np.mean(shares[5:])
    found = curriculum.strategy.rates()
    assert np.abs(found - rates).mean() < 0.05


def test_predicted_pass_rate_forgets_groups_and_takes_prompts_without_a_score_for_the_target():
    def rates(**kwargs):
        curriculum = make("predicted_pass_rate", pool_size=4, batch_size=1, size=1, **kwargs)
        score(curriculum, [-1.0, 1.0, 0.0, None])
        assert curriculum.strategy.rates().tolist() == [0.5] * 4
        reward(curriculum, [(0.0,) * 4, (1.0,) * 4], version=0)
        reward(curriculum, [(1.0,) * 4, (0.0,) * 4], version=40)
        return curriculum.strategy.rates()

    assert rates() == pytest.approx([0.5] * 4)
    faded = rates(half_life=5)
    assert faded[0] > 0.8 and faded[1] < 0.2 and faded[3] == 0.5


def test_adarft_moves_its_target_with_the_reward():
    columns = {"difficulty": list(range(12))}
    kwargs = {"column": "difficulty", "step_size": 0.5}
    curriculum = make("adarft", batch_size=3, size=3, columns=columns, strategy_kwargs=kwargs)
    assert sorted(curriculum.next_batch()) == [0, 1, 2]
    reward(curriculum, [(1.0,), (1.0,), (1.0,)])
    expected = 0.5 * np.tanh(2.0 * 0.5)
    assert curriculum.strategy.target == pytest.approx(expected)
    nearest = sorted(range(12), key=lambda i: abs(i / 11 - expected))[:3]
    assert sorted(curriculum.next_batch()) == sorted(nearest)
    for _ in range(5):
        reward(curriculum, [(0.0,)] * 3)
    assert curriculum.strategy.target == 0.0


def test_exploration_takes_its_share_of_prompts_from_the_whole_pool():
    curriculum = make("edco", pool_size=100, batch_size=4, size=4, exploration=0.3)
    score(curriculum, np.linspace(1, 0, 100))
    drawn = flat(draw(curriculum, 50))
    assert sum(i not in (0, 1, 2, 3) for i in drawn) == pytest.approx(0.3 * 200, abs=4)
    assert len({i for i in drawn if i > 3}) > 30


def test_a_cap_on_visits_replaces_prompts_and_ends_with_an_error_that_says_so():
    curriculum = make("edco", pool_size=6, batch_size=2, size=2, max_visits=2)
    score(curriculum, [9.0, 8.0, 1.0, 1.0, 1.0, 1.0])
    assert [sorted(batch) for batch in draw(curriculum, 2)] == [[0, 1], [0, 1]]
    draw(curriculum, 4)
    assert curriculum.pool.visits.tolist() == [2] * 6
    with pytest.raises(ConfigurationError, match="max_visits = 2 times, and of the 6 only 0 are left for 2 places"):
        curriculum.next_batch()


def test_edco_looks_past_prompts_that_reached_the_cap():
    curriculum = make("edco", pool_size=6, batch_size=2, size=2, max_visits=1)
    for _ in range(3):
        score(curriculum, [6.0, 5.0, 4.0, 3.0, 2.0, 1.0])
        curriculum.next_batch()
    assert curriculum.batch.tolist() == [4, 5]


def test_metrics_say_what_the_curriculum_did():
    curriculum = make("edco", pool_size=4, batch_size=2, size=2)
    score(curriculum, [1.0, 2.0, 3.0, 6.0])
    curriculum.next_batch()
    metrics = curriculum.metrics()
    assert metrics["entropy"] == 4.5 and metrics["entropy_pool"] == 3.0 and metrics["visited"] == 0.5
    assert metrics["entropy_p50"] == 2.5 and metrics["entropy_known"] == 1.0 and metrics["entropy_age"] == 0.0
    assert "overlap" not in metrics and curriculum.prompts_used() == 2
    curriculum.observe([Outcome(index=2, version=4, score=9.0)])
    curriculum.renew(4)
    curriculum.next_batch()
    metrics = curriculum.metrics()
    assert metrics["overlap"] == 1.0 and metrics["entropy_age"] == 2.0  # the other score is four steps old


@pytest.mark.parametrize(
    ("strategy", "kwargs", "message"),
    [
        ("combined", {"signals": {"mood": 1.0}}, "Unknown signal 'mood'. Available: entropy, pass_rate"),
        ("combined", {"signals": {"entropy": 0}}, "weight of 'entropy' must be a positive number; got 0"),
        ("easy_to_hard", {"column": "mood"}, "column 'mood', which the data set has not"),
        ("easy_to_hard", {"column": "broken"}, "Row 3, column 'broken': expected a finite number, got 'x'"),
        ("baby_step", {"stages": 13}, "stages must be between 1 and the 12 prompts; got 13"),
        ("baby_step", {"stage_batches": 2, "stage_passes": 2}, "both say how long a stage lasts"),
        ("baby_step", {"patience": 0}, "patience must be at least 1; got 0"),
        ("pocl", {}, "column 'difficulty', which the data set has not"),
        ("mopps", {"discount": 2}, "discount between 0 and 1"),
        ("predicted_pass_rate", {"strength": 0}, "strength above 0"),
    ],
)
def test_wrong_strategy_kwargs_are_refused(strategy, kwargs, message):
    columns = {"broken": [1, 2.0, 3, "x", *range(8)], "prompt_length": list(range(12))}
    with pytest.raises(ConfigurationError, match=message):
        make(strategy, columns=columns, strategy_kwargs=kwargs)


@pytest.mark.parametrize("name", ["mopps", "predicted_pass_rate"])
def test_rewards_that_are_no_chances_are_refused(name):
    message = rf"{name} needs rewards between 0 and 1; prompt 'p1' got \[0.0, 3.0\]"
    with pytest.raises(ConfigurationError, match=message):
        reward(make(name), [None, (0.0, 3.0)])
