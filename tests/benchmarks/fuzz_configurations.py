"""Random settings from YAML, flags and Python: each is taken as it is meant, or refused in one line that names it."""

import contextlib
import dataclasses
import math
import pkgutil
import tempfile
import types
import typing
from collections import Counter
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st

from edco_rl import ConfigurationError
from edco_rl.cli import SETTINGS
from edco_rl.methods import METHODS
from edco_rl.parsing import Group, Parser
from edco_rl.runs.options import method_parser
from edco_rl.yaml_file import Settings

from .fuzz import search

# What may be below zero; all else that is a number may not.
SIGNED = {"max_steps", "local_rank", "top_k", "reward_weights", "reward_clip_range", "split_points"}
NOT_ZERO = ("batch_size", "timeout", "max_completion_length", "interval", "gradient_accumulation", "top_p", "lora_r")
SHARES = {"scoring_top_p", "scoring_largest_share", "curriculum_exploration", "engine_gpu_memory_utilization", "gamma"}
SHARES |= {"lam", "lmbda", "distillation_weight", "curriculum_share", "confidence_level", "top_p", "lora_dropout"}
WRONG = st.one_of(
    st.sampled_from(
        [math.inf, -math.inf, math.nan, -1, -5.0, 0, 1.5, 10**30, True, False, None, "", "x", "none", "-1"]
    ),
    st.integers(),
    st.floats(),
    st.text(max_size=4),
    st.lists(st.one_of(st.integers(), st.text(max_size=3), st.floats(), st.none()), max_size=3),
    st.dictionaries(st.one_of(st.text(max_size=3), st.integers()), st.floats() | st.text(max_size=3), max_size=2),
    st.dates(),
    st.binary(max_size=3),
)


@cache
def parser_of(command: str) -> Parser:
    if command in METHODS:
        return method_parser(METHODS[command], f"edco-rl train {command}")
    return Parser(f"edco-rl {command}", [Group("settings", one) for one in SETTINGS[command]])


@cache
def fields_of(command: str) -> dict[str, tuple[Any, dataclasses.Field]]:
    """Fields of the dataclasses as they are when imported, with their types."""
    found = {}
    for group in parser_of(command).groups:
        source = group.source if not isinstance(group.source, str) else pkgutil.resolve_name(group.source)
        hints = typing.get_type_hints(source)
        found |= {one.name: (hints[one.name], one) for one in dataclasses.fields(source) if one.init}
    return found


def good(hint: Any, metadata: dict[str, Any]):
    """Values that are mostly ones of a type."""
    alternatives = typing.get_args(hint) if typing.get_origin(hint) in (types.UnionType, typing.Union) else (hint,)
    return st.one_of([_good(part, metadata) for part in alternatives])


def _good(hint, metadata):
    if "choices" in metadata:
        return st.sampled_from(list(metadata["choices"]))
    if typing.get_origin(hint) is typing.Literal:
        return st.sampled_from(typing.get_args(hint))
    if isinstance(hint, type) and issubclass(hint, Enum):
        return st.sampled_from([one.value for one in hint])
    if typing.get_origin(hint) is list:
        return st.lists(good(typing.get_args(hint)[0], {}), min_size=1, max_size=3)
    if hint is dict or typing.get_origin(hint) is dict:
        return st.dictionaries(st.sampled_from(["a", "b"]), st.just(True), max_size=2)
    known = {
        bool: st.booleans(),
        int: st.integers(1, 64),
        float: st.floats(0.125, 1.0, width=16),
        str: st.just("text"),
    }
    return known.get(hint, st.none())


@st.composite
def configurations(draw):
    """A command, where the settings stand, and what they are."""
    command = draw(st.sampled_from(sorted([*METHODS, *SETTINGS])))
    fields = fields_of(command)
    names = draw(st.lists(st.sampled_from(sorted(fields)), min_size=1, max_size=3, unique=True))
    settings = {}
    for name in names:
        hint, field = fields[name]
        mistyped = draw(st.integers(0, 15)) == 0
        written = (
            name.replace("_", "", 1)[::-1] if mistyped and draw(st.booleans()) else f"{name}s" if mistyped else name
        )
        settings[written] = draw(good(hint, field.metadata) if draw(st.integers(0, 2)) else WRONG)
    return command, draw(st.sampled_from(["file", "flags", "python"])), settings


def is_meant(name: str, hint: Any, field: dataclasses.Field, value: Any) -> bool:
    """Whether a value that was taken is none of nonsense, told without the package's own checks."""
    return (
        _is_of(hint, value)
        and all(map(math.isfinite, _numbers(value)))
        and all(_in_range(name, number) for number in _numbers(value))
    )


def _is_of(hint, value):
    inside, kind = typing.get_args(hint), typing.get_origin(hint) or hint
    if kind in (types.UnionType, typing.Union):
        return any(_is_of(part, value) for part in inside)
    if kind is typing.Literal:
        return any(value == choice and type(value) is type(choice) for choice in inside)
    if kind is list:
        return isinstance(value, list) and all(_is_of(inside[0], one) for one in value)
    if kind is dict:
        named = isinstance(value, dict) and all(isinstance(key, str) for key in value)
        return named and (inside[1:] in ((), (Any,)) or all(_is_of(inside[1], one) for one in value.values()))
    if kind in (int, float):
        return isinstance(value, int | kind) and not isinstance(value, bool)
    return value in [one.value for one in kind] if issubclass(kind, Enum) else isinstance(value, kind)


def _numbers(value):
    if isinstance(value, dict):
        value = [*value.values()]
    if isinstance(value, list | tuple):
        return [number for one in value for number in _numbers(one)]
    return [value] if isinstance(value, int | float) and not isinstance(value, bool) else []


def _in_range(name, number):
    if number < 0 and name not in SIGNED and not name.endswith("_kwargs"):
        return False
    if name.endswith("_port") and number > 65535:
        return False
    if name in SHARES and not 0 <= number <= 1:
        return False
    return number != 0 or not any(part in name for part in NOT_ZERO)


def outcome(case, whole: bool = False):
    """What became of settings; `whole` makes TRL's dataclasses of those of a method too."""
    command, place, settings = case
    parser = parser_of(command)
    with tempfile.TemporaryDirectory() as folder:
        try:
            taken = _take(parser, place, settings, Path(folder, "recipe.yaml"))
            if whole and command in METHODS:
                with contextlib.chdir(folder):
                    parser.make(dataclasses.replace(taken, values={"output_dir": folder, **taken.values}))
        except ConfigurationError as error:
            told = str(error)
            first = told.splitlines()[0]
            named = [name for name in settings if name in told] or "is given to no flag" in told
            assert whole or (len(told.splitlines()) == 1 and named), told
            assert "HfArgumentParser" not in first and "pydantic" not in told, told
            return "refused"
    for name, value in taken.values.items():
        hint, field = fields_of(command)[name]
        meant = hint if name not in MORE else hint | MORE[name]
        assert is_meant(name, meant, field, value), f"{command}: {name} = {value!r} was taken from {settings}"
    return "accepted"


# Types that TRL's declaration leaves out, and its code takes.
MORE = {"resume_from_checkpoint": bool, "scale_rewards": bool, "reward_clip_range": list[float]}


def _take(parser, place, settings, path):
    if place == "flags":
        words = []
        for name, value in settings.items():
            values = value if isinstance(value, list) else [value]
            words += [f"--{name}", *(str(one) for one in values)]
        return parser.read(words)
    if place == "file":
        path.write_text(yaml.safe_dump(settings, allow_unicode=True), encoding="utf-8")
        return parser.read(["--config", str(path)])
    for group in parser.groups:
        own = {field.name: settings[field.name] for field in group.fields if field.name in settings}
        if group.ours and own:
            group.source(**REQUIRED.get(group.source.__name__, {}) | own)
    return parser.check(Settings(settings))


_INPUT = {"model_name_or_path": "m", "dataset_name": "d"}
REQUIRED = {
    "ScoreConfig": {**_INPUT, "output": "o"},
    "AuditConfig": _INPUT,
    "EvaluateConfig": _INPUT,
    "ServeConfig": {"model_name_or_path": "m"},
}


def fuzz(cases: int, seed: int = 0, *, whole: bool = True) -> Counter[str]:
    """Outcomes of so many configurations."""
    for command in (*METHODS, *SETTINGS):
        fields_of(command)  # imports torch
    return search(configurations(), lambda case: outcome(case, whole), cases, seed)
