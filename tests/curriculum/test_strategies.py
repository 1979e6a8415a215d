import functools
import json
import operator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edco_rl.config import ConfigurationError
from edco_rl.curriculum import EDCO, Curriculum, Outcome, Pool, Strategy, available_strategies


def make(strategy, pool_size=12, batch_size=3, size=6, seed=0, **kwargs):
    pool = Pool([f"p{i}" for i in range(pool_size)], seed=seed)
    return Curriculum(pool, strategy, batch_size=batch_size, size=size, seed=seed, **kwargs)


def score(curriculum, values, version=0):
    curriculum.observe([Outcome(index=i, version=version, score=v) for i, v in enumerate(values) if v is not None])
    curriculum.renew(version)


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
@given(data=st.data())
def test_properties_of_every_strategy(strategy, data):
    pool_size = data.draw(st.integers(1, 20))
    batch_size = data.draw(st.integers(1, pool_size))
    size = data.draw(st.integers(batch_size, 25))
    seed = data.draw(st.integers(0, 3))
    shape = {"pool_size": pool_size, "batch_size": batch_size, "size": size, "seed": seed}
    first, second = make(strategy, **shape), make(strategy, **shape)
    for step in range(4):
        wanted = first.wants(data.draw(st.integers(1, 25)))
        second.wants(len(wanted)) if len(wanted) else second.wants(None)
        outcomes = [Outcome(index=int(i), version=step, score=data.draw(st.floats(0, 9))) for i in wanted]
        first.observe(outcomes)
        second.observe(data.draw(st.permutations(outcomes)))
        first.renew(step)
        second.renew(step)
        for _ in range(2):
            batch = first.next_batch()
            assert len(set(batch.tolist())) == batch_size
            assert batch.tolist() == second.next_batch().tolist()
        restored = make(strategy, **shape)
        restored.load_state_dict(json.loads(json.dumps(first.state_dict(), default=lambda a: a.tolist())))
        assert restored.state_dict() == first.state_dict()
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
        ("edko", {}, "Unknown strategy 'edko'. Available: edco, random"),
        ("nowhere:Class", {}, "Cannot import strategy"),
        ("json:dumps", {}, "not a subclass"),
        ("edco", {"strategy_kwargs": {"speed": 1}}, "strategy_kwargs"),
        ("edco", {"pool_size": 2}, "has 2 prompts, but a generation batch takes 3"),
        ("edco", {"size": 2}, "size must be at least"),
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
        ({"format": 0}, "format 0"),
        ({"visits": {"elsewhere": 1}}, "first with id 'elsewhere'"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(change, message):
    curriculum = make("edco")
    with pytest.raises(ConfigurationError, match=message):
        curriculum.load_state_dict(curriculum.state_dict() | change)


def test_two_prompts_with_one_id_are_refused():
    with pytest.raises(ValueError, match="Two prompts of the pool have the id 'a'"):
        Pool(["a", "b", "a"])


def test_metrics_report_the_entropy_of_curriculum_and_pool():
    curriculum = make("edco", pool_size=4, batch_size=1, size=2)
    score(curriculum, [1.0, 2.0, 3.0, 6.0])
    curriculum.next_batch()
    assert curriculum.metrics() == {"entropy": 4.5, "entropy_pool": 3.0, "visited": 0.25}
    assert isinstance(curriculum.strategy, EDCO) and curriculum.prompts_used() == 1
