"""A matrix on one real server: every cell begins with the model's own weights, whatever the one before has pushed."""

from pathlib import Path

import pytest
import yaml

from edco_rl.cli import main
from edco_rl.runs.recorder import read_records
from edco_rl.store import load

pytestmark = pytest.mark.engine
RECIPE = Path(__file__).parents[2] / "recipes" / "benchmark" / "small_cpu.yaml"


def test_cells_of_full_and_lora_training_share_a_server_and_begin_alike(model_path, server_url, tmp_path, capsys):
    values = yaml.safe_load(RECIPE.read_text())
    grpo = {"method": "grpo", **values["methods"]["grpo"], "per_device_train_batch_size": 8}
    values["settings"] |= {
        "model_name_or_path": model_path,
        "engine_url": server_url,
        "gate_max_refills": 1,
        "disable_tqdm": True,
    }
    values["settings"] |= {"train_prompts": 24, "held_out_prompts": 12}
    values["settings"] |= {"curriculum_candidates": 8, "curriculum_size": 4}
    addition = values["tasks"]["addition"]
    addition |= addition.pop("grpo")
    values |= {
        "output_dir": str(tmp_path / "matrix"),
        "seeds": [1],
        "budget": 1,
        # The first one ruins the weights on the server, and the adapter of the second comes over them.
        "methods": {
            "full": {**grpo, "learning_rate": 0.01},
            "lora": {**grpo, "use_peft": True, "lora_r": 8, "lora_target_modules": "all-linear"},
        },
        "curricula": ["edco+equal_rewards"],
        "baseline": "edco+equal_rewards",
        "tasks": {"addition": addition},
    }
    path = tmp_path / "matrix.yaml"
    path.write_text(yaml.safe_dump(values))
    main(["benchmark", "--config", str(path)])
    cells = tmp_path / "matrix" / "cells"
    found = {}
    for method in ("full", "lora"):
        records = read_records(cells / f"addition_{method}_edco+equal_rewards_1" / "records.jsonl")
        found[method] = [line["right"] for line in records if line["kind"] == "evaluation"]
        [step] = [line for line in records if line["kind"] == "step"]
        assert step["tokens"]["generated"] > 0 and step["parts"]["sync"] > 0 and len(step["groups"]) >= 2
        assert step["metrics"]["curriculum/groups_dropped"] >= step["metrics"]["curriculum/groups_missing"]
    assert found["full"][0] == found["lora"][0] and "1" in found["lora"][0]
    assert found["full"][1] == "0" * 12
    [pool] = (tmp_path / "matrix" / "pools").iterdir()
    difficulty = load(pool.with_suffix("")).value["difficulty"]
    assert len(difficulty) == 24 and min(difficulty) > 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "2 of 2 cells are done." in printed and "with signal" in printed
