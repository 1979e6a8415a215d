"""Weights that killed runs left in shared memory, and room that is not there."""

import errno
import os
import subprocess
import sys
import time

import pytest
from safetensors import SafetensorError

from edco_rl import ConfigurationError
from edco_rl.engine.leftovers import PREFIX, push_folder, sweep

PUSHES = """
import sys, time
from pathlib import Path
from edco_rl.engine.leftovers import push_folder
with push_folder(Path(sys.argv[1])) as folder:
    (folder / "weights.safetensors").write_bytes(bytes(1000))
    print(folder, flush=True)
    time.sleep(600)
"""


def test_what_a_killed_run_left_is_removed_and_what_a_living_one_holds_is_not(tmp_path, caplog):
    (tmp_path / "edco_rl-0").mkdir()
    (tmp_path / "edco_rl-0" / "file").write_text("another's")
    command = [sys.executable, "-c", PUSHES, str(tmp_path)]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        folder = run.stdout.readline().strip()
        with push_folder(tmp_path) as own:
            (own / "weights.safetensors").write_bytes(bytes(10))
            sweep(tmp_path)
            assert os.path.isdir(folder) and own.is_dir()
    finally:
        run.kill()
        run.wait()
    assert os.path.isdir(folder)
    sweep(tmp_path)
    assert os.listdir(tmp_path) == ["edco_rl-0"]
    assert "Removed 1 leftovers of killed runs" in caplog.text


def test_a_folder_that_is_just_being_made_is_left_for_a_minute(tmp_path):
    (tmp_path / f"{PREFIX}new").mkdir()
    (tmp_path / f"{PREFIX}link").symlink_to(tmp_path)
    sweep(tmp_path)
    assert len(os.listdir(tmp_path)) == 2
    os.utime(tmp_path / f"{PREFIX}new", (0, time.time() - 61))
    sweep(tmp_path)
    assert os.listdir(tmp_path) == [f"{PREFIX}link"]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        # As it comes from save_file on a full tmpfs.
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_full_folder_is_named(tmp_path, error):
    with (
        pytest.raises(ConfigurationError, match=f"{tmp_path} is full: .* engine_transport_dir"),
        push_folder(tmp_path),
    ):
        raise error
    assert not os.listdir(tmp_path)


def test_other_errors_stay_what_they_are(tmp_path):
    with pytest.raises(PermissionError), push_folder(tmp_path):
        raise PermissionError(errno.EACCES, "not allowed")
