"""Complexity-aware fine-tuning with a real model, whose own server is the teacher and evaluates what was trained."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from edco_rl.cli import main
from edco_rl.complexity.student import Student, load_merged
from edco_rl.config import EngineConfig
from edco_rl.data.load import load_prompts
from edco_rl.data.prompts import with_instruction
from edco_rl.data.tokens import RowTokenizer
from edco_rl.engine.server_arguments import SERVED_MODEL_NAME

from ..test_recipes import FOLDER
from ..tokens import tokenize_prompt
from .conftest import TOLERANCE, largest_difference, transformers_logprobs

pytestmark = pytest.mark.engine

CITIES = ["Paris", "Rome", "Berlin", "Madrid", "Vienna", "Athens", "Lisbon", "Oslo"]
COUNTRIES = ["France", "Italy", "Germany", "Spain", "Austria", "Greece", "Portugal", "Norway"]


@pytest.fixture
def questions(tmp_path):
    rows = [
        {
            "id": country,
            "question": f"What is the capital of {country}?",
            "options": [CITIES[(i + shift) % 8] for shift in ((0, 1, 2) if i % 2 else (3, 0, 5))],
            "answer_index": 0 if i % 2 else 1,
        }
        for i, country in enumerate(COUNTRIES)
    ]
    path = tmp_path / "questions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def train(model_path, questions, folder, **settings):
    """Train as the recipe says, on a few questions and without baselines."""
    recipe = yaml.safe_load((FOLDER / "communication" / "complexity_aware.yaml").read_text())
    recipe |= {"model_name_or_path": model_path, "dataset_name": str(questions), "output_dir": str(folder)}
    recipe |= {"conversational": False, "held_out_prompts": 3, "use_cpu": True, "engine_max_model_len": 512}
    recipe |= {"teacher_answer_tokens": 16, "answer_max_tokens": 4, "reasoning_max_tokens": 8}
    recipe |= {"complexity_baselines": [], "complexity_last_stage": "evaluation"}
    recipe |= {"max_steps": 1, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 1, "lora_r": 4}
    recipe |= {"learning_rate": 0.02, "warmup_steps": 0, "gradient_checkpointing": False, "disable_tqdm": True}
    path = folder.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(recipe | settings))
    main(["train", "complexity-aware", "--config", str(path)])
    return json.loads((folder / "table.json").read_text()), json.loads((folder / "summary.json").read_text())


def test_a_server_teaches_and_evaluates_the_weights_that_were_trained(
    model, model_path, tokenizer, client, questions, server_url, tmp_path
):
    folder = tmp_path / "run"
    teacher = {"teacher": "endpoint", "teacher_url": f"{server_url}/v1", "teacher_model": SERVED_MODEL_NAME}
    table, summary = train(model_path, questions, folder, engine_url=server_url, **teacher)
    train_rows, held_out = load_prompts(str(questions), conversational=False, held_out_prompts=3)

    # Entropy of the answer's token, against full logits in float64.
    instruction = "Give only the final answer, at once, without any reasoning."
    scores = {row["id"]: row for row in pq.read_table(folder / "scores.parquet").to_pylist()}
    for row in train_rows:
        ids = tokenize_prompt(with_instruction(row["prompt"], instruction), tokenizer)
        _, [logprobs] = transformers_logprobs(model, ids, [tokenizer.eos_token_id])
        exact = -(np.exp(logprobs) * logprobs).sum()
        found = scores[row["id"]]
        assert found["lower"] - TOLERANCE <= exact <= found["upper"] + TOLERANCE
        assert found["score"] == pytest.approx(exact, abs=0.1)

    account = table["methods"][1]["teacher"]
    assert sum(account["rows"].values()) == table["split"]["hard"]["rows"]
    assert account["rows"]["right"] + account["rows"]["wrong"] == table["split"]["hard"]["rows"]
    assert account["answer_tokens"] > 0 and account["prompt_tokens"] > 50
    assert summary["tokens"]["teacher"] == account["answer_tokens"] + account["prompt_tokens"]
    assert summary["seconds"]["teacher"] > 0 and summary["accuracy_after"] is not None

    # What answers for a method is its adapter merged, and for the untrained student the weights it had: none of what
    # was served before is left, in the cache of prompts either.
    prompts = [tokenize_prompt(prompt, tokenizer) for prompt in held_out["prompt"]]
    merged = load_merged(str(folder))
    student = Student(
        model_path, EngineConfig(engine_url=server_url), RowTokenizer(tokenizer), tmp_path / "engine.log"
    )
    try:
        assert largest_difference(student.serving(folder), merged, prompts) < TOLERANCE
        assert largest_difference(student.serving(), merged, prompts) > TOLERANCE
        assert largest_difference(student.serving(), model, prompts) < TOLERANCE
    finally:
        student.close()


@pytest.mark.slow
def test_one_server_scores_teaches_measures_the_training_and_evaluates(
    tiny_served_path, questions, new_children, tmp_path
):
    folder = tmp_path / "run"
    teacher = {"teacher": "server", "teacher_model": tiny_served_path}
    table, summary = train(tiny_served_path, questions, folder, engine_dtype="float32", **teacher)
    assert (folder / "engine.log").is_file() and not (folder / "teacher.log").exists() and not new_children()
    assert summary["accuracy_before"] is not None and summary["seconds"]["sync"] > 0
    assert summary["config"]["engine"]["engine_url"] is None
    untrained, trained = (entry["evaluation"]["direct"] for entry in table["methods"])
    assert untrained["prompts"] == trained["prompts"] == summary["held_out_prompts"] == 3
