"""Runs that are killed while they save a checkpoint, and runs that are asked to stop."""

import shutil
import signal

import pytest

from .test_processes import EDCO, ONE_STEP, REUSED, record, run  # noqa: F401 (a fixture)

# What a process is killed just before: a file that is opened, or a name that is given. Each with the checkpoint a run
# resumes from, and what it says was passed over. tests/store has all moments, of smaller folders.
MOMENTS = {
    "optimizer.pt": (2, "checkpoint.unfinished/checkpoint-3 was not written to its end"),
    "checkpoint-3": (3, None),  # it is complete, and only has to be moved
    "removed-checkpoint-2": (3, None),
}
ARGS = REUSED | {"max_steps": 6, "lr_scheduler_type": "constant"}  # step 3 lies within a generation batch


@pytest.fixture(scope="module")
def whole(run, tiny_model_path, tmp_path_factory):  # noqa: F811
    """A run of six steps, and one of two with its last checkpoint alone."""
    folder, begun = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("begun")
    run(folder, tiny_model_path, EDCO, ARGS | {"save_strategy": "no"})
    run(begun, tiny_model_path, EDCO, ARGS | {"max_steps": 2, "save_total_limit": 1})
    assert [path.name for path in begun.glob("checkpoint*")] == ["checkpoint-2"]
    return record(folder), begun


@pytest.mark.parametrize(
    ("limit", "moment"),
    [
        (1, "optimizer.pt"),
        *(
            pytest.param(limit, moment, marks=pytest.mark.slow)
            for limit in (1, None)
            for moment in MOMENTS
            if (limit, moment) not in ((1, "optimizer.pt"), (None, "removed-checkpoint-2"))
        ),
    ],
)
def test_a_run_killed_while_it_saves_goes_on_from_the_newest_complete_checkpoint(
    run,  # noqa: F811
    tiny_model_path,
    tmp_path,
    whole,
    limit,
    moment,
):
    expected, begun = whole
    folder = tmp_path / "run"
    shutil.copytree(begun, folder)
    args = ARGS | {"save_total_limit": limit}
    code, _ = run(folder, tiny_model_path, EDCO, args, check=False, resume=True, kill_before=moment)
    assert code == -signal.SIGKILL
    step, passed_over = MOMENTS[moment]
    _, log = run(folder, tiny_model_path, EDCO, args, resume=True)
    assert ("Passed over" in log) == (passed_over is not None) and (passed_over or "") in log
    assert record(folder) == expected
    begun_again = [line for line in (folder / "record_0.jsonl").read_text().splitlines() if '"step": 3, "ids"' in line]
    assert len(begun_again) == (2 if step == 2 else 1)
    kept = {path.name for path in folder.glob("checkpoint-*")}
    assert kept == ({"checkpoint-6"} if limit else {f"checkpoint-{step}" for step in (2, 3, 4, 5, 6)})
