"""PPO on a real engine, as the quickstart recipe has it."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from edco_rl.cli import main

pytestmark = pytest.mark.engine

RECIPE = Path(__file__).parents[2] / "recipes" / "quickstart" / "ppo_edco.yaml"


def spread(completions: list[str], **columns: object) -> list[float]:
    """Another reward for each text, so that a batch has a gradient whatever the model happens to answer."""
    return [sum(map(ord, completion)) % 97 / 97 for completion in completions]


def test_the_recipe_trains_a_policy_and_its_value_head(model_path, server_url, tmp_path):
    settings = {
        "model_name_or_path": model_path,
        "engine_url": server_url,
        "output_dir": str(tmp_path),
        "max_steps": "2",
        "curriculum_candidates": "8",
        "curriculum_size": "4",
        "held_out_prompts": "8",
        "per_device_train_batch_size": "4",
        "num_generations": "1",
        "value_warmup_steps": "1",
        "share_prompts": "false",
        "reward_funcs": f"{__name__}:spread",
        "held_out_reward": "math",
    }
    flags = [word for name, value in settings.items() for word in (f"--{name}", value)]
    main(["train", "ppo", "--config", str(RECIPE), "--use_cpu", "true", *flags])
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["steps"] == 2 and summary["config"]["training"]["num_generations"] == 1
    assert 0 <= summary["accuracy_after"] <= 1 and summary["seconds"]["sync"] > 0
    logs = json.loads((tmp_path / "trainer_state.json").read_text())["log_history"]
    assert [entry["grad_norm"] > 0 for entry in logs if "loss" in entry] == [False, True]
    assert load_file(tmp_path / "value_head.arrays")["linear.weight"].any()
    _, loaded = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not loaded["missing_keys"] and not loaded["unexpected_keys"]
