"""Fields read from TRL's source are those its dataclasses have: the contract with TRL's and transformers' versions."""

import dataclasses
import subprocess
import sys
import typing
from enum import Enum

import pytest

from edco_rl.config.checks import parts, without_range
from edco_rl.config.trl_ranges import _NUMBERS, _OTHERS
from edco_rl.declarations import fields_of
from edco_rl.methods import METHODS

SOURCES = sorted(
    {path for method in METHODS.values() for path in (method.script, method.training)} | {"trl:ModelConfig"}
)


def plain(hint):
    """A type as a set of alternatives, of an enumeration and of choices the values."""
    found = set()
    for part in parts(hint):
        part = without_range(part)  # noqa: PLW2901
        if isinstance(part, type) and issubclass(part, Enum):
            found |= {str, *(member.value for member in part)}
        elif typing.get_origin(part) is typing.Literal:
            found |= {str, *typing.get_args(part)}
        else:
            found.add(part)
    return found


@pytest.mark.parametrize("path", SOURCES)
def test_what_is_read_is_what_is_imported(path):
    import pkgutil

    real = pkgutil.resolve_name(path)
    hints = typing.get_type_hints(real, include_extras=True)
    read = {field.name: field for field in fields_of(path)}
    imported = {field.name: field for field in dataclasses.fields(real) if field.init}
    assert list(read) == list(imported)
    for name, field in imported.items():
        assert read[name].help == field.metadata.get("help", ""), name
        known = read[name].default is not dataclasses.MISSING
        if known and field.default is not dataclasses.MISSING:
            assert read[name].default == field.default or field.default.value == read[name].default, name
        if name not in _OTHERS:
            choices = field.metadata.get("choices", ())
            assert plain(read[name].hint) | {str} == plain(hints[name]) | set(choices) | {str}, name


def test_ranges_are_of_settings_that_exist():
    known = {field.name for path in SOURCES for field in fields_of(path)}
    assert set(_NUMBERS) | set(_OTHERS) <= known


def test_settings_are_read_without_torch():
    code = (
        "import sys\nfrom edco_rl.methods import METHODS\nfrom edco_rl.runs.options import method_parser\n"
        "for method in METHODS.values(): assert len(method_parser(method, '').fields) > 200\n"
        "slow = {'torch', 'trl', 'transformers', 'accelerate', 'datasets', 'vllm'} & set(sys.modules)\n"
        "assert not slow, slow"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
