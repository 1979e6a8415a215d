"""Prompts longer than the engine takes, named with row and setting before they are sent."""

import json

import pytest

from edco_rl.cli import main

LONG = "1 + 1 + 1 + 1 + 1 + 1 + 1 ="
AT_MOST = "and the engine at most 12 (engine_max_model_len). Of "


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.jsonl"
    lines = [{"id": f"sum {i}", "prompt": LONG if i == 5 else f"{i} + 1 =", "answer": str(i + 1)} for i in range(8)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


TRAIN = {"output_dir": "out", "bf16": "false", "use_cpu": "true", "max_steps": 1, "report_to": "none"}
TRAIN |= {"per_device_train_batch_size": 2, "dataset_name": "short.jsonl", "held_out_prompts": 8}
GRPO = {"reward_funcs": "math", "num_generations": 2, "max_completion_length": 3}
SFT = {"strategy": "random", "held_out_max_tokens": 3}
POCL = {"strategy": "pocl", "lmbda": 0, "max_completion_length": 3}


@pytest.mark.parametrize(
    ("command", "settings", "setting"),
    [
        ("evaluate", {"max_completion_length": 3}, "max_completion_length 3"),
        ("score", {"scoring_prefix_tokens": 2, "output": "scores.parquet"}, "what scoring adds to it"),
        ("score", {"estimator": "perplexity", "output": "scores.parquet"}, "what scoring adds to it"),
        ("audit", {"samples": 8, "estimators": "perplexity", "output_dir": "out"}, "what perplexity adds to it"),
        ("train grpo", TRAIN | GRPO | {"eval_dataset_name": "rows.jsonl"}, "an answer of 3"),
        ("train sft", TRAIN | SFT | {"eval_dataset_name": "rows.jsonl"}, "an answer of 3"),
        ("train distillation", TRAIN | POCL | {"dataset_name": "rows.jsonl"}, "an output of difficulty_max_tokens 3"),
    ],
    ids=["evaluate", "score", "score reference", "audit", "grpo", "sft", "distillation"],
)
def test_every_command_names_a_prompt_that_is_too_long(
    tiny_model_path, tmp_path, rows, capsys, monkeypatch, command, settings, setting
):
    """In training it is a held-out prompt, and one whose difficulty is measured."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "short.jsonl").write_text("".join(line for line in rows.open() if LONG not in line))
    given = {"model_name_or_path": tiny_model_path, "dataset_name": "rows.jsonl", "conversational": "false"}
    given |= {"engine_mode": "tests.engine.own:ShortEngine"} | settings
    if command != "evaluate":
        given |= {"scoring_quick_answer": "false"}
    if command == "train distillation":
        given |= {"teacher_model_name_or_path": tiny_model_path, "eval_dataset_name": "short.jsonl"}
    with pytest.raises(SystemExit):
        main([*command.split(), *(str(word) for name, value in given.items() for word in (f"--{name}", value))])
    error = capsys.readouterr().err.splitlines()[-1]
    assert "row 'sum 5': its prompt takes " in error and f" tokens with {setting}, {AT_MOST}" in error, error
