"""Folders that are checkpoints or not, whatever a process was killed at and whoever altered them."""

import json
import shutil

import pytest

from edco_rl import ConfigurationError
from edco_rl.store import (
    begin_checkpoint,
    begin_model,
    check_checkpoint,
    finish_checkpoint,
    newest_checkpoint,
    put_model_in_place,
    remove_checkpoint,
)
from edco_rl.store.checkpoints import UNFINISHED_FOLDER
from tests.store.kill import killed_at


def write(run, step, text="new"):
    """A checkpoint of three files, one of them in a folder."""
    begin_checkpoint(run)
    draft = run / UNFINISHED_FOLDER / f"checkpoint-{step}"
    (draft / "value_model").mkdir(parents=True)
    for name in ("model.safetensors", "value_model/config.json", "curriculum.json"):
        (draft / name).write_text(f"{text} {name}")
    finish_checkpoint(run / draft.name, {"step": step})


def write_and_remove_the_old_one(run, step, text="new"):
    write(run, step, text)
    for old in run.glob("checkpoint-*"):
        if old.name != f"checkpoint-{step}":
            remove_checkpoint(old)


@pytest.mark.parametrize(("step", "text"), [(10, "new"), (9, "new")])
def test_a_process_killed_at_any_step_of_saving_leaves_a_complete_checkpoint(tmp_path, step, text):
    """Of the same step again, too: a checkpoint takes the place of another."""
    killed, kills, found = True, 0, []
    while killed:
        run = tmp_path / str(kills)
        write(run, 9, "old")
        killed = killed_at(kills, lambda run=run: write_and_remove_the_old_one(run, step, text))
        newest, passed_over = newest_checkpoint(run)
        assert check_checkpoint(newest) == {"step": int(newest.name[11:])}
        found.append((newest / "curriculum.json").read_text().split()[0])
        assert all("was not written to its end" in reason for reason in passed_over)
        kills += 1
    assert found == sorted(found, reverse=True) and set(found) == {"old", "new"} and kills > 15
    assert [path.name for path in run.glob("checkpoint-*")] == [f"checkpoint-{step}"]


def test_the_newest_complete_checkpoint_is_taken_and_others_are_named(tmp_path):
    for step in (2, 10, 9, 11, 12):
        write(tmp_path, step)
    (tmp_path / "checkpoint-12" / "curriculum.json").unlink()
    (tmp_path / "checkpoint-11" / "manifest.json").unlink()
    (tmp_path / "checkpoint-10" / "model.safetensors").write_text("NEW model.safetensors")
    (tmp_path / "checkpoint-thirteen").mkdir()
    begin_checkpoint(tmp_path)
    (tmp_path / UNFINISHED_FOLDER / "checkpoint-13").mkdir()
    newest, passed_over = newest_checkpoint(tmp_path)
    assert newest == tmp_path / "checkpoint-9"
    expected = (
        "checkpoint-13 was not written to its end",
        "checkpoint-12/curriculum.json is missing",
        "checkpoint-11/manifest.json is missing: the checkpoint was not written to its end, or not by edco_rl",
        "checkpoint-10/model.safetensors was altered since it was made",
    )
    assert len(passed_over) == 4 and all(map(str.__contains__, passed_over, expected))
    assert newest_checkpoint(tmp_path / "nowhere") == (None, [])


@pytest.mark.parametrize(
    ("alter", "message"),
    [
        (lambda folder: (folder / "curriculum.json").write_text("x"), "curriculum.json has 1 bytes instead of 19"),
        (lambda folder: shutil.rmtree(folder / "value_model"), "value_model/config.json is missing"),
        (lambda folder: (folder / "manifest.json").write_text("{}"), "manifest.json is no manifest"),
        (lambda folder: (folder / "manifest.json").write_text("[" * 9000), "manifest.json is no manifest"),
        (
            lambda folder: (folder / "manifest.json").write_text(
                json.dumps(json.loads((folder / "manifest.json").read_text()) | {"value": {}})
            ),
            "manifest.json was altered since it was made. Resume from another checkpoint",
        ),
    ],
)
def test_what_was_altered_is_named(tmp_path, alter, message):
    write(tmp_path, 1)
    check_checkpoint(tmp_path / "checkpoint-1")
    alter(tmp_path / "checkpoint-1")
    with pytest.raises(ConfigurationError, match=message):
        check_checkpoint(tmp_path / "checkpoint-1")


def test_files_that_were_added_are_told(tmp_path, caplog):
    write(tmp_path, 1)
    (tmp_path / "checkpoint-1" / "notes.txt").write_text("mine")
    check_checkpoint(tmp_path / "checkpoint-1")
    assert "holds files that were added to it later: notes.txt" in caplog.text


def test_a_process_killed_at_any_step_of_saving_a_model_leaves_a_whole_one_or_none(tmp_path):
    def save(folder, text):
        begin_model(folder / "draft")
        (folder / "draft" / "value_model").mkdir()
        for name in ("config.json", "model.safetensors", "value_model/config.json"):
            (folder / "draft" / name).write_text(text)
        put_model_in_place(folder / "draft", folder)

    killed, kills = True, 0
    while killed:
        folder = tmp_path / str(kills)
        save(folder, "old")
        (folder / "records.jsonl").write_text("kept")
        killed = killed_at(kills, lambda folder=folder: save(folder, "new"))
        if (folder / "config.json").exists():
            names = ("config.json", "model.safetensors", "value_model/config.json")
            assert {(folder / name).read_text() for name in names} in ({"old"}, {"new"})
        assert (folder / "records.jsonl").read_text() == "kept"
        kills += 1
    assert (folder / "config.json").read_text() == "new" and not (folder / "draft").exists() and kills > 10
