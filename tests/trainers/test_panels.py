"""The section `curriculum` in the trackers of `report_to`, read back from what each tracker itself wrote."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from trl import GRPOConfig

from edco_rl import CurriculumConfig, CurriculumGRPOTrainer

from .support import ROLLOUTS, length_reward, sums

SCALARS = {
    *(f"curriculum/entropy_p{share}" for share in ("05", "25", "50", "75", "95")),
    *("curriculum/signal_share", "curriculum/picks/even", "curriculum/picks/odd"),
    *("curriculum/scoring_seconds", "curriculum/scoring_share", "curriculum/scored_tokens"),
}


def train(model, folder, tracker):
    args = GRPOConfig(
        **(ROLLOUTS | {"output_dir": str(folder), "report_to": tracker, "max_steps": 2, "run_name": "r"})
    )
    curriculum = CurriculumConfig(strategy="edco", curriculum_interval=2, scoring_prefix_tokens=1)
    rows = sums(subject=[("even", "odd")[i % 2] for i in range(13)])
    trainer = CurriculumGRPOTrainer(model, length_reward, args, rows, curriculum=curriculum)
    drawn, draw = [], trainer.curriculum.draw
    trainer.curriculum.draw = lambda n: drawn.append(draw(n)) or drawn[-1]
    trainer.train()
    return trainer, np.concatenate(drawn).tolist(), rows


def test_tensorboard_has_the_curriculum(tiny_model_path, tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "events"))
    trainer, drawn, rows = train(tiny_model_path, tmp_path, "tensorboard")
    events = EventAccumulator(str(tmp_path / "events"))
    events.Reload()
    found = {name for name in events.Tags()["scalars"] if name.startswith("curriculum/")}
    assert {name for name in SCALARS if "picks" not in name} <= found <= SCALARS
    scores = np.quantile(trainer.curriculum.scores.sample(), 0.5)
    assert events.Scalars("curriculum/entropy_p50")[-1].value == pytest.approx(scores, rel=1e-5)
    shares = [one["curriculum/groups_with_signal"] for one in trainer.state.log_history if "loss" in one]
    assert [one.value for one in events.Scalars("curriculum/signal_share")] == pytest.approx(shares)
    picks = [
        sum(e.value for name in found if "picks" in name for e in events.Scalars(name) if e.step == s) for s in (1, 2)
    ]
    assert picks == pytest.approx([1, 1])
    texts = [event.tensor_proto.string_val[0].decode() for event in events.Tensors("curriculum/prompts/text_summary")]
    told = [line for text in texts for line in text.splitlines()[2:]]
    assert sorted(line.split(" | ")[1] for line in told) == sorted(rows[index]["prompt"] for index in drawn)
    assert all("edco: score" in line and "of the pool" in line for line in told)


PROGRAM = """
import json, sys
from pathlib import Path
from tests.trainers.test_panels import train
model, folder = sys.argv[1:]
_, drawn, rows = train(model, Path(folder), "trackio")
from trackio.sqlite_storage import SQLiteStorage
[run] = SQLiteStorage.get_runs("huggingface")
print(json.dumps([SQLiteStorage.get_logs("huggingface", run), [rows[index]["prompt"] for index in drawn]]))
"""


@pytest.mark.slow
def test_trackio_has_the_curriculum(tiny_model_path, tmp_path):
    pytest.importorskip("trackio")
    # It reads where its folder is when it is imported.
    environment = os.environ | {"TRACKIO_DIR": str(tmp_path / "trackio")}
    command = [sys.executable, "-c", PROGRAM, str(tiny_model_path), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    logs, drawn = json.loads(done.stdout.splitlines()[-1])
    found = {name for line in logs for name in line if name.startswith("curriculum/")}
    assert found == SCALARS | {"curriculum/prompts"}
    tables = [line["curriculum/prompts"] for line in logs if "curriculum/prompts" in line]
    rows = [row for table in tables for row in table["_value"]]
    assert sorted(row["prompt"] for row in rows) == sorted(drawn)
    assert all(row["why"].startswith("edco: score") for row in rows)


@pytest.mark.slow
def test_wandb_has_the_curriculum(tiny_model_path, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    for name, value in {"WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path), "WANDB_SILENT": "true"}.items():
        monkeypatch.setenv(name, value)
    _, drawn, rows = train(tiny_model_path, tmp_path, "wandb")
    tables = [
        json.loads(path.read_text()) for path in tmp_path.glob("wandb/offline-run-*/files/media/table/**/*.json")
    ]
    told = [dict(zip(table["columns"], row, strict=True)) for table in tables for row in table["data"]]
    assert sorted(row["prompt"] for row in told) == sorted(rows[index]["prompt"] for index in drawn)
    [binary] = tmp_path.glob("wandb/offline-run-*/*.wandb")
    assert all(name.encode() in binary.read_bytes() for name in SCALARS)
