"""Every kind of recipe runs one step on a small model and local rows, all on one server, so that none can rot.

A few in each run of the tests, the others with `pytest -m slow`; tests/test_recipes.py reads all of them.
"""

import json
from pathlib import Path

import pytest

from edco_rl.cli import main

from ..test_recipes import LIKE_COMMUNICATION, RECIPES, method_of, name, parse

pytestmark = pytest.mark.engine

# What a recipe needs to be a matter of seconds; nothing else is changed.
SMALL = {
    "max_steps": 1,
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 1,
    "held_out_prompts": 4,
    "save_strategy": "no",
    "disable_tqdm": "true",
}
SMALL_OF_METHOD = {
    "distillation": {"max_completion_length": 8},
    "grpo": {"num_generations": 2, "max_completion_length": 8, "steps_per_generation": 1},
    "ppo": {"max_completion_length": 8},
    "rloo": {"num_generations": 2, "max_completion_length": 8},
    "sft": {},
}

OFTEN = {
    "instructions/distillation_pocl",
    "quickstart/grpo_learning_edge",
}
KINDS = [
    pytest.param(path, id=name(path), marks=() if name(path) in OFTEN else pytest.mark.slow)
    for path in RECIPES
    if path not in LIKE_COMMUNICATION
]


@pytest.fixture(scope="module")
def questions(tmp_path_factory) -> Path:
    """Multiple-choice questions in a local file."""
    path = tmp_path_factory.mktemp("questions") / "questions.jsonl"
    rows = [
        {"question": f"What is {i} + 1?", "options": [str(i), str(i + 1), str(i + 2)], "answer_index": 1}
        for i in range(24)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def instructions(tmp_path_factory) -> Path:
    """Instructions with responses in a local file."""
    path = tmp_path_factory.mktemp("instructions") / "instructions.jsonl"
    rows = [{"instruction": f"Count to {i}.", "response": ", ".join(map(str, range(1, i + 1)))} for i in range(1, 17)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("path", KINDS)
def test_a_recipe_runs_on_a_small_model_and_a_local_file(
    path, model_path, questions, instructions, server_url, tmp_path
):
    method = method_of(path).name
    settings = {"model_name_or_path": model_path, "engine_url": server_url, "output_dir": tmp_path}
    settings |= SMALL | SMALL_OF_METHOD[method]
    if path.parent.name != "quickstart":
        settings |= {"dataset_name": questions, "held_out_prompts": 2}
    if path.parent.name == "instructions":
        settings |= {"dataset_name": instructions}
    if method == "distillation":
        settings |= {"teacher_model_name_or_path": model_path}
    settings |= {"curriculum_candidates": 8, "curriculum_size": 4}
    if parse(path).engine.engine_mode == "none":
        del settings["engine_url"]
    flags = [word for key, value in settings.items() for word in (f"--{key}", str(value))]
    main(["train", method, "--config", str(path), *flags])
    summary = json.loads((tmp_path / "summary.json").read_text())
    metric = "rouge_l" if path.parent.name == "instructions" else "accuracy"
    assert summary["steps"] == 1 and 0 <= summary[f"{metric}_after"] <= 1
