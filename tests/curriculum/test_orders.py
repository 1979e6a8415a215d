"""Orders that are fixed before training, drawn through the curriculum."""

import numpy as np
import pytest

from edco_rl.curriculum import Curriculum, Outcome, Pool

from .drawing import as_read, draw, flat, make


def test_random_asks_for_no_scores_and_covers_the_pool_in_each_pass():
    curriculum = make("random")
    assert len(curriculum.wants(None)) == 0
    for _ in range(3):
        assert sorted(np.concatenate([curriculum.next_batch() for _ in range(4)])) == list(range(12))


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


@pytest.mark.parametrize("limit", [{}, {"stage_batches": 5}, {"stage_passes": 2}])
def test_the_lengths_of_stages_are_those_that_are_drawn(limit):
    curriculum = make("baby_step", batch_size=2, strategy_kwargs={"stages": 3, "column": "difficulty"} | limit)
    lengths = curriculum.strategy.stage_lengths(2)
    stages = []
    for _ in range(sum(lengths) + 7):
        curriculum.next_batch()
        stages.append(curriculum.metrics()["stage"])
    assert [stages.count(1), stages.count(2), stages.count(3)] == [*lengths[:2], lengths[2] + 7]


def test_stages_that_validation_ends_have_no_length_and_orders_without_stages_none():
    kwargs = {"stages": 3, "column": "difficulty", "patience": 1, "stage_batches": 4}
    assert make("baby_step", strategy_kwargs=kwargs).strategy.stage_lengths(3) == [None] * 3
    assert make("edco").strategy.stage_lengths(3) is None


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
        restored.load_state_dict(as_read(curriculum))
        curriculum = restored
    assert stages == expected
    assert curriculum.strategy.progress() == (stages[-1] - 1) / 2
