"""The benchmark of distillation: POCL's parts apart and together, from teacher and student to the report."""

import json
from pathlib import Path

import pytest
import yaml
from transformers import AutoModelForCausalLM

from edco_rl.benchmark.cells import make_cells
from edco_rl.cli import main
from edco_rl.config import BenchmarkConfig
from edco_rl.runs.recorder import read_records
from edco_rl.store import write_lines

FOLDER = Path(__file__).parents[2] / "recipes" / "benchmark"


@pytest.fixture
def data(tmp_path):
    """Chains of thought, as settings."""
    rows = [
        {"prompt": f"Count to {i}.", "completion": " ".join(map(str, range(i + 1))), "answer": str(i)}
        for i in range(16)
    ]
    for name, part in (("train", rows[:12]), ("test", rows[12:])):
        write_lines(tmp_path / f"{name}.jsonl", part)
    return {f"{'eval_' * (name == 'test')}dataset_name": str(tmp_path / f"{name}.jsonl") for name in ("train", "test")}


def flags(settings):
    return [word for name, value in settings.items() for word in (f"--{name}", str(value))]


@pytest.mark.slow
def test_a_student_of_fewer_layers_is_distilled_and_reported(data, tiny_model_path, tmp_path, capsys):
    student = tmp_path / "student"  # as `make ladder` makes it
    changes = data | {"model_name_or_path": tiny_model_path, "output_dir": student, "max_steps": 1}
    changes |= {"model_init_kwargs": json.dumps({"num_hidden_layers": 1}), "held_out_prompts": 4}
    changes["per_device_train_batch_size"] = 2
    main(["train", "sft", "--config", str(FOLDER / "ladder" / "models.yaml"), *flags(changes)])
    layers = [
        AutoModelForCausalLM.from_pretrained(path).config.num_hidden_layers for path in (tiny_model_path, student)
    ]
    assert layers == [2, 1]

    values = yaml.safe_load((FOLDER / "distillation.yaml").read_text())
    values |= {"output_dir": str(tmp_path / "matrix"), "seeds": [1], "budget": 2, "evaluate_every": 1}
    values["settings"] |= {
        "model_name_or_path": str(student),
        "teacher_model_name_or_path": tiny_model_path,
        "held_out_prompts": 4,
        "held_out_max_tokens": 4,
        "per_device_train_batch_size": 2,
        "max_completion_length": 8,
        "difficulty_dir": str(tmp_path / "difficulty"),
        "disable_tqdm": True,
    }
    values["tasks"]["mostly_beyond"] = data
    for curriculum in values["curricula"].values():
        if "strategy_kwargs" in curriculum:
            curriculum["strategy_kwargs"] = {"stages": 2, "stage_batches": 1}
    path = tmp_path / "matrix.yaml"
    path.write_text(yaml.safe_dump(values))
    main(["benchmark", "--config", str(path)])
    seconds = set()
    for method, settings in values["methods"].items():
        for curriculum in values["curricula"]:
            cell = tmp_path / "matrix" / "cells" / f"mostly_beyond_{method}_{curriculum}_1"
            found = json.loads((cell / "summary.json").read_text())
            assert found["method"] == "distillation"
            assert found["config"]["training"]["divergence"] == settings["divergence"]
            start = next(line for line in read_records(cell / "records.jsonl") if line["kind"] == "evaluation")
            assert start["seconds"] == found["seconds"]["difficulty"]  # it counts as time of the training
            assert (found["seconds"]["difficulty"] > 0) == (curriculum not in ("random", "schedule"))
            assert (found["tokens"].get("generated", 0) > 0) <= (method == "on_policy")
            seconds.add(found["seconds"]["difficulty"])
    # Measured once for each way to treat ties, and read from its file from then on.
    assert len(seconds) == 3
    printed = " ".join(capsys.readouterr().out.split())
    assert "15 of 15 cells are done." in printed and "of them difficulty" in printed


def test_the_loss_of_each_curriculum_is_its_own(tmp_path):
    values = yaml.safe_load((FOLDER / "distillation.yaml").read_text())
    cells = [cell for cell in make_cells(BenchmarkConfig(**values)) if cell.seed == values["seeds"][0]]
    settings = {(cell.method, cell.curriculum): cell.settings(tmp_path).training for cell in cells}
    assert set(settings) == {
        (method, curriculum) for method in values["methods"] for curriculum in values["curricula"]
    }
    for (method, curriculum), args in settings.items():
        assert args.divergence == ("forward_kl" if method == "forward_kl" else "reverse_kl")
        assert args.lmbda == (0.5 if method == "on_policy" else 0)
        # Of pocl the schedule is the default
        loss = args.final_distillation_temperature, args.distillation_weight
        told = {"random": (None, None), "schedule": (2.0, 0.7), "stages": (1.0, 1.0)}
        assert loss == told.get(curriculum, (None, None))
        assert args.lr_schedule_per_stage == (curriculum == "pocl_released")
