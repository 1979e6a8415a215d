"""The benchmark of distillation: its recipes, from teacher and student to the report, on a tiny model."""

import json
from pathlib import Path

import pytest
import yaml
from transformers import AutoModelForCausalLM

from edco_rl.benchmark.cells import make_cells
from edco_rl.cli import main
from edco_rl.config import BenchmarkConfig
from edco_rl.runs.recorder import read_records

FOLDER = Path(__file__).parents[2] / "recipes" / "benchmark"


@pytest.fixture
def data(tmp_path):
    """Instructions of which one in five is too long, as settings."""
    rows = [
        {"instruction": f"Count to {i}." * (40 if i % 5 == 4 else 1), "response": ", ".join(map(str, range(i + 1)))}
        for i in range(25)
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"dataset_name": str(path), "train_prompts": 12, "held_out_prompts": 4, "held_out_max_tokens": 4}


def flags(settings):
    return [word for name, value in settings.items() for word in (f"--{name}", str(value))]


@pytest.mark.slow
def test_the_recipes_teacher_and_student_are_distilled_and_reported(data, tiny_model_path, tmp_path, capsys):
    models = {name: tmp_path / name for name in ("teacher", "student")}
    for name, folder in models.items():
        changes = data | {"model_name_or_path": tiny_model_path, "output_dir": folder, "max_steps": 1}
        if name == "student":
            changes["model_init_kwargs"] = json.dumps({"num_hidden_layers": 1})
        main(["train", "sft", "--config", str(FOLDER / "distillation" / f"{name}.yaml"), *flags(changes)])
        summary = json.loads((folder / "summary.json").read_text())
        assert summary["method"] == "sft" and 0 <= summary["rouge_l_after"] <= 1
        assert summary["prompts_in_pool"] == 12 and (folder / "skipped_rows.jsonl").read_text().count("\n") == 5
    layers = {name: AutoModelForCausalLM.from_pretrained(folder).config for name, folder in models.items()}
    assert {name: config.num_hidden_layers for name, config in layers.items()} == {"teacher": 2, "student": 1}

    values = yaml.safe_load((FOLDER / "distillation.yaml").read_text())
    values |= {"output_dir": str(tmp_path / "matrix"), "seeds": [1], "budget": 2}
    values["settings"] |= {
        "model_name_or_path": str(models["student"]),
        "teacher_model_name_or_path": str(models["teacher"]),
        "engine_mode": "none",
        "per_device_train_batch_size": 2,
        "max_completion_length": 8,
        "disable_tqdm": True,
    }
    values["tasks"]["instructions"] |= data
    values["curricula"]["pocl"] |= {"difficulty_dir": str(tmp_path / "difficulty")}
    values["curricula"]["pocl"]["strategy_kwargs"] = {"stages": 2, "stage_batches": 1}
    path = tmp_path / "matrix.yaml"
    path.write_text(yaml.safe_dump(values))
    main(["benchmark", "--config", str(path)])
    summaries = {}
    for method in values["methods"]:
        for curriculum in ("random", "pocl"):
            cell = tmp_path / "matrix" / "cells" / f"instructions_{method}_{curriculum}_1"
            summaries[method, curriculum] = found = json.loads((cell / "summary.json").read_text())
            assert found["method"] == "distillation" and found["config"]["training"]["divergence"] == method
            assert found["metric"] == "rouge_l" and 0 <= found["rouge_l_after"] <= 1
            start = next(line for line in read_records(cell / "records.jsonl") if line["kind"] == "evaluation")
            assert start["seconds"] == found["seconds"]["difficulty"]  # it counts as time of the training
            assert (found["seconds"]["difficulty"] > 0) == (curriculum == "pocl")
    # Measured for the first divergence, and read from its file for the second.
    assert len({found["seconds"]["difficulty"] for found in summaries.values()}) == 2
    printed = " ".join(capsys.readouterr().out.split())
    assert "4 of 4 cells are done." in printed
    assert "Accuracy of instructions, forward_kl is ROUGE-L" in printed and "of them difficulty" in printed


def test_the_loss_of_each_curriculum_is_its_own(tmp_path):
    cells = make_cells(BenchmarkConfig(**yaml.safe_load((FOLDER / "distillation.yaml").read_text())))
    settings = {(cell.method, cell.curriculum): cell.settings(tmp_path).training for cell in cells if cell.seed == 1}
    assert {args.divergence for args in settings.values()} == {"forward_kl", "skewed_forward_kl"}
    for (method, curriculum), args in settings.items():
        assert args.divergence == method
        assert args.final_distillation_temperature == (2.0 if curriculum == "pocl" else None)
        assert args.distillation_weight == (0.7 if curriculum == "pocl" else None)
