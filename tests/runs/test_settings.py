"""What a run does with its rows before anything is trained."""

import json
import logging
import shutil

import pytest
import transformers
from transformers import AutoTokenizer
from trl import SFTConfig

from edco_rl.cli import main
from edco_rl.runs.settings import plain_values

STRICT = (
    "{% for message in messages %}"
    "{% if message.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "<{{ message.role }}>{{ message.content }}{% endfor %}{% if add_generation_prompt %}<model>{% endif %}"
)
ROWS = [{"prompt": [{"role": "user", "content": f"{i} + 1 ="}], "answer": str(i + 1), "id": i} for i in range(20)]


def train(tmp_path, method, model, rows, **settings):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    fixed = {"max_steps": 1, "bf16": False, "use_cpu": True, "report_to": "none", "held_out_prompts": 0}
    fixed |= {"per_device_train_batch_size": 2, "gradient_checkpointing": False, "engine_mode": "none"}
    words = ["train", method, "--model_name_or_path", str(model), "--dataset_name", str(path)]
    for name, value in {"output_dir": tmp_path / "run", **fixed, **settings}.items():
        words += [f"--{name}", str(value)]
    main(words)


@pytest.fixture
def strict_model(tiny_model_path, tmp_path):
    folder = tmp_path / "strict"
    shutil.copytree(tiny_model_path, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = STRICT
    tokenizer.save_pretrained(folder)
    return folder


def test_a_system_turn_that_the_template_refuses_is_named_before_training(tmp_path, capsys, strict_model):
    rows = [*ROWS[:7], ROWS[7] | {"prompt": [{"role": "system", "content": "Hi"}, *ROWS[7]["prompt"]]}, *ROWS[8:]]
    for settings in ({}, {"eval_dataset_name": tmp_path / "rows.jsonl", "held_out_prompts": 20}):
        with pytest.raises(SystemExit):
            train(tmp_path, "sft", strict_model, rows, **settings)
        assert capsys.readouterr().err.strip().splitlines()[-1] == (
            f"edco-rl: error: {tmp_path / 'rows.jsonl'}: Row 7 (id '7'), column 'prompt': the chat template does not "
            "take these messages: System role not supported."
        )
    with pytest.raises(SystemExit):
        train(tmp_path, "sft", strict_model, ROWS, system_prompt="Hi")
    assert "Row 0 (id '0'), column 'prompt': the chat template does not" in capsys.readouterr().err
    assert not (tmp_path / "run" / "summary.json").exists()


def test_the_first_prompt_is_logged_as_the_model_sees_it(tmp_path, caplog, tiny_model_path):
    caplog.set_level(logging.INFO, "edco_rl")
    train(tmp_path, "sft", tiny_model_path, ROWS)
    assert (
        "The first prompt as the model will see it:\n<|im_start|>system\nYou are a helpful AI assistant named SmolLM, "
        "trained by Hugging Face<|im_end|>\n<|im_start|>user\n0 + 1 =<|im_end|>\n<|im_start|>assistant\n"
    ) in caplog.text


def test_log_level_shows_the_first_prompt(tmp_path, capsys, tiny_model_path, monkeypatch):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # as a program that has set up no log
    package = logging.getLogger("edco_rl")
    before, of_transformers = package.level, transformers.logging.get_verbosity()
    try:
        train(tmp_path, "sft", tiny_model_path, ROWS, log_level="info", strategy="random")
    finally:
        package.setLevel(before)
        transformers.logging.set_verbosity(of_transformers)
    assert "The first prompt as the model will see it:\n<|im_start|>system" in capsys.readouterr().err


def test_a_streaming_data_set_is_refused(tmp_path, capsys, tiny_model_path):
    with pytest.raises(SystemExit):
        train(tmp_path, "sft", tiny_model_path, ROWS, dataset_streaming=True)
    assert "edco-rl: error: dataset_streaming true: a curriculum chooses rows" in capsys.readouterr().err


def test_secrets_within_settings_are_not_kept(tmp_path):
    inner = {"token": "hf_1", "headers": [{"Authorization": "Bearer hf_2"}], "revision": "main"}
    args = SFTConfig(output_dir=str(tmp_path), model_init_kwargs=inner, hub_token="hf_3", use_cpu=True, bf16=False)
    kept = json.dumps(plain_values(args))
    assert "hf_" not in kept and '"revision": "main"' in kept
