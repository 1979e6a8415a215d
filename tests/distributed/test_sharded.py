"""Training as accelerate's configurations launch it, on CPUs connected by gloo: weights gathered for the engine.

Truths: what accelerate itself gathers for a checkpoint, and the same training in one process.
"""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

ROOT = Path(__file__).parents[2]
CONFIGS = {"ddp": "multi_cpu", "fsdp2": "fsdp2", "zero3": "zero3"}


def launch(folder, model, kind, processes, lora=False, curriculum=None):
    """Trains in so many processes, and returns how that ended."""
    folder.mkdir()
    settings = {"folder": str(folder), "model": model, "kind": kind, "processes": processes, "lora": lora}
    settings["curriculum"] = curriculum or {"strategy": "random"}
    path = folder / "settings.json"
    path.write_text(json.dumps(settings))
    program = ["-m", "tests.distributed.sharded", str(path)]
    if processes > 1:
        config = ROOT / "recipes" / "accelerate_configs" / f"{CONFIGS[kind]}.yaml"
        accelerate = ["accelerate.commands.launch", "--config_file", str(config), "--num_processes", str(processes)]
        program = ["-m", *accelerate, "--main_process_port", "0", "--mixed_precision", "no", *program]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
    return subprocess.run([sys.executable, *program], capture_output=True, text=True, cwd=ROOT, env=environment)


def train(folder, model, kind, processes, lora=False):
    """Weights at the end: those each engine was given, those accelerate gathers, and how many a process holds."""
    done = launch(folder, model, kind, processes, lora)
    assert done.returncode == 0, done.stderr[-4000:]
    pushed = [load_file(folder / f"pushed_{rank}.safetensors") for rank in range(processes)]
    return pushed, load_file(folder / "gathered.safetensors"), json.loads((folder / "held.json").read_text())


@pytest.fixture(scope="module")
def alone(tiny_model_path, tmp_path_factory):
    [pushed], _, held = train(tmp_path_factory.mktemp("alone") / "run", tiny_model_path, "ddp", 1)
    return pushed, held


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 4])
@pytest.mark.parametrize("kind", ["fsdp2", "ddp", "zero3"])
def test_each_engine_gets_the_whole_weights_that_one_process_would_have(
    alone, tiny_model_path, tmp_path, kind, processes
):
    if kind == "zero3" and find_spec("deepspeed") is None:
        pytest.skip("DeepSpeed is not installed")
    pushed, gathered, held = train(tmp_path / "run", tiny_model_path, kind, processes)
    whole, all_held = alone
    assert held == (all_held if kind == "ddp" else all_held // processes)
    for weights in pushed:
        assert weights.keys() == whole.keys()
        assert all(torch.equal(weights[name], gathered[name]) for name in whole)
    start = load_file(Path(tiny_model_path) / "model.safetensors")
    assert most_apart(whole, start) > 0.1 and most_apart(whole, pushed[0]) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ddp", "fsdp2", "zero3"])
def test_each_engine_gets_the_whole_adapter_that_one_process_would_have(tiny_model_path, tmp_path, kind):
    if kind == "zero3" and find_spec("deepspeed") is None:
        pytest.skip("DeepSpeed is not installed")
    [alone], _, _ = train(tmp_path / "alone", tiny_model_path, "ddp", 1, lora=True)
    pushed, gathered, _ = train(tmp_path / "run", tiny_model_path, kind, 2, lora=True)
    start = load_file(Path(tiny_model_path) / "model.safetensors")
    for rank, adapter in enumerate(pushed):
        base = load_file(tmp_path / "run" / f"base_{rank}.safetensors")
        assert base.keys() == start.keys() and all(torch.equal(base[name], start[name]) for name in start)
        assert adapter.keys() == alone.keys()
        assert all(torch.equal(adapter[name], gathered[name]) for name in alone)
    moved = max(float(value.abs().max()) for name, value in alone.items() if "lora_B" in name)  # from zero
    assert moved > 0.01 and most_apart(alone, pushed[0]) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["fsdp2", "zero3"])
def test_a_policy_of_which_each_process_holds_a_part_is_not_looked_into(tiny_model_path, tmp_path, kind):
    if kind == "zero3" and find_spec("deepspeed") is None:
        pytest.skip("DeepSpeed is not installed")
    curriculum = {"strategy": "learning_edge", "strategy_kwargs": {"hidden_state": True}}
    done = launch(tmp_path / "run", tiny_model_path, kind, 2, curriculum=curriculum)
    assert done.returncode != 0 and "Set hidden_state to false in strategy_kwargs, or launch the run" in done.stderr


def most_apart(one, other):
    return max(float((one[name] - other[name]).abs().max()) for name in one)
