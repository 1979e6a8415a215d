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
from edco_rl.data.prompts import tokenize_prompt, with_instruction
from edco_rl.engine.server import SERVED_MODEL_NAME

from ..test_recipes import FOLDER
from .conftest import largest_difference, tolerance, transformers_logprobs

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


def test_a_server_teaches_and_evaluates_the_weights_that_were_trained(
    model, model_path, tokenizer, client, questions, server_url, tmp_path
):
    folder = tmp_path / "run"
    recipe = yaml.safe_load((FOLDER / "communication" / "complexity_aware.yaml").read_text())
    recipe |= {"model_name_or_path": model_path, "dataset_name": str(questions), "output_dir": str(folder)}
    recipe |= {"engine_url": server_url, "conversational": False, "held_out_prompts": 3, "use_cpu": True}
    recipe |= {"teacher": "endpoint", "teacher_url": f"{server_url}/v1", "teacher_model": SERVED_MODEL_NAME}
    recipe |= {"teacher_answer_tokens": 16, "answer_tokens": 4, "reasoning_tokens": 8, "baselines": []}
    recipe |= {"max_steps": 1, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 1, "lora_r": 4}
    recipe |= {"learning_rate": 0.02, "warmup_steps": 0, "gradient_checkpointing": False, "disable_tqdm": True}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    main(["train", "complexity-aware", "--config", str(tmp_path / "recipe.yaml")])
    train, held_out = load_prompts(str(questions), conversational=False, held_out_prompts=3)

    # Entropy of the answer's token, against full logits in float64.
    instruction = "Give only the final answer, at once, without any reasoning."
    scores = {row["id"]: row for row in pq.read_table(folder / "scores" / "scores.parquet").to_pylist()}
    slack = tolerance(client)
    for row in train:
        ids = tokenize_prompt(with_instruction(row["prompt"], instruction), tokenizer)
        _, [logprobs] = transformers_logprobs(model, ids, [tokenizer.eos_token_id])
        exact = -(np.exp(logprobs) * logprobs).sum()
        found = scores[row["id"]]
        assert found["lower"] - slack <= exact <= found["upper"] + slack
        assert found["score"] == pytest.approx(exact, abs=0.1)

    table = json.loads((folder / "table.json").read_text())
    account = table["methods"][1]["teacher"]
    assert sum(account["rows"].values()) == table["split"]["hard"]["rows"]
    assert account["rows"]["right"] + account["rows"]["wrong"] == table["split"]["hard"]["rows"]
    assert account["answer_tokens"] > 0 and account["prompt_tokens"] > 50

    # What answers for a method is its adapter merged, and for the untrained student the weights it had: none of what
    # was served before is left, in the cache of prompts either.
    trained = str(folder / "model" / "complexity_aware")
    prompts = [tokenize_prompt(prompt, tokenizer) for prompt in held_out["prompt"]]
    merged = load_merged(trained)
    student = Student(model_path, EngineConfig(engine_url=server_url), tokenizer, tmp_path / "engine.log")
    try:
        assert largest_difference(student.serving(trained), merged, prompts) < slack
        assert largest_difference(student.serving(), merged, prompts) > slack
        assert largest_difference(student.serving(), model, prompts) < slack
    finally:
        student.close()
