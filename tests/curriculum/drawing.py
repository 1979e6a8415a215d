"""Curricula over small pools, and what is done with them in most tests."""

import functools
import operator

from edco_rl.curriculum import Curriculum, Outcome, Pool


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


def draw(curriculum, batches):
    return [curriculum.next_batch().tolist() for _ in range(batches)]


def flat(batches):
    return functools.reduce(operator.iadd, batches, [])
