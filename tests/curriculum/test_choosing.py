"""Choosing without sorting, against sorting."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edco_rl.curriculum.choosing import any_but, ascending, highest, lowest_set, ranks

VALUES = st.lists(st.integers(-3, 3), min_size=1, max_size=40).map(lambda values: np.array(values, dtype=float))


@settings(max_examples=60)
@given(VALUES, st.integers(0, 50), st.integers(0, 5), st.data())
def test_the_highest_are_those_of_a_sorted_list(values, n, seed, data):
    among = data.draw(st.none() | st.lists(st.booleans(), min_size=len(values), max_size=len(values)).map(np.array))
    found = highest(values, n, np.random.default_rng(seed), among)
    allowed = values if among is None else values[among]
    assert len(set(found.tolist())) == len(found) and (among is None or among[found].all())
    assert values[found].tolist() == sorted(allowed.tolist(), reverse=True)[:n]


@pytest.mark.parametrize("excluded", [1, 30, 70])
def test_few_are_chosen_among_many_some_of_which_have_no_value(excluded):
    rng = np.random.default_rng(excluded)
    for _ in range(50):
        values, among = rng.integers(0, 9, 100).astype(float), np.ones(100, dtype=bool)
        among[rng.choice(100, excluded, replace=False)] = False
        values[~among & (rng.random(100) < 0.5)] = np.nan
        found = highest(values, 7, rng, among)
        assert among[found].all() and len(set(found.tolist())) == 7
        assert values[found].tolist() == np.sort(values[among])[::-1][:7].tolist()


def test_of_equal_values_each_is_as_likely_in_each_place():
    values = np.array([1.0, 2.0, 1.0, 1.0, 0.0])
    drawn = [highest(values, 3, np.random.default_rng(seed)).tolist() for seed in range(3000)]
    assert all(first == 1 for first, *_ in drawn)
    for place in (1, 2):
        counts = np.bincount([one[place] for one in drawn], minlength=5)
        assert counts[[1, 4]].tolist() == [0, 0] and (abs(counts[[0, 2, 3]] - 1000) < 150).all()


@settings(max_examples=60)
@given(VALUES, st.integers(1, 50))
def test_orders_and_sets_are_those_of_a_stable_sort(values, n):
    order = np.argsort(values, kind="stable")
    assert ascending(values).tolist() == order.tolist()
    assert lowest_set(values, n).tolist() == sorted(order[:n].tolist())


@settings(max_examples=60)
@given(VALUES)
def test_ranks_of_equal_values_are_the_mean_of_their_places(values):
    places = np.argsort(np.argsort(-values, kind="stable"), kind="stable") + 1
    assert ranks(values).tolist() == [places[values == value].mean() for value in values]


@settings(max_examples=60)
@given(st.integers(1, 40), st.integers(0, 5), st.data())
def test_any_but_some_is_a_choice_of_the_others(size, seed, data):
    excluded = np.array(sorted(data.draw(st.sets(st.integers(0, size - 1)))), dtype=np.int64)
    n = data.draw(st.integers(0, size - len(excluded)))
    others = np.setdiff1d(np.arange(size), excluded)
    expected = np.random.default_rng(seed).choice(others, n, replace=False)
    assert any_but(excluded, size, n, np.random.default_rng(seed)).tolist() == expected.tolist()
