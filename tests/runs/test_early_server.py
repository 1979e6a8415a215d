"""The server of a run is launched first, waited for where it is needed, and ended however the run ends."""

import json
import subprocess
import sys

import pytest

from edco_rl.cli import main
from edco_rl.engine.supervisor import Supervisor
from edco_rl.methods import METHODS
from edco_rl.runs import early_server as module
from edco_rl.runs.options import method_parser
from edco_rl.yaml_file import Settings
from tests.engine.own_server import StandInServer

SETTINGS = {
    "max_steps": 1,
    "bf16": False,
    "use_cpu": True,
    "report_to": "none",
    "held_out_prompts": 2,
    "per_device_train_batch_size": 4,
    "num_generations": 2,
    "max_completion_length": 3,
    "gradient_checkpointing": False,
    "save_strategy": "no",
    "strategy": "random",
    "reward_funcs": "math",
    "vllm_importance_sampling_correction": False,
}


@pytest.fixture
def launched(monkeypatch):
    """The servers that were launched, with a stand-in for vLLM, in their order."""
    servers = []

    class Server(StandInServer):
        def launch(self):
            servers.append(self)
            super().launch()

    monkeypatch.setattr(module, "VLLMServer", Server)
    monkeypatch.setattr(Supervisor, "interval", 0.05)
    return servers


def train(model, folder, column="prompt", **settings):
    rows = folder / "rows.jsonl"
    rows.write_text("".join(json.dumps({column: f"{i} + 1 =", "answer": str(i + 1)}) + "\n" for i in range(8)))
    words = ["train", "grpo", "--model_name_or_path", model, "--dataset_name", str(rows)]
    for name, value in {"output_dir": folder / "run", **SETTINGS, **settings}.items():
        words += [f"--{name}", str(value)]
    main(words)


@pytest.mark.parametrize("more", [{}, {"compare_with": "reward_variance"}])
def test_a_run_waits_for_the_one_that_was_launched(tiny_model_path, tmp_path, launched, new_children, more):
    """A run and the one it is compared with use the same."""
    train(tiny_model_path, tmp_path, **more)
    assert [(one.model, one.log_path) for one in launched] == [(tiny_model_path, tmp_path / "run" / "engine.log")]
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["steps"] == 1
    assert not new_children()


def test_a_row_that_is_refused_ends_it(tiny_model_path, tmp_path, launched, new_children, capsys):
    with pytest.raises(SystemExit):
        train(tiny_model_path, tmp_path, column="text")
    assert len(launched) == 1 and not new_children() and "'prompt'" in capsys.readouterr().err


def test_one_that_dies_meanwhile_is_told_with_its_last_lines(
    tiny_model_path, tmp_path, launched, new_children, capsys, monkeypatch
):
    dying = [sys.executable, "-c", "print('no memory left'); raise SystemExit(3)"]
    monkeypatch.setattr(StandInServer, "_command", lambda self: dying)
    with pytest.raises(SystemExit):
        train(tiny_model_path, tmp_path)
    error = capsys.readouterr().err
    assert "ended with exit code 3" in error and "no memory left" in error
    assert len(launched) == 1 and not new_children()


LAUNCH = """
import sys
from edco_rl.cli import main
from edco_rl.engine.server import VLLMServer
def launch(server):
    server._command()
    print([name for name in ("torch", "transformers", "trl", "vllm", "datasets") if name in sys.modules])
    raise SystemExit
VLLMServer.launch = launch
main(sys.argv[1:])
"""


def test_nothing_heavy_is_imported_before_it(tiny_model_path, tmp_path):
    words = ["train", "grpo", "--model_name_or_path", tiny_model_path, "--dataset_name", "nobody/nothing"]
    done = subprocess.run(
        [sys.executable, "-c", LAUNCH, *words, "--output_dir", tmp_path], capture_output=True, text=True
    )
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.parametrize(
    ("settings", "environment", "launches"),
    [
        ({}, {}, True),
        ({"engine_mode": "none"}, {}, False),
        ({"engine_mode": "colocate"}, {}, False),
        ({"engine_url": "http://localhost:8000"}, {}, False),
        ({"use_vllm": True}, {}, False),
        ({"dry_run": True}, {}, False),
        ({"model_name_or_path": None}, {}, False),
        ({}, {"RANK": "1"}, False),
    ],
)
def test_a_process_that_starts_no_server_launches_none(tmp_path, monkeypatch, settings, environment, launches):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(module.VLLMServer, "launch", lambda self: None)
    values = {"model_name_or_path": "some/model", "dataset_name": "some/rows", "output_dir": str(tmp_path), **settings}
    with module.early_server(method_parser(METHODS["grpo"], "train"), Settings(values)) as server:
        assert (server is not None) == launches


@pytest.mark.parametrize(
    ("settings", "rank"), [({}, 16), ({"lora_r": 20}, 32), ({"lora_modules_to_save": ["lm_head"]}, None)]
)
def test_it_has_room_for_the_adapter_that_is_trained(tmp_path, monkeypatch, settings, rank):
    monkeypatch.setattr(module.VLLMServer, "launch", lambda self: None)
    values = {"model_name_or_path": "some/model", "dataset_name": "some/rows", "use_peft": True, **settings}
    with module.early_server(method_parser(METHODS["grpo"], "train"), Settings(values)) as server:
        assert server.config.engine_max_lora_rank == rank
