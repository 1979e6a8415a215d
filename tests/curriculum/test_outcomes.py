"""Outcomes as columns are the outcomes one by one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edco_rl.curriculum import Outcome, Outcomes
from edco_rl.curriculum.gates import has_signal, have_signal

NUMBER = st.floats(-5, 5)
OUTCOMES = st.lists(
    st.builds(
        Outcome,
        index=st.integers(0, 6),
        version=st.integers(0, 3),
        score=st.none() | NUMBER,
        entropy=st.none() | NUMBER,
        rewards=st.none() | st.lists(NUMBER, min_size=1, max_size=4).map(tuple),
        truncated=st.none() | st.lists(st.booleans(), min_size=1, max_size=4).map(tuple),
        admitted=st.booleans(),
    ),
    max_size=12,
)


@settings(max_examples=40)
@given(OUTCOMES, st.data())
def test_columns_give_the_outcomes_back(outcomes, data):
    columns = Outcomes.of(outcomes)
    assert list(columns) == outcomes and len(columns) == len(outcomes)
    rows = data.draw(st.lists(st.integers(0, max(len(outcomes) - 1, 0)), max_size=6)) if outcomes else []
    assert list(columns.take(np.array(rows, dtype=np.int64))) == [outcomes[row] for row in rows]
    cut = data.draw(st.integers(0, len(outcomes)))
    assert list(Outcomes.join([outcomes[:cut], columns.take(np.arange(cut, len(outcomes)))])) == outcomes
    assert list(columns.groups) == [one for one in outcomes if one.rewards]


@settings(max_examples=40)
@given(OUTCOMES, st.randoms())
def test_sorted_they_are_the_same_however_they_came_in(outcomes, random):
    shuffled = list(outcomes)
    random.shuffle(shuffled)
    columns = Outcomes.of(shuffled).sorted()
    assert [one.index for one in columns] == sorted(one.index for one in outcomes)
    assert b"".join(columns.tobytes()) == b"".join(Outcomes.of(outcomes).sorted().tobytes())


@settings(max_examples=40)
@given(OUTCOMES)
def test_parts_of_one_outcome_a_prompt_keep_their_order(outcomes):
    parts = [list(part) for part in Outcomes.of(outcomes).one_each()]
    assert all(len({one.index for one in part}) == len(part) for part in parts)
    for index in range(7):
        found = [one for part in parts for one in part if one.index == index]
        assert found == [one for one in outcomes if one.index == index]


@settings(max_examples=40)
@given(OUTCOMES)
def test_what_is_said_of_groups_is_what_is_said_of_each(outcomes):
    groups = Outcomes.of(outcomes).groups
    rewards = [one.rewards for one in outcomes if one.rewards]
    assert groups.means() == pytest.approx([np.mean(group) for group in rewards])
    assert groups.variances() == pytest.approx([np.var(group) for group in rewards], abs=1e-12)
    assert have_signal(groups).tolist() == [has_signal(one) for one in groups]


@pytest.mark.parametrize("field", ["score", "entropy", "rewards"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_is_refused(field, value):
    outcome = Outcome(7, 0, **{field: (1.0, value) if field == "rewards" else value})
    with pytest.raises(ValueError, match=r"of the prompt at position 7 is (nan|inf); it must be a finite number"):
        Outcomes.of([Outcome(3, 0, score=1.0), outcome])
    with pytest.raises(ValueError, match="score of the prompt at position 4"):
        Outcomes.scores([3, 4], 0, [1.0, value])


def test_scores_alone_are_outcomes_with_a_score():
    assert list(Outcomes.scores([3, 1], 5, [0.5, 2.0])) == [Outcome(3, 5, score=0.5), Outcome(1, 5, score=2.0)]
    assert list(Outcomes.of([])) == []
