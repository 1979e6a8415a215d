"""Settings from YAML as people write them."""

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from edco_rl.config import CurriculumConfig, DataConfig, EngineConfig, RunConfig
from edco_rl.errors import ConfigurationError
from edco_rl.methods import METHODS
from edco_rl.parsing import Group, Parser
from edco_rl.runs.options import method_parser
from edco_rl.yaml_file import Settings as Given


@dataclass
class Settings:
    names: list[str] | None = None
    weights: list[float] = field(default_factory=list)
    rate: float = 0.0
    kwargs: dict[str, Any] | str | None = None


def made(source, values):
    parser = Parser("test", [Group("settings", source)])
    [settings] = parser.make(parser.check(Given(values)))
    return settings


def parse(text):
    return made(Settings, yaml.safe_load(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("names: math", {"names": ["math"]}),
        ("names: [math]", {"names": ["math"]}),
        ("names: [1e5, math]", {"names": ["1e5", "math"]}),
        ("rate: 5e-1", {"rate": 0.5}),
        ("weights: [5e-1, 1, 2.5E3]", {"weights": [0.5, 1, 2500.0]}),
        ("kwargs: {a: 5e-1, b: {c: [1e3, -2.E-1, .5e1]}}", {"kwargs": {"a": 0.5, "b": {"c": [1e3, -0.2, 5.0]}}}),
        ("kwargs: {a: 1e, b: e5, c: 1e5b, d: 2e-3x}", {"kwargs": {"a": "1e", "b": "e5", "c": "1e5b", "d": "2e-3x"}}),
    ],
)
def test_a_setting_is_what_its_field_takes(text, expected):
    parsed = parse(text)
    assert {name: getattr(parsed, name) for name in expected} == expected


def test_a_file_and_values_are_read_alike(tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text("names: math\nkwargs: {a: 5e-1}\n")
    parser = Parser("test", [Group("settings", Settings)])
    [parsed] = parser.make(parser.read(["--config", str(path), "--rate", "5e-1"]))
    assert (parsed.names, parsed.kwargs, parsed.rate) == (["math"], {"a": 0.5}, 0.5)


@pytest.mark.parametrize(
    ("words", "text", "expected"),
    [
        (["http://a:1"], "engine_url: http://a:1", "http://a:1"),
        (["http://a:1"], "engine_url: [http://a:1]", "http://a:1"),
        (["http://a:1", "http://b:1"], "engine_url: [http://a:1, http://b:1]", ["http://a:1", "http://b:1"]),
    ],
)
def test_one_address_or_several(words, text, expected):
    parser = Parser("test", [Group("settings", EngineConfig)])
    [by_flag] = parser.make(parser.read(["--engine_url", *words, "--engine_port", "1"]))
    assert by_flag.engine_url == made(EngineConfig, yaml.safe_load(text)).engine_url == expected


EVERY = {
    "strategy_kwargs": CurriculumConfig,
    "gate_kwargs": CurriculumConfig,
    "reward_kwargs": RunConfig,
    "task_kwargs": DataConfig,
}


@pytest.mark.parametrize("name", EVERY)
def test_every_mapping_of_settings_has_numbers_in_it(name):
    parsed = made(EVERY[name], {name: {"first": {"threshold": "5e-1"}}})
    assert getattr(parsed, name) == {"first": {"threshold": 0.5}}


@pytest.mark.parametrize("method", sorted(METHODS))
def test_trls_own_mappings_too_and_one_name_for_every_list(method, tmp_path):
    parser = method_parser(METHODS[method], method)
    values = {"lr_scheduler_kwargs": {"min_lr": "1e-6"}, "output_dir": str(tmp_path), "lora_target_modules": "q_proj"}
    parsed = parser.make(parser.check(Given(values)))
    fields = {name: value for one in parsed for name, value in vars(one).items()}
    assert fields["lr_scheduler_kwargs"] == {"min_lr": 1e-6}
    assert fields["lora_target_modules"] in ("q_proj", ["q_proj"])


PLUGIN = """
from edco_rl.curriculum import Gate

def reward(completions, **kwargs):
    return [float(len(text) % 3) for text in completions]

class Open(Gate):
    def admit(self, outcome):
        return True
"""


def test_modules_of_ones_own_are_found_by_the_script(tmp_path, tiny_model_path):
    """Beside the recipe, and in the current folder."""
    folder, elsewhere = tmp_path / "recipes", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    (folder / "own_beside.py").write_text(PLUGIN)
    (elsewhere / "own_current.py").write_text(PLUGIN)
    settings = {
        "model_name_or_path": tiny_model_path,
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
        "engine_mode": "none",
        "strategy": "random",
        "reward_funcs": "own_beside:reward",
        "gates": "own_current:Open",
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(settings))
    script = Path(sys.executable).with_name("edco-rl")
    command = [script, "train", "grpo", "--config", str(folder / "recipe.yaml")]
    done = subprocess.run(command, cwd=elsewhere, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["prompts_in_pool"] == 20


def test_a_module_that_is_nowhere_is_said_to_be_looked_for(tmp_path):
    from edco_rl.rewards import get_reward

    with pytest.raises(ConfigurationError, match="in the folder of the recipe and in the current one"):
        get_reward("nowhere_to_be_found:reward")
