"""`edco-rl evaluate` on a real server, against transformers' own greedy answers."""

import json

import pytest
import torch
from peft import LoraConfig, get_peft_model

from edco_rl.cli import main
from edco_rl.data.load import load_prompts
from edco_rl.data.tokens import RowTokenizer
from edco_rl.engine import Sampling
from edco_rl.engine.transformers_backend import TransformersBackend
from edco_rl.rewards import math_reward
from edco_rl.runs.grading import grade_answers

pytestmark = pytest.mark.engine


def evaluate(model, rows, server_url, folder, *flags):
    output = folder / "evaluation.json"
    settings = ["--model_name_or_path", str(model), "--dataset_name", str(rows), "--engine_url", server_url]
    main(["evaluate", *settings, "--max_completion_length", "3", "--output", str(output), *flags])
    return json.loads(output.read_text())


def transformers_accuracy(model, tokenizer, rows):
    generator = TransformersBackend(model, tokenizer.pad_token_id, [tokenizer.eos_token_id])
    return grade_answers(
        generator, RowTokenizer(tokenizer), rows, math_reward, sampling=Sampling(3, temperature=0.0)
    ).right.mean()


@pytest.fixture
def additions(tmp_path):
    """Sums a small model gets right about half the time, in a file."""
    rows, _ = load_prompts(
        "reasoning_gym:chain_sum",
        train_prompts=40,
        conversational=False,
        prompt_template="2 + 4 = 6\n13 + 25 = 38\n{expression} =",
        task_kwargs={"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 2},
    )
    path = tmp_path / "additions.jsonl"
    rows = rows.add_column("subject", ["small" if len(row["answer"]) == 1 else "large" for row in rows])
    rows.remove_columns("entry").to_json(path)
    return path


def test_accuracy_of_model_and_adapter_is_that_of_transformers(
    model, model_path, tokenizer, additions, client, server_url, tmp_path, capsys
):
    rows, _ = load_prompts(str(additions))
    plain = evaluate(model_path, additions, server_url, tmp_path, "--samples", "4")
    assert plain["greedy"]["accuracy"] == pytest.approx(transformers_accuracy(model, tokenizer, rows), abs=0.051)
    assert 0 < plain["greedy"]["accuracy"] < 1 and plain["prompts"] == 40
    assert set(plain["subjects"]) == {"small", "large"} and plain["reward"] == "math"
    values = [plain["pass_at"][k]["value"] for k in ("1", "2", "4")]
    assert values == sorted(values) and values[0] < values[-1]
    assert "greedy accuracy (95%)" in capsys.readouterr().out

    torch.manual_seed(0)
    adapted = get_peft_model(model, LoraConfig(r=4, lora_alpha=64, target_modules=["q_proj", "v_proj"]))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    adapted.save_pretrained(tmp_path / "adapter")
    found = evaluate(tmp_path / "adapter", additions, server_url, tmp_path)
    assert found["model"] == model_path and found["adapter"] == str(tmp_path / "adapter")
    assert found["greedy"]["accuracy"] == pytest.approx(transformers_accuracy(adapted, tokenizer, rows), abs=0.051)
    again = evaluate(model_path, additions, server_url, tmp_path)
    assert again["greedy"] == plain["greedy"]
    assert found["greedy"]["accuracy"] < plain["greedy"]["accuracy"] - 0.2
