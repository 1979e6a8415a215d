"""Complexity-aware fine-tuning with a real model, whose own server is the teacher and evaluates what was trained."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM

from edco_rl.benchmark.accuracy import grade_answers
from edco_rl.cli import main
from edco_rl.complexity.student import load_merged
from edco_rl.data.load import load_prompts
from edco_rl.data.prompts import tokenize_prompt, with_instruction
from edco_rl.engine.server import SERVED_MODEL_NAME
from edco_rl.rewards import multiple_choice_reward
from edco_rl.trainers.model_generator import ModelGenerator

from ..test_recipes import FOLDER
from .conftest import tolerance, transformers_logprobs

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
    recipe |= {"max_steps": 1, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 1, "lora_r": 4}
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
    untrained, trained = table["methods"]
    account = trained["teacher"]
    assert sum(account["rows"].values()) == table["split"]["hard"]["rows"]
    assert account["rows"]["right"] + account["rows"]["wrong"] == table["split"]["hard"]["rows"]
    assert account["answer_tokens"] > 0 and account["prompt_tokens"] > 50

    # What the server answered with: the adapter merged, not what it served before.
    for entry, path in ((untrained, model_path), (trained, str(folder / "model" / "complexity_aware"))):
        generator = ModelGenerator(load_merged(path).float(), tokenizer.pad_token_id, [tokenizer.eos_token_id])
        graded = grade_answers(generator, tokenizer, held_out, multiple_choice_reward, max_tokens=4)
        answers = pq.read_table(folder / "evaluation" / entry["method"] / "answers.parquet").to_pylist()
        direct = [row for row in answers if row["form"] == "direct"]
        assert [row["tokens"] for row in direct] == graded.tokens[:, 0].tolist()
        assert [row["right"] for row in direct] == (graded.right[:, 0] == 1).tolist()
    base = AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32)
    merged = load_merged(str(folder / "model" / "complexity_aware"))
    assert not torch.equal(base.model.layers[0].mlp.up_proj.weight, merged.model.layers[0].mlp.up_proj.weight)
