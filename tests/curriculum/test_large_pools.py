"""What is done with less than a whole pool is what would be done with all of it, or close to it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edco_rl.curriculum import Outcome, Outcomes, available_strategies
from edco_rl.store import plain, read_state, write_state

from .drawing import draw, flat, make, score

LARGE = {"pool_size": 20_000, "batch_size": 32, "size": 640}


def trained(strategy, seed=0, steps=6, **kwargs):
    """A curriculum over a large pool after some batches, and the generator of their rewards."""
    rng = np.random.default_rng(seed)
    curriculum = make(strategy, seed=seed, **LARGE, **kwargs)
    curriculum.observe(Outcomes.scores(np.arange(20_000), 0, rng.exponential(1.5, 20_000)))
    curriculum.renew(0)
    for step in range(steps):
        batch = curriculum.next_batch()
        rewards = rng.random((len(batch), 4)) < rng.random((len(batch), 1))
        groups = zip(batch.tolist(), rewards.astype(float).tolist(), strict=True)
        curriculum.observe([Outcome(index, step, rewards=tuple(group)) for index, group in groups])
    return curriculum


@pytest.mark.parametrize("kwargs", [{}, {"target": 0.3}, {"balance": True}])
def test_learning_edge_looks_at_the_prompts_of_highest_value(kwargs):
    """Against the value of every prompt, worked out one by one."""
    columns = {"subject": [f"s{i % 5}" for i in range(20_000)]}
    curriculum = trained("learning_edge", columns=columns, strategy_kwargs={"review": 0.0, **kwargs})
    strategy = curriculum.strategy
    curriculum.renew(6)
    value = strategy.value() * (1.0 + curriculum.pool.visits) ** -0.5
    batch = curriculum.next_batch()
    if kwargs.get("balance"):
        assert max(abs(np.bincount(batch % 5, minlength=5) - 32 / 5)) < 2
        best = np.concatenate([np.sort(value[np.arange(20_000) % 5 == s])[-7:] for s in range(5)])
        assert value[batch].min() > 0.98 * best.min()
    else:
        assert value[batch] == pytest.approx(np.sort(value)[::-1][:32], rel=1e-9)
    value = strategy.value() * (1.0 + curriculum.pool.visits) ** -0.5
    assert (value[strategy.wants(64)] > 0.999 * np.sort(value)[-32]).sum() >= 32  # to a step of the grid


def test_learning_edge_reviews_mastered_prompts_of_a_large_pool():
    curriculum = trained("learning_edge", strategy_kwargs={"review": 0.25}, steps=0)
    good, bad = curriculum.strategy.posterior().T
    mastered = good / (good + bad) > 0.9
    drawn = np.array(flat(draw(curriculum, 4)))
    assert mastered[drawn].sum() == 32 and len(set(drawn.tolist())) == 128


@settings(max_examples=50)
@given(st.data())
def test_adarft_takes_the_nearest_of_all(data):
    size = data.draw(st.integers(2, 60))
    difficulty = data.draw(st.lists(st.integers(0, 9), min_size=size, max_size=size))
    n, most = data.draw(st.integers(1, min(size, 8))), data.draw(st.sampled_from([None, 1, 2]))
    kwargs = {"column": "difficulty", "least_visited": data.draw(st.booleans())}
    if data.draw(st.booleans()):
        kwargs["difficulty_range"] = [0, 9]
    shape = {"pool_size": size, "batch_size": n, "size": n + 3, "max_visits": most}
    curriculum = make("adarft", columns={"difficulty": difficulty}, strategy_kwargs=kwargs, **shape)
    strategy, pool = curriculum.strategy, curriculum.pool
    strategy.target = data.draw(st.floats(0, 1))
    pool.visits[:] = data.draw(st.lists(st.integers(0, 2), min_size=size, max_size=size))
    order = sorted(range(size), key=lambda i: (difficulty[i], i))
    value = {i: difficulty[i] / 9 if "difficulty_range" in kwargs else order.index(i) / (size - 1) for i in order}
    may = most or 99
    nearest = sorted(
        order, key=lambda i: (pool.visits[i] >= may, pool.visits[i] < may and abs(value[i] - strategy.target), i)
    )
    if kwargs["least_visited"]:
        nearest = sorted(nearest[: max(n, n + 3)], key=lambda i: pool.visits[i])
    assert strategy.select(n).tolist() == nearest[:n]


@pytest.mark.parametrize("strategy", available_strategies())
def test_a_large_pool_resumes_exactly_from_files(strategy, tmp_path):
    columns = {name: np.arange(20_000) % 97 for name in ("prompt_length", "difficulty", "phase")}
    whole = trained(strategy, columns=columns, steps=3)
    write_state(tmp_path / "state.json", whole.state_dict())
    drawn = draw(whole, 3)
    resumed = make(strategy, columns=columns, **LARGE)
    resumed.load_state_dict(read_state(tmp_path / "state.json"))
    assert draw(resumed, 3) == drawn and plain(resumed.state_dict()) == plain(whole.state_dict())
    assert (tmp_path / "state.json").stat().st_size < 20_000


def test_a_state_is_not_changed_by_what_comes_after():
    curriculum = trained("mopps", steps=1)
    state = curriculum.state_dict()
    before = plain(state)
    draw(curriculum, 2)
    score(curriculum, [0.5])
    assert plain(state) == before
