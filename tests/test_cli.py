import json
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
from dataclasses import fields

import pytest
import yaml

from edco_rl.cli import COMMANDS, main
from edco_rl.config import EngineConfig
from edco_rl.curriculum import Strategy
from edco_rl.methods import METHODS
from edco_rl.runs.options import method_parser
from edco_rl.trainers.progress import format_postfix
from edco_rl.trainers.stopwatch import PARTS


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
        ({"curriculum_interval": 0}, "curriculum_interval must be a whole number of at least 1; got 0"),
        ({"dataset_name": "/nowhere/rows.jsonl"}, "there is no such file"),
        ({"dataset_name": None}, "dataset_name is missing"),
        ({"reward_funcs": ["maths"]}, "Unknown reward 'maths'"),
        ({"reward_funcs": None}, "reward_funcs is empty"),
        ({"max_steps": [1]}, "max_steps must be a whole number of at least -1; got [1]"),
        ({"curriculum_interval": 2.5}, "curriculum_interval must be a whole number of at least 1; got 2.5"),
        ({"gates": True}, "gates must be a list of texts; got true"),
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


def test_a_recipe_that_is_no_yaml_or_no_mapping_is_named(capsys, tmp_path):
    path = tmp_path / "recipe.yaml"
    for text, message in (("a: [", "expected the node content"), ("- a", "expected settings by name")):
        path.write_text(text)
        code, error = run(capsys, "score", "--config", path)
        assert code == 2 and str(path) in error and message in error and "Traceback" not in error


class Broken(Strategy):
    """A strategy with a mistake in it."""

    def select(self, n):
        return len(n)


def test_an_authors_own_mistake_keeps_its_traceback(tmp_path, tiny_model_path):
    path = recipe(tmp_path, model_name_or_path=tiny_model_path)
    with pytest.raises(TypeError, match="has no len") as error:
        main(["train", "grpo", "--config", str(path), "--strategy", f"{__name__}:Broken"])
    assert error.traceback[-1].name == "select"


def leaves(completions, **kwargs):
    sys.exit(0)


def unsure(completions, **kwargs):
    return [float("nan")] * len(completions)


def silent(completions, **kwargs):
    return [None] * len(completions)


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        (leaves, r"Reward 'leaves' called sys\.exit for the prompt of id .* and the completion '.*':\nTraceback"),
        (
            unsure,
            r"At optimizer step 0 2 prompts are in quarantine, and .*: Reward 'unsure' gave nan for the prompt of id",
        ),
        (silent, "Training has ended, and no completion got a reward"),
    ],
)
def test_a_reward_with_nothing_to_train_on_fails_the_run(capsys, tmp_path, tiny_model_path, reward, message):
    changes = {"model_name_or_path": tiny_model_path, "max_quarantined_prompts": 1, "strategy": "random"}
    path = recipe(tmp_path, reward_funcs=[f"{__name__}:{reward.__name__}"], **changes)
    code, error = run(capsys, "train", "grpo", "--config", path)
    said = error[error.index("edco-rl: error: ") + len("edco-rl: error: ") :]
    assert code == 1 and re.match(message, said), error
    assert all(__file__ in line for line in said.splitlines() if line.startswith("  File "))
    assert not list((tmp_path / "run").glob("*.safetensors"))


def test_a_missing_vllm_is_told_before_anything_is_loaded(capsys, tmp_path, tiny_model_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    path = recipe(tmp_path, model_name_or_path=tiny_model_path, dataset_name="nobody/nothing", engine_mode=None)
    scored = ["--model_name_or_path", tiny_model_path, "--dataset_name", "nobody/nothing"]
    for command in (
        ["train", "grpo", "--config", path],
        ["score", *scored, "--output", tmp_path / "scores.parquet"],
        ["audit", *scored],
        ["evaluate", *scored],
    ):
        code, error = run(capsys, *command)
        assert code == 2 and 'pip install "edco-rl[gpu]"' in error and '"edco-rl[cpu]"' in error


def test_an_unknown_method_or_command_is_named(capsys):
    chosen = "edco-rl: error: edco-rl train: there is no method 'grop'; choose from grpo, "
    code, error = run(capsys, "train", "grop")
    assert code == 2 and error.startswith(chosen) and error.endswith("Did you mean grpo?")
    code, error = run(capsys, "trian")
    assert code == 2 and "there is no command 'trian'" in error and error.endswith("Did you mean train?")


def test_a_port_in_use_is_named(capsys, tiny_model_path, new_children):
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        port = sock.getsockname()[1]
        code, error = run(capsys, "serve", "--model_name_or_path", tiny_model_path, "--engine_port", port)
    assert code == 2 and f"Cannot listen on 127.0.0.1:{port}" in error and not new_children()


def test_a_transport_that_no_server_takes_is_named_before_it_starts(capsys, tiny_model_path, new_children):
    options = ("--model_name_or_path", tiny_model_path, "--engine_transport", "ipc")
    code, error = run(capsys, "serve", *options)
    assert code == 2 and "engine_transport ipc needs engine_mode colocate" in error
    assert not new_children()


def test_a_server_that_is_never_healthy_ends_with_its_log(capsys, tiny_model_path, new_children, tmp_path):
    settings = {
        "model_name_or_path": tiny_model_path,
        "engine_startup_timeout": 1,
        "engine_log": str(tmp_path / "log"),
    }
    path = tmp_path / "serve.yaml"
    path.write_text(yaml.safe_dump(settings))
    code, error = run(capsys, "serve", "--config", path, "--engine_port", 0)
    assert code == 1 and "was not healthy after 1 seconds" in error and not new_children()


def test_a_recipe_trains_without_an_engine_and_flags_override_it(capsys, tmp_path, tiny_model_path):
    path = recipe(tmp_path, model_name_or_path=tiny_model_path)
    main(["train", "grpo", "--config", str(path), "--strategy", "random", "--max_steps", "2", "--logging_steps", "1"])
    summary = yaml.safe_load((tmp_path / "run" / "summary.json").read_text())
    assert summary["steps"] == 2 and summary["config"]["curriculum"]["strategy"] == "random"
    assert summary["accuracy_before"] is None and summary["held_out_prompts"] == 0
    assert summary["versions"]["trl"].startswith("1.16.")
    files = {p.name for p in (tmp_path / "run").iterdir()}
    assert {"model.safetensors", "trainer_state.json", "curriculum.json", "summary.json"} <= files
    assert summary["method"] == "grpo" and summary["seconds"].keys() == {"training", *PARTS}
    logged = json.loads((tmp_path / "run" / "trainer_state.json").read_text())["log_history"]
    steps = [line for line in logged if "time/step" in line]
    assert len(steps) == 2
    for line in steps:
        total, _, parts = format_postfix(line).rpartition(", ")[2].partition(" s/step = ")
        shown = dict(part.split() for part in parts.split(" + "))
        assert shown.keys() <= PARTS.keys() and {"rollout", "reward", "optimizer"} <= shown.keys()
        assert sum(map(float, shown.values())) == pytest.approx(float(total), abs=0.05 * (len(shown) + 1))


def test_ppo_trains_from_a_recipe_with_its_own_settings(capsys, tmp_path, tiny_model_path):
    path = recipe(tmp_path, model_name_or_path=tiny_model_path, num_generations=None, kl_coef=0.05, gamma=0.9)
    main(["train", "ppo", "--config", str(path), "--lam", "0.8", "--num_ppo_epochs", "2"])
    summary = yaml.safe_load((tmp_path / "run" / "summary.json").read_text())
    training = summary["config"]["training"]
    assert [training[name] for name in ("num_generations", "kl_coef", "gamma", "lam")] == [1, 0.05, 0.9, 0.8]
    assert training["num_iterations"] == 2 and summary["steps"] == 1
    files = {p.name for p in (tmp_path / "run").iterdir()}
    assert {"model.safetensors", "value_head.arrays", "curriculum.json", "summary.json"} <= files
    assert [name for name in files if name.endswith(".safetensors")] == ["model.safetensors"]  # engines load them all
    code, error = run(capsys, "train", "ppo", "--config", path, "--beta", "0.1")
    assert code == 2 and "set kl_coef" in error.splitlines()[-1]


def seconds_of(*arguments):
    """CPU seconds of the command in a process of its own, which a busy machine does not change, and its output."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-m", "edco_rl", *map(str, arguments)], capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS), ["train", "distillation"]], ids=" ".join)
def test_help_answers_at_once(command):
    seconds, done = seconds_of(*command, "--help")
    assert done.returncode == 0 and seconds < 2
    assert done.stdout.startswith(f"usage: edco-rl {' '.join(command)}")


def test_the_help_of_a_method_begins_with_what_is_ours_and_lists_each_flag_once(capsys):
    def listed(flag):
        with pytest.raises(SystemExit) as end:
            main(["train", "grpo", flag])
        assert end.value.code == 0
        text = capsys.readouterr().out
        return text, re.findall(r"^  --([\w-]+)", text, re.MULTILINE)

    text, flags = listed("--help")
    assert len(text.splitlines()) < 250 and len(set(flags)) == len(flags)
    assert flags.index("strategy") < flags.index("learning_rate") and "adam_beta1" not in flags
    about_rewards = " ".join(text[text.index("--reward_funcs") :].split())
    assert "multiple_choice, math, reasoning_gym, answer_format, length, rouge_l" in about_rewards
    assert "One of adarft, baby_step, combined" in " ".join(text.split())
    _, all_flags = listed("--help-all")
    assert set(all_flags) == {*method_parser(METHODS["grpo"], "").fields, "config", "help"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "grpo", "--strategy", "edko"], "Unknown strategy 'edko'."),
        (["train", "grpo", "--gates=equal_reward"], "Did you mean equal_rewards?"),
        (
            ["train", "sft", "--learning-rat", "1"],
            "edco-rl train sft has no flag --learning_rat. Did you mean --learning",
        ),
        (["train", "sft", "--max_steps=2.5"], "--max_steps must be a whole number of at least -1; got '2.5'."),
        (["train", "sft", "--learning_rate", "-1e-5"], "--learning_rate must be a number of at least 0; got -1e-05."),
        (["train", "ppo", "--dataset_name", "/nowhere/rows.jsonl"], "'/nowhere/rows.jsonl': there is no such file."),
        (["train", "ppo", "--dataset_name", "rows.jsonl"], "dataset_name 'rows.jsonl': there is no such file."),
        (["train", "rloo", "--model_name_or_path", "./nowhere"], "'./nowhere' is not a model folder"),
        (["train", "rloo", "--reward_funcs", "math", "lenght"], "Unknown reward 'lenght'."),
        (["score", "--config=nowhere.yaml"], "--config nowhere.yaml: there is no such file."),
        (["audit", "--optim"], "edco-rl audit has no flag --optim."),
        (
            ["serve", "--engine_dtype", "float"],
            "--engine_dtype must be one of auto, bfloat16, float16, float32; got 'float'.",
        ),
        (["serve", "model"], "edco-rl serve: 'model' is given to no flag."),
        (["evaluate", "--samples"], "edco-rl evaluate: --samples: expected one argument."),
        (["report", "nowhere"], "nowhere is no folder: expected one of edco-rl benchmark or edco-rl train."),
        (["benchmark"], "methods is missing"),
        ([], "the command is missing; choose from train, audit"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(capsys, words, message):
    code, error = run(capsys, *words)
    assert code == 2 and message in error and len(error.splitlines()) == 1


@pytest.mark.parametrize(
    "words",
    [
        ["train", "grpo", "--strategy", "edko"],
        ["train", "distillation", "--learning-rat", "1"],
        ["train", "ppo", "--dataset_name", "rows.jsonl"],
        ["report", "nowhere"],
    ],
    ids=lambda words: words[-2],
)
def test_what_is_wrong_is_told_at_once(words):
    seconds, done = seconds_of(*words)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and seconds < 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_steps: 3\nintervall: 3\n", ", line 2: edco-rl train grpo has no setting 'intervall'."),
        ("strategie: edco\n", ", line 1: edco-rl train grpo has no setting 'strategie'. Did you mean strategy?"),
        ("\n\ncurriculum_interval: [1\n", ", line 4, column 1: expected ',' or ']', but got '<stream end>'."),
        ("seed: 1\nmax_steps: 2\nseed: 2\n", ", line 3, column 1: 'seed' is there twice, first in line 1."),
        ("a: &a [*a]\n", "an anchor that holds itself."),
        ("seed: 2020-13-45\n", ": month must be in 1..12."),
        ("engine_port: -1\n", ", line 1: engine_port must be a whole number of at least 0 and at most 65535; got -1."),
        ("engine_request_timeout: -5\n", ", line 1: engine_request_timeout must be a number above 0; got -5."),
        ("learning_rate: .inf\n", ", line 1: learning_rate must be a number of at least 0; got inf."),
        ("optim_args: 1\noptim: adam\n", ", line 1: optim_args must be text; got 1."),
        ("strategy_kwargs: {a: [.nan]}\n", ", line 1: strategy_kwargs holds a number that is not finite: nan."),
        ("strategy: edko\n", ", line 1: Unknown strategy 'edko'."),
        ("bf16: 1\n", ", line 1: bf16 must be true or false; got 1."),
        ("save_strategy: never\n", ", line 1: save_strategy must be one of no, steps, epoch, best; got 'never'."),
    ],
)
def test_what_is_wrong_in_a_file_is_told_with_its_line(tmp_path, capsys, text, message):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    code, error = run(capsys, "train", "grpo", f"--config={path}")
    assert code == 2 and error.startswith(f"edco-rl: error: {path}") and message in error
    assert len(error.splitlines()) == 1


def test_a_wrong_cell_of_a_benchmark_is_told_before_anything_is_loaded(tmp_path):
    path = tmp_path / "matrix.yaml"
    settings = {"dataset_name": "reasoning_gym:chain_sum", "max_steps": 1}
    for curricula, message in (
        ({"random": {}, "mine": {"strategy": "edko"}}, "chain_sum_grpo_mine_42: Unknown strategy 'edko'."),
        (
            {"random": {"curriculum_intervall": 2}},
            "has no setting 'curriculum_intervall'. Did you mean curriculum_interval?",
        ),
    ):
        path.write_text(yaml.safe_dump({"methods": ["grpo"], "curricula": curricula, "settings": settings}))
        seconds, done = seconds_of("benchmark", "--config", path)
        assert done.returncode == 2 and message in done.stderr and len(done.stderr.splitlines()) == 1 and seconds < 2


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("edco-rl train rl", {"rloo "}),
        ("edco-rl train grpo --curriculum_int", {"--curriculum_interval "}),
        ("edco-rl train grpo --strategy ed", {"edco "}),
        ("edco-rl train grpo --lr_scheduler_type cosine_with_r", {"cosine_with_restarts "}),
        ("edco-rl score --estimator option", {"option_entropy "}),
    ],
)
def test_a_shell_completes_commands_flags_and_what_they_can_be(line, expected, tmp_path):
    answer = tmp_path / "answer"
    variables = {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n", "_ARGCOMPLETE_SHELL": "bash", "COMP_TYPE": "9"}
    variables |= {"COMP_LINE": line, "COMP_POINT": str(len(line)), "_ARGCOMPLETE_STDOUT_FILENAME": str(answer)}
    subprocess.run([sys.executable, "-m", "edco_rl"], env={**os.environ, **variables}, check=True)
    assert set(answer.read_text().split("\n")) == expected


def test_what_a_trainer_decides_is_no_setting_of_a_server(capsys):
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    flags = set(re.findall(r"--(engine_\w+)", capsys.readouterr().out))
    trainers = {"engine_mode", "engine_url", "engine_request_timeout"}
    trainers |= {"engine_request_retries", "engine_hang_timeout", "engine_max_restarts", "engine_wait_timeout"}
    trainers |= {"sync_interval", "rollouts_ahead"}
    assert flags == {field.name for field in fields(EngineConfig)} - trainers


def test_the_package_imports_fast_and_without_vllm():
    code = (
        "import sys, time; sys.modules['vllm'] = None; start = time.process_time(); import edco_rl\n"
        "assert time.process_time() - start < 1; assert 'torch' not in sys.modules\n"
        "import edco_rl.methods; assert 'torch' not in sys.modules and 'trl' not in sys.modules\n"
        "for name in edco_rl.__all__: getattr(edco_rl, name)\n"
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
    assert done.returncode == 143 and "interrupted" in done.stderr
