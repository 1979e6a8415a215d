import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edco_rl.curriculum import Pool, PriorityBuffer

SCORES = st.lists(st.one_of(st.none(), st.tuples(st.integers(0, 3), st.integers(0, 4))), min_size=1, max_size=30)


def filled(scores, half_life=None, newest_first=True):
    pool = Pool([f"p{i}" for i in range(len(scores))])
    buffer = PriorityBuffer(pool, half_life=half_life, newest_first=newest_first)
    for index, entry in enumerate(scores):
        if entry is not None:
            buffer.update(index, float(entry[0]), entry[1])
    return buffer


@given(SCORES, st.integers(0, 5))
def test_the_order_agrees_with_a_brute_force_ranking(scores, seed):
    order = filled(scores).order(5, np.random.default_rng(seed))
    newest = max((entry[1] for entry in scores if entry), default=None)

    def rank(index):
        entry = scores[index]
        return (2, 0.0) if entry is None else (0 if entry[1] == newest else 1, -float(entry[0]))

    assert sorted(order.tolist()) == list(range(len(scores)))
    assert [rank(i) for i in order] == sorted(rank(i) for i in range(len(scores)))


@given(SCORES, st.integers(5, 9), st.sampled_from([0.5, 2.0, 100.0]))
def test_with_a_half_life_values_fade_to_the_mean_and_unknown_ones_are_average(scores, step, half_life):
    known = [float(entry[0]) for entry in scores if entry]
    mean = sum(known) / len(known) if known else 0.0

    def value(entry):
        return mean if entry is None else mean + (entry[0] - mean) * 0.5 ** ((step - entry[1]) / half_life)

    order = filled(scores, half_life).order(step, np.random.default_rng(0))
    values = [value(scores[i]) for i in order]
    assert all(a >= b - 1e-12 for a, b in itertools.pairwise(values))


def test_without_newest_first_versions_do_not_matter():
    buffer = filled([(1, 9), (3, 0), None, (0, 5)], newest_first=False)
    assert buffer.order(9, np.random.default_rng(0)).tolist() == [1, 2, 0, 3]  # unknown: the average, 4/3


def test_ties_do_not_follow_the_order_of_the_data_set():
    buffer = filled([(1, 0)] * 100)
    order = buffer.order(0, np.random.default_rng(0)).tolist()
    assert order != sorted(order)
    assert order == buffer.order(0, np.random.default_rng(0)).tolist()


def test_scores_survive_a_data_set_that_grew_and_was_reordered():
    state = filled([(3, 1), None, (2, 2)]).state_dict()
    grown = PriorityBuffer(Pool(["new", "p2", "p1", "p0"]), newest_first=True)
    grown.load_state_dict(state)
    assert grown.state_dict() == state
    assert grown.order(2, np.random.default_rng(0)).tolist()[:2] == [1, 3]


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_a_score_that_is_no_number_is_refused(score):
    with pytest.raises(ValueError, match="prompt 'p0' is"):
        filled([None]).update(0, score, 0)
