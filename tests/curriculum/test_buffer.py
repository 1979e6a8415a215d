import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edco_rl.curriculum import Pool, PriorityBuffer

SCORES = st.lists(st.one_of(st.none(), st.tuples(st.integers(0, 3), st.integers(0, 4))), min_size=1, max_size=30)


def filled(scores):
    buffer = PriorityBuffer(Pool([f"p{i}" for i in range(len(scores))]))
    for index, entry in enumerate(scores):
        if entry is not None:
            buffer.update(index, float(entry[0]), entry[1])
    return buffer


@given(SCORES, st.integers(1, 40), st.integers(0, 5))
def test_top_agrees_with_a_brute_force_ranking(scores, n, seed):
    top = filled(scores).top(n, np.random.default_rng(seed))
    newest = max((entry[1] for entry in scores if entry), default=None)

    def rank(index):
        entry = scores[index]
        return (2, 0.0) if entry is None else (0 if entry[1] == newest else 1, -float(entry[0]))

    assert len(top) == min(n, len(scores)) == len(set(top.tolist()))
    assert [rank(i) for i in top] == sorted(rank(i) for i in range(len(scores)))[:n]


def test_ties_do_not_follow_the_order_of_the_data_set():
    buffer = filled([(1, 0)] * 100)
    top = buffer.top(100, np.random.default_rng(0)).tolist()
    assert top != sorted(top)
    assert top == buffer.top(100, np.random.default_rng(0)).tolist()


def test_scores_survive_a_data_set_that_grew_and_was_reordered():
    state = filled([(3, 1), None, (2, 2)]).state_dict()
    grown = PriorityBuffer(Pool(["new", "p2", "p1", "p0"]))
    grown.load_state_dict(state)
    assert grown.state_dict() == state
    assert grown.top(4, np.random.default_rng(0)).tolist()[:2] == [1, 3]


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_a_score_that_is_no_number_is_refused(score):
    with pytest.raises(ValueError, match="prompt 'p0' is"):
        filled([None]).update(0, score, 0)
