import json
import math
import os

import pytest

from edco_rl.errors import ConfigurationError
from edco_rl.store import load, load_same, once, once_value, remove, save_file, save_value
from tests.store.kill import in_processes, killed_at


def writer(text, value=None):
    def write(path):
        path.write_text(text)
        return value

    return write


def never(*arguments):
    raise AssertionError("made again")


def test_an_artefact_is_made_once_and_says_what_made_it(tmp_path):
    path = tmp_path / "folder" / "scores.txt"
    made = once(path, {"seed": 1, "sizes": (1, 2)}, writer("content", {"rows": 3}))
    found = once(path, {"sizes": [1, 2], "seed": 1}, never)
    assert found == made and path.read_text() == "content"
    assert (found.value, found.made_from) == ({"rows": 3}, {"seed": 1, "sizes": [1, 2]}) and found.seconds > 0
    assert sorted(file.name for file in path.parent.iterdir()) == ["scores.txt", "scores.txt.json"]
    remove(path)
    assert list(path.parent.iterdir()) == [] and load(path) is None


def test_a_value_is_kept_as_json_has_it(tmp_path):
    made = once_value(tmp_path / "step", {}, lambda: {"known": 0.1, "unknown": math.nan, "pair": (1, -math.inf)})
    assert made.value == {"known": 0.1, "unknown": None, "pair": [1, None]}
    assert once_value(tmp_path / "step", {}, never) == made
    text = (tmp_path / "step.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail)["value"] == made.value
    assert [file.name for file in tmp_path.iterdir()] == ["step.json"]


def test_artefacts_that_hold_the_same_have_the_same_fingerprint(tmp_path):
    made = [
        save_file(tmp_path / str(number), {"number": number}, writer(*held))
        for number, held in enumerate([("a", 1), ("a", 1), ("b", 1), ("a", 2)])
    ]
    first, same, *others = [artefact.fingerprint for artefact in made]
    assert first == same and first not in others
    assert save_value(tmp_path / "c", {}, 1).fingerprint == save_value(tmp_path / "d", {"x": 1}, 1).fingerprint


@pytest.mark.parametrize("keep", [once, lambda path, made_from, make, changed="refuse": once_value(
    path, made_from, lambda: make(path) if changed == "never" else None, changed
)])  # fmt: skip
def test_changed_inputs_are_refused_with_the_first_difference_or_the_artefact_is_made_again(tmp_path, keep):
    path = tmp_path / "artefact"
    keep(path, {"engine": {"device": "cpu", "dtype": "float32"}, "seed": 1}, writer("old"))
    changed = {"engine": {"device": "cpu"}, "seed": 2}
    with pytest.raises(ConfigurationError, match=r"made with engine\.dtype 'float32'; now it is None") as error:
        keep(path, changed, never)
    [shown] = [file for file in tmp_path.iterdir() if str(error.value).endswith(f"remove {file}.")]
    assert shown.exists()
    assert load_same(path, changed, "remake") is None
    assert keep(path, changed, writer("new"), "remake").made_from == changed
    assert load_same(path, changed) is not None


def test_a_writer_that_raises_leaves_what_was_there_before(tmp_path):
    path = tmp_path / "artefact"

    def broken(draft):
        draft.write_text("half")
        raise RuntimeError("no space")

    with pytest.raises(RuntimeError, match="no space"):
        once(path, {"a": 1}, broken)
    assert load(path) is None and list(tmp_path.iterdir()) == []
    before = once(path, {"a": 1}, writer("old"))
    with pytest.raises(RuntimeError, match="no space"):
        once(path, {"a": 2}, broken, "remake")
    assert load(path) == before and path.read_text() == "old"


def test_a_process_that_ends_within_the_writer_leaves_no_artefact(tmp_path):
    path = tmp_path / "artefact"

    def killed(draft):
        draft.write_text("half")
        os._exit(0)

    in_processes([lambda: once(path, {}, killed)])
    assert load(path) is None and not path.exists()
    assert once(path, {}, writer("whole")).path.read_text() == "whole"


@pytest.mark.parametrize("before", [False, True])
def test_a_process_killed_at_any_step_leaves_an_artefact_that_is_whole_or_none(tmp_path, before):
    step, killed = 0, True
    while killed:
        path = tmp_path / str(step) / "artefact"
        if before:
            save_file(path, {"a": 1}, writer("old", 1))
        killed = killed_at(step, lambda path=path: once(path, {"a": 2}, writer("new", 2), "remake"))
        found = load(path)
        expected = {1: "old", 2: "new"}
        assert found is None or path.read_text() == expected[found.value]
        assert found is not None or not path.exists()  # never a file that nothing tells of
        if killed:
            assert once(path, {"a": 2}, writer("new", 2), "remake").value == 2
        assert load(path).value == 2 and path.read_text() == "new"
        step += 1
    assert step > 5


def test_a_value_whose_process_is_killed_at_any_step_is_the_old_or_the_new_one(tmp_path):
    path, found, killed = tmp_path / "value", [], True
    while killed:
        save_value(path, {}, "old")
        killed = killed_at(len(found), lambda: save_value(path, {}, "new"))
        found.append(load(path).value)
    assert set(found) == {"old", "new"} and found == sorted(found, reverse=True)


def test_of_several_processes_the_last_one_wins_and_every_look_finds_a_whole_artefact(tmp_path):
    path = tmp_path / "artefact"
    save_file(path, {}, writer("0" * 1000, "0"))

    def make_and_look(name):
        for _ in range(50):
            save_file(path, {"by": name}, writer(name * 1000, name))
            assert load(path).value in "123"

    in_processes([lambda name=name: make_and_look(name) for name in "123"])
    found = load(path)
    assert path.read_text() == found.value * 1000 and found.made_from == {"by": found.value}
    assert sorted(file.name for file in tmp_path.iterdir()) == ["artefact", "artefact.json"]


def test_an_altered_file_is_refused_and_a_missing_one_made_again(tmp_path):
    path = tmp_path / "artefact"
    once(path, {}, writer("whole"))
    path.write_text("other")
    with pytest.raises(ConfigurationError, match="artefact was altered since it was made"):
        once(path, {}, never)
    path.unlink()  # what the message says
    assert load(path) is None
    assert once(path, {}, writer("again")).path.read_text() == "again"


@pytest.mark.parametrize("change", [
    {"made_from": {"a": 2}}, {"value": 4}, {"checksum": "0" * 64}, {"checksum": None}, {"seconds": 0}, {"more": 1},
    {"manifest_checksum": None},
])  # fmt: skip
def test_an_altered_manifest_is_refused(tmp_path, change):
    path = tmp_path / "artefact"
    save_file(path, {"a": 1}, writer("whole", 3))
    manifest = tmp_path / "artefact.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), **change}))
    with pytest.raises(ConfigurationError, match=r"artefact\.json was altered since it was made"):
        load(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"format": 3}', "has format 3; this version reads 2"),
        ('{"format": "1"}', "has format '1'; this version reads 2"),
        ("{}", "is no manifest of an artefact"),
        ("[1]", "is no manifest of an artefact"),
        ('{"format": 1', "is no manifest of an artefact"),
        (b"\xff\xfe", "is no manifest of an artefact"),
    ],
)
def test_a_manifest_of_another_format_is_refused(tmp_path, text, message):
    (tmp_path / "artefact.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigurationError, match=message):
        load(tmp_path / "artefact")
