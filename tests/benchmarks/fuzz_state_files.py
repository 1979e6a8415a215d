"""Altered files of checkpoints: refused by name, or taken whole where they can be true; nothing else is raised.

Each is met twice: with the manifest that tells of it, and with one that was made anew to fit it.
"""

import json
import random
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import strategies as st
from transformers import TrainerState

from edco_rl import ConfigurationError
from edco_rl.curriculum import CurriculumBatchSampler, Outcome, available_strategies
from edco_rl.store import (
    UNFINISHED_FOLDER,
    begin_checkpoint,
    check_checkpoint,
    finish_checkpoint,
    read_state,
    write_state,
)
from edco_rl.trainers.checkpoint_state import CURRICULUM_FILE, load_state, save_state
from edco_rl.trainers.trainer_state import read_trainer_state
from tests.curriculum.drawing import make

from .fuzz import search

STEP = 5
ARRAYS, STATE, MANIFEST = "curriculum.arrays", "trainer_state.json", "manifest.json"
_JUNK = (
    None,
    True,
    False,
    -1,
    0,
    1,
    10**9,
    10**400,
    1e308,
    -0.5,
    0.5,
    1e-300,
    "",
    "p0",
    "p99",
    "x",
    [],
    {},
    [1],
    ["p1"],
)
_NUMBERS = (-1, 0, 1, 2, 11, 12, 10**9, 2**31 - 1, -0.5, 0.5, 1e30, 1e299, 1e308, np.nan, np.inf)
_TYPES = (np.float64, np.float32, np.int64, np.int32, np.uint64, np.bool_)
_TOKENS = ("NaN", "Infinity", "1e999", "-0", "null", "[" * 5000)
_SETTINGS = {"baby_step": {"patience": 3}, "pocl": {"patience": 3}, "learning_edge": {"hidden_state": True}}
# Shapes of curricula beside the default one.
_SHAPES = ({}, {"exploration": 0.3, "half_life": 3.0}, {"max_visits": 8, "fallback": True})


def trained(strategy, shape):
    """A curriculum and its sampler after some steps, in the middle of a generation batch."""
    made = resumable(strategy, shape)
    curriculum, sampler = made
    chance = random.Random(strategy)
    batches = iter(sampler)
    for step in range(STEP):
        wanted = curriculum.wants(8).tolist()
        curriculum.observe([Outcome(index, step, score=chance.random() * 3) for index in wanted])
        curriculum.renew(step)
        next(batches)
        groups = [(index, (float(chance.random() < 0.5), 1.0)) for index in curriculum.batch.tolist()]
        curriculum.observe([Outcome(index, step, rewards=rewards, entropy=0.5) for index, rewards in groups])
        curriculum.validate(chance.random())
    return made


def resumable(strategy, shape):
    curriculum = make(strategy, **shape, strategy_kwargs=_SETTINGS.get(strategy, {}))
    return curriculum, CurriculumBatchSampler(curriculum, group_size=2, repeat_count=2, settings={"processes": 1})


def write_checkpoint(folder, strategy, shape):
    """A checkpoint without a model: what a curriculum and a trainer keep."""
    begin_checkpoint(folder.parent)
    draft = folder.parent / UNFINISHED_FOLDER / folder.name
    draft.mkdir()
    save_state(draft, *trained(strategy, shape), STEP, {"curriculum_interval": 1})
    TrainerState(global_step=STEP, max_steps=9, log_history=[{"loss": 1.0}]).save_to_json(str(draft / STATE))
    finish_checkpoint(folder, {"step": STEP})


def places(value, path=()):
    """The paths of all entries of a JSON value."""
    yield path
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places(value[key], (*path, key))


def alter(text, chance):
    """A file's text with one thing altered."""
    kind = chance.random()
    if kind < 0.1:
        return text[: chance.randrange(len(text))]
    if kind < 0.2:
        place = chance.randrange(len(text))
        return text[:place] + chr(chance.randrange(1, 300)) + text[place + chance.randrange(3) :]
    whole = json.loads(text)
    # Of lists and mappings of many entries no more than of others.
    path = chance.choice([one for one in places(whole) if one])
    if chance.random() < 0.5:
        path = path[: chance.randint(1, len(path))]
    parent = whole
    for key in path[:-1]:
        parent = parent[key]
    key = path[-1]
    value = parent[key]
    change = chance.randrange(7)
    if change == 0:
        del parent[key]
    elif change == 1 and isinstance(parent, dict):
        parent[f"{key}_"] = parent.pop(key)
    elif change == 2 and isinstance(value, list) and value:
        value.append(chance.choice(value))
    elif change == 3 and isinstance(value, int | float) and not isinstance(value, bool):
        parent[key] = chance.choice([-value, value + 1, value * 10**9, value + 0.5, str(value), [value]])
    elif change == 4:
        parent[key] = "TOKEN"
        return json.dumps(whole).replace('"TOKEN"', chance.choice(_TOKENS))
    elif change == 5 and isinstance(parent, dict):
        return text.replace("{", f'{{"{key}": 1, ', 1)
    else:
        parent[key] = chance.choice(_JUNK)
    return json.dumps(whole)


def alter_bytes(content, chance):
    """A file's content with one thing altered."""
    place = chance.randrange(len(content))
    if chance.random() < 0.3:
        return content[:place]
    return content[:place] + bytes([content[place] ^ (1 << chance.randrange(8))]) + content[place + 1 :]


def alter_state(path, chance):
    """Alter one thing of a curriculum's state, and write both its files anew."""
    whole = read_state(path)
    *parents, key = chance.choice([one for one in places(whole) if one])
    parent = whole
    for name in parents:
        parent = parent[name]
    if isinstance(parent[key], np.ndarray):
        parent[key] = altered_array(parent[key], chance)
    elif chance.random() < 0.2:
        del parent[key]
    else:
        parent[key] = chance.choice([one for one in _JUNK if one != 10**400])
    write_state(path, whole)


def altered_array(array, chance):
    """An array with one number, its length, shape or type altered, or something else in its place."""
    change = chance.randrange(7)
    if change < 3 and array.size:
        found = array.copy()
        number = chance.choice([*_NUMBERS, -float(found.flat[0]), float(found.flat[-1]) + 1])
        with np.errstate(all="ignore"):
            found.flat[chance.randrange(found.size)] = np.array(number).astype(found.dtype)
        return found
    if change == 3 and len(array):
        return np.concatenate([array, array[-1:]])
    if change == 4:
        return array[: len(array) // 2]
    if change == 5:
        with np.errstate(all="ignore"):
            return array.astype(chance.choice(_TYPES))
    return chance.choice([array.tolist() if array.dtype.kind != "f" else [0.5], array[None], None, "x", 1])


def comparable(state):
    """A state whose arrays are lists after their types; what is not a number is text."""
    if isinstance(state, np.ndarray):
        return [str(state.dtype), json.loads(json.dumps(state.tolist()), parse_constant=str)]
    if isinstance(state, dict):
        return {name: comparable(value) for name, value in state.items()}
    return [comparable(value) for value in state] if isinstance(state, list) else state


def difference(one, other, path=()):
    """The place where two JSON values differ, if they do; a number is no truth value, 1 and 1.0 are one number."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return next((found for key in one if (found := difference(one[key], other[key], (*path, key)))), None)
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = enumerate(zip(one, other, strict=True))
        return next((found for key, pair in pairs if (found := difference(*pair, (*path, key)))), None)
    same = isinstance(one, bool) == isinstance(other, bool) and one == other
    return None if same else f"{'.'.join(map(str, path))}: {str(one)[:50]} and {str(other)[:50]}"


def check_accepted(folder, curriculum, sampler, changed):
    """What holds for any state that is taken: all of it was taken, it can be true, and training goes on from it."""
    kept = comparable(read_state(folder / CURRICULUM_FILE))
    save_state(folder, curriculum, sampler, STEP, kept["settings"])
    taken = comparable(read_state(folder / CURRICULUM_FILE))
    assert "prompts" not in changed
    for part in (kept, kept["curriculum"], kept["sampler"]):  # the run's own hold; others are told
        other = {"curriculum_interval": 1} if part is kept else curriculum.settings
        other = sampler.settings if part is kept["sampler"] else other
        assert changed or not difference(part["settings"], json.loads(json.dumps(other))), "not said: settings"
    for part in (kept, kept["curriculum"], kept["sampler"], taken, taken["curriculum"], taken["sampler"]):
        del part["settings"]
    assert not difference(kept, taken), f"not taken as it is: {difference(kept, taken)}"
    visits = curriculum.pool.visits
    assert visits.min() >= 0 and curriculum.renewed_at <= STEP and 0 <= sampler.uses_left <= 2
    for name, value in vars(curriculum.strategy).items():
        if isinstance(value, np.ndarray) and name in ("queue", "ranked_first"):
            assert len(set(value.tolist())) == len(value) and set(value.tolist()) <= set(range(len(visits)))
        if hasattr(value, "versions"):
            assert np.isfinite(value.scores[value.known]).all() and value.versions.max() <= STEP
    for step in range(STEP, STEP + 3):
        curriculum.renew(step)
        batch = curriculum.next_batch().tolist() if curriculum.room() > 3 else []
        assert len(set(batch)) == len(batch)
        curriculum.observe([Outcome(index, step, score=1.0, rewards=(0.0, 1.0)) for index in batch])
        assert np.isfinite(list(curriculum.metrics().values())).all()
    write_state(folder / "next.json", curriculum.state_dict())


def state_file(seed, folder):
    """Alter one file of a checkpoint, and return what came of it: `refused`, or `can be true`.

    Raises:
        AssertionError: It was taken, and cannot be true.
        Exception: What else was raised in place of a message.
    """
    chance = random.Random(seed)
    strategy, shape = chance.choice(available_strategies()), chance.choice(_SHAPES)
    checkpoint = folder / f"checkpoint-{STEP}"
    write_checkpoint(checkpoint, strategy, shape)
    name = chance.choices(("values", CURRICULUM_FILE, ARRAYS, STATE, MANIFEST), (8, 1, 1, 1, 1))[0]
    path = checkpoint / (CURRICULUM_FILE if name == "values" else name)
    before = {one.name: one.read_bytes() for one in checkpoint.iterdir()}
    if name == "values":
        alter_state(path, chance)
    elif name == ARRAYS:
        path.write_bytes(alter_bytes(path.read_bytes(), chance))
    else:
        path.write_text(alter(path.read_text(), chance))
    after = {one.name: one.read_bytes() for one in checkpoint.iterdir()}
    try:
        check_checkpoint(checkpoint)
        manifests = [json.loads(files.pop(MANIFEST)) for files in (before, after)]
        assert before == after and not difference(*manifests), "not noticed"
    except ConfigurationError as error:
        assert str(checkpoint) in str(error)
    if name == MANIFEST:
        return "refused"
    (checkpoint / MANIFEST).unlink()
    begin_checkpoint(folder)
    again = folder / "again"
    checkpoint.rename(folder / UNFINISHED_FOLDER / again.name)
    finish_checkpoint(again, {"step": STEP})
    check_checkpoint(again)
    curriculum, sampler = resumable(strategy, shape)
    try:
        step = read_trainer_state(again).global_step
        changed = load_state(again, curriculum, sampler, step, {"curriculum_interval": 1})
    except ConfigurationError as error:
        assert str(again) in str(error)
        return "refused"
    check_accepted(again, curriculum, sampler, changed)
    return "can be true"


def outcome(seed):
    """What came of the case of a seed."""
    with tempfile.TemporaryDirectory() as folder:
        return state_file(seed, Path(folder))


def fuzz(count, start):
    """How many cases had which outcome."""
    return search(st.integers(0, 2**32), outcome, count, start)
