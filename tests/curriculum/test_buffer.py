import itertools

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
            buffer.update(np.array([index]), np.array([float(entry[0])]), entry[1])
    return buffer


@given(SCORES, st.integers(0, 5), st.integers(0, 30), st.data())
def test_the_first_ones_agree_with_a_brute_force_ranking(scores, seed, n, data):
    among = np.array(data.draw(st.lists(st.booleans(), min_size=len(scores), max_size=len(scores))))
    first = filled(scores).first(n, 5, np.random.default_rng(seed), newest_first=True, among=among).tolist()
    newest = max((entry[1] for entry in scores if entry), default=None)

    def rank(index):
        entry = scores[index]
        return (2, 0.0) if entry is None else (0 if entry[1] == newest else 1, -float(entry[0]))

    allowed = [i for i in range(len(scores)) if among[i]]
    assert len(set(first)) == len(first) and set(first) <= set(allowed)
    assert [rank(i) for i in first] == sorted(map(rank, allowed))[:n]


@given(SCORES, st.integers(5, 9), st.sampled_from([0.5, 2.0, 100.0]))
def test_with_a_half_life_values_fade_to_the_mean_and_unknown_ones_are_average(scores, step, half_life):
    known = [float(entry[0]) for entry in scores if entry]
    mean = sum(known) / len(known) if known else 0.0

    def value(entry):
        return mean if entry is None else mean + (entry[0] - mean) * 0.5 ** ((step - entry[1]) / half_life)

    order = filled(scores).first(len(scores), step, np.random.default_rng(0), half_life=half_life)
    assert sorted(order.tolist()) == list(range(len(scores)))
    values = [value(scores[i]) for i in order]
    assert all(a >= b - 1e-12 for a, b in itertools.pairwise(values))


def test_without_newest_first_versions_do_not_matter():
    buffer = filled([(1, 9), (3, 0), None, (0, 5)])
    assert buffer.first(4, 9, np.random.default_rng(0)).tolist() == [1, 2, 0, 3]  # unknown: the average, 4/3


@given(SCORES)
def test_ranks_are_means_of_places_and_the_median_of_what_is_not_known(scores):
    found = filled(scores).ranks(5, newest_first=True)
    newest = max((entry[1] for entry in scores if entry), default=None)
    keys = [(0 if entry[1] == newest else 1, -float(entry[0])) if entry else (2, 0.0) for entry in scores]
    for key, entry, rank in zip(keys, scores, found, strict=True):
        places = [place for place, other in enumerate(sorted(keys), start=1) if other == key]
        assert rank == (sum(places) / len(places) if entry else (len(scores) + 1) / 2)


def test_ties_do_not_follow_the_order_of_the_data_set():
    buffer = filled([(1, 0)] * 100)
    order = buffer.first(100, 0, np.random.default_rng(0)).tolist()
    assert order != sorted(order)
    assert order == buffer.first(100, 0, np.random.default_rng(0)).tolist()
    few = [tuple(buffer.first(2, 0, np.random.default_rng(seed)).tolist()) for seed in range(200)]
    assert len({i for pair in few for i in pair}) > 90  # each as likely as any


def test_scores_survive_a_data_set_that_grew_and_was_reordered():
    old = filled([(3, 1), None, (2, 2)])
    pool = Pool(["new", "p2", "p1", "p0"])
    pool.resume(old.pool.keys)
    grown = PriorityBuffer(pool)
    grown.load_state_dict(old.state_dict())
    assert grown.scores.tolist()[::2] == pytest.approx([np.nan, np.nan], nan_ok=True)
    assert grown.scores.tolist()[1::2] == [2, 3] and grown.versions.tolist() == [-1, 2, -1, 1]
    assert grown.first(2, 2, np.random.default_rng(0), newest_first=True).tolist() == [1, 3]


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_a_score_that_is_no_number_is_refused(score):
    with pytest.raises(ValueError, match="prompt 'p1' is"):
        filled([None, None]).update(np.array([0, 1]), np.array([1.0, score]), 0)
