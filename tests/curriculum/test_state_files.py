"""Altered states: refused by name, or taken whole; `tests.benchmarks.fuzz` does the same with many more."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edco_rl import ConfigurationError
from edco_rl.curriculum import Outcome
from edco_rl.curriculum.state import no_later_than
from tests.benchmarks import fuzz_state_files

from .drawing import draw, make, reward, score


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
    return json.loads(json.dumps(curriculum.state_dict(), default=lambda value: value.tolist()))


def put(state, path, value):
    *parents, last = path
    for key in parents:
        state = state[key]
    state[last] = value


@pytest.mark.parametrize(
    ("strategy", "path", "value", "message"),
    [
        ("edco", ("visits", "p3"), -2, r"visits\.p3 must be a whole number from 1; got -2"),
        ("edco", ("visits",), {"p99": 1}, r"visits\.p99 is not known"),
        ("edco", ("renewed_at",), 10**9, "renewed_at must be a whole number from 0 to 5; got 1000000000"),
        ("edco", ("strategy_state", "step"), 10**9, r"strategy_state\.step must be a whole number from 0 to 5"),
        ("edco", ("strategy_state", "queue"), ["p1", "p1"], r"strategy_state\.queue holds prompt 'p1' twice"),
        (
            "edco",
            ("strategy_state", "queue"),
            ["p1", "p77"],
            r"strategy_state\.queue holds 'p77', which is no prompt's",
        ),
        ("edco", ("strategy_state", "queue"), "p1", r"strategy_state\.queue must be a list; got 'p1'"),
        ("edco", ("strategy_state",), None, "strategy_state must be a mapping; got None"),
        (
            "edco",
            ("strategy_state", "signals", "entropy", "buffer", "p1"),
            [float("inf"), 1],
            r"strategy_state\.signals\.entropy\.buffer\.p1 must be 2 finite numbers; got \[inf, 1\]",
        ),
        (
            "edco",
            ("strategy_state", "signals", "entropy", "buffer", "p1"),
            [1.0, 9],
            r"signals\.entropy\.buffer\.versions must hold optimizer steps from 0 to 5; got 9",
        ),
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
        ("mopps", ("strategy_state", "evidence", "p1"), [1, -1], r"evidence\.p1 must be 2 finite numbers from 0"),
        ("baby_step", ("strategy_state", "stage"), 5, r"strategy_state\.stage must be a whole number from 1 to 4"),
        ("learning_edge", ("strategy_state", "groups"), [["p1", 1]], r"groups\.p1 must be 5 finite numbers"),
        ("learning_edge", ("strategy_state", "owed"), [None], r"owed\.0 must be a finite number; got None"),
        ("edco", ("watch", "told"), 1, r"watch\.told must be true or false; got 1"),
        ("edco", ("batch",), ["p0", "p1", "p11"], "batch holds .*, which was never drawn"),
        ("edco", ("digest",), "abc", "digest must be a SHA-256; got 'abc'"),
        ("edco", ("settings", "seed"), [0], "seed cannot be"),
    ],
)
def test_what_cannot_be_right_is_named_by_its_place(strategy, path, value, message):
    state = state_of(strategy)
    with no_later_than(5):
        make(strategy).load_state_dict(json.loads(json.dumps(state)))
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
