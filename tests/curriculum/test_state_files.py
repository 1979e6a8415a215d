"""Altered states: refused by name, or taken whole; `tests.benchmarks.fuzz` does the same with many more."""

import copy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edco_rl import ConfigurationError
from edco_rl.curriculum import Outcome
from edco_rl.curriculum.state import no_later_than
from tests.benchmarks import fuzz_state_files

from .drawing import as_read, draw, make, reward, score


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32))
def test_an_altered_file_is_refused_by_name_or_can_be_true(seed):
    assert fuzz_state_files.outcome(seed) in ("refused", "can be true")


def state_of(strategy, **kwargs):
    curriculum = make(strategy, **kwargs)
    score(curriculum, np.linspace(0, 1, 12), 3)
    for _ in range(3):
        batch = draw(curriculum, 1)[0]
        curriculum.observe([Outcome(index, 3, rewards=(0.0, 1.0)) for index in batch])
    curriculum.next_batch()
    return as_read(curriculum)


def put(state, path, value):
    *parents, last = path
    for key in parents:
        state = state[key]
    state[last] = value


@pytest.mark.parametrize(
    ("strategy", "path", "value", "message"),
    [
        ("edco", ("visits", 3), -2, r"^visits\[3\] must be a whole number from 0 to \d+; got -2"),
        (
            "edco",
            ("visits",),
            np.zeros(11, dtype=np.int32),
            r"visits must be .* int32, shape \(12\); got int32, .* \(11\)",
        ),
        ("edco", ("visits",), np.zeros(12), r"visits must be an array of int32, .*; got float64, shape \(12\)"),
        ("edco", ("visits",), [0] * 12, r"visits must be an array of int32, shape \(12\); got \[0, 0"),
        ("edco", ("keys", 3), np.uint64(7), "Of the 12 prompts .* 1 are not in this data set, .* row 3"),
        ("edco", ("keys",), np.repeat(make("edco").pool.keys[:6], 2), r"keys\[1\] must be another than keys\[0\]"),
        ("edco", ("renewed_at",), 10**9, "renewed_at must be a whole number from 0 to 5; got 1000000000"),
        ("edco", ("strategy_state", "step"), 10**9, r"strategy_state\.step must be a whole number from 0 to 5"),
        (
            "edco",
            ("strategy_state", "queue"),
            np.array([1, 4, 1]),
            r"^strategy_state\.queue\[2\] must be another prompt than those before; got 1",
        ),
        (
            "edco",
            ("strategy_state", "queue"),
            np.array([1, 12]),
            r"queue\[1\] must be a position from 0 to 11; got 12",
        ),
        (
            "edco",
            ("strategy_state", "queue"),
            np.array([1, -1]),
            r"queue\[1\] must be a position from 0 to 11; got -1",
        ),
        ("edco", ("strategy_state", "queue"), "p1", r"strategy_state\.queue must be an array of int64, .*; got 'p1'"),
        ("edco", ("strategy_state",), None, "strategy_state must be a mapping; got None"),
        ("edco", ("scores", "scores", 1), np.inf, r"^scores\.scores\[1\] must be a finite number; got inf"),
        ("edco", ("scores", "scores", 1), np.nan, r"^scores\.versions must be -1 where there is no score.* 'p1'"),
        ("edco", ("scores", "versions", 1), 9, r"scores\.versions\[1\] must be a whole number from -1 to 5; got 9"),
        ("edco", ("strategy_state", "rng", "state", "state"), -1, r"strategy_state\.rng cannot be read"),
        (
            "edco",
            ("strategy_state", "rng", "state", "inc"),
            7,
            r"strategy_state\.rng is .* generator with another seed",
        ),
        ("random", ("strategy_state", "passes"), 10**9, r"strategy_state\.passes must be a whole number from 0 to 12"),
        ("random", ("strategy_state", "passes"), True, r"strategy_state\.passes must be a whole number"),
        ("adarft", ("strategy_state", "target"), 1.5, r"target must be a finite number from 0.0 to 1.0; got 1.5"),
        (
            "mopps",
            ("strategy_state", "evidence", (1, 1)),
            -1,
            r"evidence\[1, 1\] must be a finite number from 0; got -1",
        ),
        ("baby_step", ("strategy_state", "stage"), 5, r"strategy_state\.stage must be a whole number from 1 to 4"),
        (
            "learning_edge",
            ("strategy_state", "model", "groups", (2, 1)),
            1.0,
            r"^strategy_state\.model\.groups\[2\] must hold a rate within 0 and 1, and counts from 0",
        ),
        (
            "learning_edge",
            ("strategy_state", "model", "groups", (2, 4)),
            9,
            r"groups\[2\] must be of .* step from 0 to 5",
        ),
        (
            "learning_edge",
            ("strategy_state", "model", "prompts"),
            np.array([1]),
            r"groups must be .* shape \(1, 5\); got",
        ),
        ("learning_edge", ("strategy_state", "owed", 0), np.nan, r"owed\[0\] must be a finite number; got nan"),
        ("edco", ("watch", "told"), 1, r"watch\.told must be true or false; got 1"),
        ("edco", ("watch", "drawn", (0, 1)), 2, r"watch\.drawn\[0, 0\] must be a prompt and flags"),
        (
            "edco",
            ("quarantine", "entries"),
            [[12, 1, "nan"]],
            r"quarantine\.entries\[0\]\.prompt must be .* from 0 to 11",
        ),
        ("edco", ("quarantine", "entries"), [[1, 1]], r"quarantine\.entries\[0\] cannot be read"),
        ("edco", ("batch",), np.array([0, 1, 11]), "batch holds .*, which was never drawn"),
        ("edco", ("drawn",), np.array([1, 0]), r"drawn\[1\] must be a later prompt than those before; got 0"),
        ("edco", ("digest",), "abc", "digest must be a SHA-256; got 'abc'"),
        ("edco", ("settings", "seed"), [0], "seed cannot be"),
    ],
)
def test_what_cannot_be_right_is_named_by_its_place(strategy, path, value, message):
    state = state_of(strategy)
    with no_later_than(5):
        make(strategy).load_state_dict(copy.deepcopy(state))
        put(state, path, value)
        with pytest.raises(ConfigurationError, match=message):
            make(strategy).load_state_dict(state)


def test_all_settings_that_differ_are_named_at_once():
    curriculum, other = make("edco"), make("mopps", seed=1, exploration=0.5)
    reward(curriculum, [(0.0, 1.0)])
    with pytest.raises(
        ConfigurationError, match=r"strategy 'edco', .*; seed 0, .*; curriculum_exploration 0.0, .* 0.5"
    ):
        other.load_state_dict(curriculum.state_dict())
