"""Curricula over small pools, and what is done with them in most tests."""

import functools
import json
import operator
import tempfile
from pathlib import Path

from edco_rl.curriculum import Curriculum, Outcome, Pool
from edco_rl.store import read_state, write_state


def make(strategy, pool_size=12, batch_size=3, size=6, seed=0, columns=None, max_visits=None, **kwargs):
    columns = columns or {name: list(range(pool_size)) for name in ("prompt_length", "difficulty", "phase")}
    pool = Pool([f"p{i}" for i in range(pool_size)], column=columns.__getitem__, max_visits=max_visits, seed=seed)
    return Curriculum(pool, strategy, batch_size=batch_size, size=size, seed=seed, **kwargs)


def score(curriculum, values, version=0):
    curriculum.observe([Outcome(index=i, version=version, score=v) for i, v in enumerate(values) if v is not None])
    curriculum.renew(version)


def reward(curriculum, groups, version=0):
    curriculum.observe([Outcome(index=i, version=version, rewards=r) for i, r in enumerate(groups) if r is not None])
    curriculum.renew(version)


def plain(curriculum):
    """Its state as JSON gives it back; what is not a number is text, so that states can be compared."""
    return json.loads(json.dumps(curriculum.state_dict(), default=lambda value: value.tolist()), parse_constant=str)


def as_read(curriculum):
    """Its state as files give it back."""
    with tempfile.TemporaryDirectory() as folder:
        write_state(Path(folder) / "state.json", curriculum.state_dict())
        return read_state(Path(folder) / "state.json")


def draw(curriculum, batches):
    return [curriculum.next_batch().tolist() for _ in range(batches)]


def flat(batches):
    return functools.reduce(operator.iadd, batches, [])
