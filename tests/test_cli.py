import json
import shutil
import socket
import subprocess
import sys
import time

import pytest
import yaml

from edco_rl.cli import main


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as error:
        main([str(argument) for argument in arguments])
    return error.value.code, capsys.readouterr().err.strip()


def recipe(tmp_path, **changes):
    settings = {
        "dataset_name": "reasoning_gym:chain_sum",
        "train_prompts": 20,
        "held_out_prompts": 0,
        "output_dir": str(tmp_path / "run"),
        "bf16": False,
        "use_cpu": True,
        "report_to": "none",
        "max_steps": 1,
        "per_device_train_batch_size": 4,
        "num_generations": 2,
        "max_completion_length": 2,
        "gradient_checkpointing": False,
        "reward_funcs": ["math"],
        "engine_mode": "none",
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({k: v for k, v in (settings | changes).items() if v is not None}))
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_name_or_path": "/nowhere/model"}, "'/nowhere/model' is not a model folder: there is no such folder"),
        ({"model_name_or_path": None}, "model_name_or_path is missing"),
        ({"strategy": "edko"}, "Unknown strategy 'edko'"),
        ({"intervall": 3}, "intervall"),
        ({"curriculum_interval": 0}, "curriculum_interval must be at least 1; got 0"),
        ({"dataset_name": "/nowhere/rows.jsonl"}, "there is no such file"),
        ({"dataset_name": None}, "dataset_name is missing"),
        ({"reward_funcs": ["maths"]}, "Unknown reward 'maths'"),
        ({"reward_funcs": None}, "reward_funcs is empty"),
    ],
)
def test_a_wrong_recipe_ends_with_one_message(capsys, tmp_path, tiny_model_path, new_children, changes, message):
    path = recipe(tmp_path, **{"model_name_or_path": tiny_model_path, **changes})
    code, error = run(capsys, "train", "grpo", "--config", path)
    assert code == 2
    assert error.splitlines()[-1].startswith("edco-rl: error: ") and message in error.splitlines()[-1]
    assert "Traceback" not in error and not new_children()


def test_a_row_without_a_prompt_is_named(capsys, tmp_path, tiny_model_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join('{"prompt": "%s", "answer": "1"}\n' % ("" if i == 17 else f"{i} =") for i in range(20)))
    path = recipe(tmp_path, model_name_or_path=tiny_model_path, dataset_name=str(rows), train_prompts=None)
    code, error = run(capsys, "train", "grpo", "--config", path)
    assert code == 2 and error.splitlines()[-1] == (
        f"edco-rl: error: {rows}, row 17 (counted from 0), field 'prompt': the prompt is empty."
    )
    rows.write_text('{"text": "1 ="}\n')
    code, error = run(capsys, "train", "grpo", "--config", path)
    assert code == 2 and "no column 'prompt'; its columns are ['text']" in error


@pytest.mark.parametrize("flag", ["--skip_invalid", "--skip-invalid"])
def test_invalid_rows_are_skipped_listed_and_counted(caplog, tmp_path, tiny_model_path, flag):
    rows = tmp_path / "rows.jsonl"
    lines = [json.dumps({"prompt": f"{i} =", "answer": "1"}) for i in range(20)]
    rows.write_text("\n".join([*lines[:17], '{"prompt": ""}', *lines[17:]]))
    path = recipe(tmp_path, model_name_or_path=tiny_model_path, dataset_name=str(rows), train_prompts=None)
    main(["train", "grpo", "--config", str(path), flag])
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["prompts_in_pool"] == 20
    [skipped] = (tmp_path / "run" / "skipped_rows.jsonl").read_text().splitlines()
    assert json.loads(skipped) == {"file": str(rows), "row": 17, "field": "prompt", "problem": "the prompt is empty"}
    assert "Skipped 1 invalid rows of 21" in caplog.text


def test_a_missing_recipe_is_named(capsys):
    assert run(capsys, "train", "grpo", "--config", "nowhere.yaml") == (
        2,
        "edco-rl: error: --config nowhere.yaml: there is no such file.",
    )


def test_an_unknown_method_or_command_is_named(capsys):
    assert "invalid choice: 'grop'" in run(capsys, "train", "grop")[1]
    assert "invalid choice: 'trian'" in run(capsys, "trian")[1]


def test_a_port_in_use_is_named(capsys, tiny_model_path, new_children):
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        port = sock.getsockname()[1]
        code, error = run(capsys, "serve", "--model", tiny_model_path, "--port", port)
    assert code == 2 and f"Cannot listen on 127.0.0.1:{port}" in error and not new_children()


def test_a_server_that_is_never_healthy_ends_with_its_log(capsys, tiny_model_path, new_children, tmp_path):
    arguments = ("--startup-timeout", 1, "--port", 0, "--log", tmp_path / "log")
    code, error = run(capsys, "serve", "--model", tiny_model_path, *arguments)
    assert code == 1 and "was not healthy after 1 seconds" in error and not new_children()


def test_a_recipe_trains_without_an_engine_and_flags_override_it(capsys, tmp_path, tiny_model_path):
    path = recipe(tmp_path, model_name_or_path=tiny_model_path)
    main(["train", "grpo", "--config", str(path), "--strategy", "random", "--max_steps", "2"])
    summary = yaml.safe_load((tmp_path / "run" / "summary.json").read_text())
    assert summary["steps"] == 2 and summary["config"]["curriculum"]["strategy"] == "random"
    assert summary["accuracy_before"] is None and summary["held_out_prompts"] == 0
    assert summary["versions"]["trl"].startswith("1.16.")
    files = {p.name for p in (tmp_path / "run").iterdir()}
    assert {"model.safetensors", "trainer_state.json", "curriculum.json", "summary.json"} <= files


def test_ppo_trains_from_a_recipe_with_its_own_settings(capsys, tmp_path, tiny_model_path):
    path = recipe(tmp_path, model_name_or_path=tiny_model_path, num_generations=None, kl_coef=0.05, gamma=0.9)
    main(["train", "ppo", "--config", str(path), "--lam", "0.8", "--num_ppo_epochs", "2"])
    summary = yaml.safe_load((tmp_path / "run" / "summary.json").read_text())
    training = summary["config"]["training"]
    assert [training[name] for name in ("num_generations", "kl_coef", "gamma", "lam")] == [1, 0.05, 0.9, 0.8]
    assert training["num_iterations"] == 2 and summary["steps"] == 1
    files = {p.name for p in (tmp_path / "run").iterdir()}
    assert {"model.safetensors", "value_head.safetensors", "curriculum.json", "summary.json"} <= files
    code, error = run(capsys, "train", "ppo", "--config", path, "--beta", "0.1")
    assert code == 2 and "set kl_coef" in error.splitlines()[-1]


@pytest.mark.parametrize("arguments", [["--help"], ["serve", "--help"], ["train", "--help"]])
def test_help_answers_at_once(arguments):
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "edco_rl", *arguments], capture_output=True, text=True, check=True)
    assert time.perf_counter() - start < 2
    assert done.stdout.startswith("usage: edco-rl")


def test_the_package_imports_fast_and_without_vllm():
    code = (
        "import sys, time; sys.modules['vllm'] = None; start = time.process_time(); import edco_rl\n"
        "assert time.process_time() - start < 1; assert 'torch' not in sys.modules\n"
        "from edco_rl import CurriculumGRPOTrainer, CurriculumPPOTrainer, CurriculumPPOConfig, available_strategies\n"
        "assert not [m for m in sys.modules if m.startswith('vllm.')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_supervised_fine_tuning_runs_resumes_and_measures(capsys, tmp_path, tiny_model_path):
    settings = {
        "model_name_or_path": tiny_model_path,
        "dataset_name": "reasoning_gym:chain_sum",
        "train_prompts": 12,
        "held_out_prompts": 3,
        "output_dir": str(tmp_path / "run"),
        "report_to": "none",
        "max_steps": 4,
        "save_steps": 2,
        "per_device_train_batch_size": 2,
        "gradient_checkpointing": False,
        "engine_mode": "none",
        "strategy": "mopps",
        "disable_tqdm": True,
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(settings))
    command = ["train", "sft", "--config", str(path)]
    code, error = run(capsys, *command, "--resume_from_checkpoint", "true")
    assert code == 2 and "resume_from_checkpoint true" in error and "holds no checkpoint" in error
    main(command)
    whole = (tmp_path / "run" / "curriculum.json").read_text()
    summary = yaml.safe_load((tmp_path / "run" / "summary.json").read_text())
    assert summary["steps"] == 4 and summary["accuracy_after"] == 0.0 and summary["held_out_prompts"] == 3
    shutil.rmtree(tmp_path / "run" / "checkpoint-4")
    main([*command, "--resume_from_checkpoint", "true"])
    assert (tmp_path / "run" / "curriculum.json").read_text() == whole
    code, error = run(capsys, *command, "--resume_from_checkpoint", "/nowhere")
    assert code == 2 and "resume_from_checkpoint '/nowhere': there is no such folder" in error


STOPPED_IN_A_FINALIZER = """
import os, signal, time
from edco_rl import cli

class Slow:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.05)

def work(arguments):
    Slow()
    time.sleep(60)

cli._dispatch = work
cli.main([])
"""


def test_a_stop_that_python_swallows_while_an_object_is_destroyed_is_not_lost():
    done = subprocess.run([sys.executable, "-c", STOPPED_IN_A_FINALIZER], capture_output=True, text=True, timeout=30)
    assert done.returncode == 130 and "interrupted" in done.stderr
