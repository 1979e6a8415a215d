"""POCL as released: its recipes, from the teacher to the last stage, on two tiny GPT-2s and local rows."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel

from edco_rl.cli import main
from edco_rl.store import load

from ..conftest import TINY_VOCABULARY

FOLDER = Path(__file__).parents[2] / "recipes" / "instructions"
ROWS = 28


@pytest.fixture
def shared(tmp_path):
    """Settings of both recipes: rows of which one is too long, in batches that take no accumulation."""
    rows = [
        {
            "instruction": f"Count to {i}." * (99 if i == ROWS else 1),
            "context": "",
            "response": " and ".join("abcd"[:i]),
        }
        for i in range(1, ROWS + 2)
    ]
    rows[3]["context"] = "One, two, three."
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    changes = {"dataset_name": path, "held_out_prompts": 4, "per_device_train_batch_size": 4}
    return changes | {"gradient_accumulation_steps": 1, "disable_tqdm": "true"}


def gpt2(folder, tokenizer_path, layers):
    torch.manual_seed(layers)
    config = GPT2Config(vocab_size=TINY_VOCABULARY, n_positions=512, n_embd=16, n_layer=layers, n_head=2)
    config.bos_token_id = config.eos_token_id = 2
    GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_path)
    tokenizer.pad_token = tokenizer.chat_template = None  # GPT-2 has neither
    tokenizer.save_pretrained(folder)
    return folder


def train(method, recipe, folder, settings):
    flags = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    main(["train", method, "--config", str(FOLDER / recipe), "--output_dir", str(folder), *flags])
    summary = json.loads((folder / "summary.json").read_text())
    logged = [
        entry for entry in json.loads((folder / "trainer_state.json").read_text())["log_history"] if "loss" in entry
    ]
    return summary, {entry["step"]: entry for entry in logged}


def test_a_teacher_is_fine_tuned_and_a_student_distilled_in_four_stages(tiny_model_path, shared, tmp_path):
    large = gpt2(tmp_path / "large", tiny_model_path, layers=2)
    settings = shared | {"model_name_or_path": large, "held_out_max_tokens": 4}
    summary, _ = train("sft", "sft_teacher.yaml", tmp_path / "teacher", settings)
    assert summary["metric"] == "rouge_l" and summary["steps"] == 10 * (24 // 4)

    settings = shared | {"model_name_or_path": gpt2(tmp_path / "small", tiny_model_path, layers=1)}
    settings |= {"teacher_model_name_or_path": tmp_path / "teacher", "max_completion_length": 8, "logging_steps": 1}
    settings |= {"difficulty_max_tokens": 8}
    folder = tmp_path / "student"
    summary, steps = train("distillation", "distillation_pocl_released.yaml", folder, settings)
    # Quarters of 24 rows, 8 passes each without the rest of a batch.
    lengths = [8 * (rows // 4) for rows in (6, 12, 18, 24)]
    assert summary["prompts_in_pool"] == 24 and summary["steps"] == sum(lengths) and sorted(steps) == [*range(1, 113)]
    first = 1
    for stage, (length, temperature, weight) in enumerate(
        zip(lengths, (1.0, 1.33, 1.67, 2.0), (0.7, 0.8, 0.9, 1.0), strict=True), start=1
    ):
        mine = [steps[step] for step in range(first, first + length)]
        assert {entry["curriculum/stage"] for entry in mine} == {stage}
        assert {round(entry["distillation/temperature"], 2) for entry in mine} == {temperature}
        assert {round(entry["distillation/weight"], 2) for entry in mine} == {weight}
        rates = [entry["learning_rate"] for entry in mine]
        assert rates[0] == pytest.approx(1e-4) and rates == sorted(rates, reverse=True) and rates[-1] > 1e-7
        assert sum("distillation/rouge_l" in entry for entry in mine) == 8
        first += length
    [difficulty] = folder.glob("difficulty_*.parquet")
    assert load(difficulty).made_from["ties"] == "in_order"
    assert sorted(pq.read_table(difficulty)["difficulty"].to_pylist()) == [float(rank) for rank in range(1, 25)]
    assert AutoModelForCausalLM.from_pretrained(folder).config.n_layer == 1
