"""What holds for every strategy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edco_rl.curriculum import Curriculum, Outcome, Pool, available_strategies
from edco_rl.errors import ConfigurationError

from .drawing import as_read, draw, flat, make, plain, score


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
        chosen = getattr(first.strategy, "ranked_first", np.empty(0)).tolist()
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
        restored.load_state_dict(as_read(first))
        assert plain(restored) == plain(first)
        assert restored.digest == second.digest
        second = restored


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


@pytest.mark.parametrize(
    ("strategy", "kwargs", "message"),
    [
        ("combined", {"signals": {"mood": 1.0}}, "Unknown signal 'mood'. Available: entropy, pass_rate"),
        ("combined", {"signals": {"json:dumps": 1.0}}, "'json:dumps' is not a subclass of edco_rl.curriculum.Signal"),
        ("combined", {"signals": {"entropy": 0}}, "weight of 'entropy' must be a positive number; got 0"),
        ("easy_to_hard", {"column": "mood"}, "column 'mood', which the data set has not"),
        ("easy_to_hard", {"column": "broken"}, "Row 3, column 'broken': expected a finite number, got 'x'"),
        ("baby_step", {"stages": 13}, "stages must be between 1 and the 12 prompts; got 13"),
        ("baby_step", {"stage_batches": 2, "stage_passes": 2}, "both say how long a stage lasts"),
        ("baby_step", {"patience": 0}, "patience must be at least 1; got 0"),
        ("pocl", {}, "column 'difficulty', which the data set has not"),
        ("edco", {"pass_order": "sorted"}, "pass_order must be one of ranked_first, ranked, shuffled; got 'sorted'"),
        ("mopps", {"discount": 2}, "discount between 0 and 1"),
        ("mopps", {"candidates": 0}, "at least 1 of candidates; got 0"),
        ("adarft", {"difficulty_range": [1, 0]}, r"difficulty_range must be lowest and highest; got \[1, 0\]"),
    ],
)
def test_wrong_strategy_kwargs_are_refused(strategy, kwargs, message):
    columns = {"broken": [1, 2.0, 3, "x", *range(8)], "prompt_length": list(range(12))}
    with pytest.raises(ConfigurationError, match=message):
        make(strategy, columns=columns, strategy_kwargs=kwargs)
