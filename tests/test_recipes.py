"""Every recipe: what it says without running it; tests/e2e/test_recipes.py runs them."""

import os
import re
from pathlib import Path
from typing import get_args

import pytest
import yaml

from edco_rl.audit.candidates import EDCO_RELEASED
from edco_rl.benchmark.cells import make_cells
from edco_rl.config import BenchmarkConfig
from edco_rl.config.complexity import Baseline
from edco_rl.curriculum import available_strategies
from edco_rl.data.hub import HUB_DATASETS
from edco_rl.methods import METHODS
from edco_rl.rewards import get_rewards
from edco_rl.runs.options import method_parser
from edco_rl.runs.settings import RunSettings

FOLDER = Path(__file__).parents[1] / "recipes"
DOMAINS = ("communication", "law", "medicine")
BENCHMARKS = sorted((FOLDER / "benchmark").glob("*.yaml"))
# Those of one training run, by their method: <domain>/<method>_<curriculum>.yaml.
FOLDERS = (*DOMAINS, "instructions", "mmlu_pro", "quickstart")
TRAINING = sorted(path for folder in FOLDERS for path in (FOLDER / folder).iterdir())
COMPLEXITY_AWARE = "complexity-aware"
# Complexity-aware fine-tuning has no curriculum to choose, and runs in tests/complexity.
RECIPES = [path for path in TRAINING if not path.stem.startswith("complexity_aware")]

# The same training on other data.
LIKE_COMMUNICATION = [path for path in RECIPES if path.parent.name in ("law", "medicine")]


def read(path):
    return yaml.safe_load(path.read_text())


def method_of(path):
    return METHODS[COMPLEXITY_AWARE if path not in RECIPES else path.stem.partition("_")[0]]


def name(path):
    return f"{path.parent.name}/{path.stem}"


def parse(path, *flags):
    method = method_of(path)
    parser = method_parser(method, f"edco-rl train {method.name}")
    return RunSettings(method, *parser.make(parser.read(["--config", str(path), *flags])))


@pytest.mark.parametrize("path", TRAINING, ids=name)
def test_a_recipe_names_what_exists(path):
    settings = parse(path)
    method = settings.method.name
    if method == COMPLEXITY_AWARE:
        assert settings.curriculum.complexity_baselines == list(get_args(Baseline))
        assert settings.curriculum.estimator == "answer_entropy"
    else:
        assert settings.curriculum.strategy in available_strategies()
    if method in ("grpo", "rloo", "ppo"):
        assert get_rewards(settings.script.reward_funcs, settings.run.reward_kwargs)
    if method == "distillation":
        assert settings.training.teacher_model_name_or_path != settings.model.model_name_or_path
    if path.parent.name in DOMAINS:
        assert settings.script.dataset_name.lower() in HUB_DATASETS
        assert settings.model.model_name_or_path in ("Qwen/Qwen3-4B", "meta-llama/Llama-3.2-3B-Instruct")


def test_the_baseline_of_a_recipe_is_a_flag():
    """Where settings follow from the strategy, they follow the flag."""
    edco = FOLDER / "quickstart" / "grpo_edco.yaml"
    assert parse(edco).curriculum.strategy == "edco"
    random = parse(edco, "--strategy", "random")
    assert random.curriculum.strategy == "random"
    assert random.training.learning_rate == parse(edco).training.learning_rate
    pocl = FOLDER / "instructions" / "distillation_pocl.yaml"
    plain = parse(pocl, "--strategy", "random", "--strategy_kwargs", "{}")
    assert not plain.curriculum.strategy_kwargs and parse(pocl).curriculum.strategy_kwargs["stages"] == 4
    scheduled = ("final_distillation_temperature", "distillation_weight", "final_distillation_weight")
    assert all(getattr(plain.training, setting) is None for setting in scheduled)


@pytest.mark.parametrize("method", ["grpo", "sft"])
def test_edcos_released_recipes_score_as_the_audits_candidate_does(method):
    curriculum = parse(FOLDER / "communication" / f"{method}_edco_released.yaml").curriculum
    assert {name: getattr(curriculum, name) for name in EDCO_RELEASED} == EDCO_RELEASED
    assert curriculum.curriculum_candidates is None and curriculum.curriculum_reset_optimizer


def test_edcos_released_rounds_add_up():
    """Reinforcement learning: five rounds of 100 batches of 8 prompts, two updates each, over 200 prompts four times.
    Fine-tuning: eight rounds of one pass over 1,750 rows, two epochs' worth of 7,000."""
    grpo = parse(FOLDER / "communication" / "grpo_edco_released.yaml")
    args, interval = grpo.training, grpo.curriculum.curriculum_interval
    prompts = args.generation_batch_size // args.num_generations
    updates = args.steps_per_generation // args.gradient_accumulation_steps
    assert (prompts, updates, interval // updates) == (8, 2, 100)
    assert interval // updates * prompts == 4 * grpo.curriculum.curriculum_size == 800
    assert args.max_steps == 5 * interval and args.ref_model_sync_steps == interval
    sft = parse(FOLDER / "communication" / "sft_edco_released.yaml")
    args, interval = sft.training, sft.curriculum.curriculum_interval
    rows = args.per_device_train_batch_size * args.gradient_accumulation_steps
    assert sft.curriculum.curriculum_size == sft.data.train_prompts * 2 // 8
    assert interval == sft.curriculum.curriculum_size // rows and args.max_steps == 8 * interval


@pytest.mark.parametrize("path", LIKE_COMMUNICATION, ids=name)
def test_a_domain_is_trained_as_communication_is(path):
    one, other = read(path), read(FOLDER / "communication" / path.name)
    of_data_and_model = {"model_name_or_path", "output_dir", "held_out_prompts", "held_out_max_tokens"}
    of_data_and_model |= {"chat_template_kwargs"}
    differ = {key for key in one.keys() | other.keys() if one.get(key) != other.get(key)}
    assert {key for key in differ if not key.startswith("dataset_")} <= of_data_and_model


def test_rloo_is_trained_as_grpo_is():
    grpo, rloo = (read(FOLDER / "quickstart" / f"{method}_edco.yaml") for method in ("grpo", "rloo"))
    differ = {key for key in grpo.keys() | rloo.keys() if grpo.get(key) != rloo.get(key)}
    assert differ == {"output_dir", "beta", "vllm_importance_sampling_correction"}  # the last RLOO has not


@pytest.mark.parametrize("path", BENCHMARKS, ids=name)
def test_a_benchmark_is_what_its_first_lines_say_and_every_setting_exists(path, model_path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "recipes").symlink_to(FOLDER)
    for made in map(os.path.expanduser, re.findall(r"(?:runs|~)/\S+\.jsonl", path.read_text())):  # beforehand
        Path(made).parent.mkdir(parents=True, exist_ok=True)
        Path(made).write_text("{}\n")
    values = read(path)
    cells = make_cells(BenchmarkConfig(**values))
    assert f"{len(cells)} runs" in path.read_text().partition("output_dir")[0]
    assert len(values["seeds"]) >= 3
    assert "random" in values["curricula"] or len(values["methods"]) > len(values["curricula"]) == 1
    rewards = {cell.task: {cell.values["held_out_reward"]} for cell in cells}
    for cell in (cell for cell in cells if cell.seed == values["seeds"][0]):
        cell.values.update({key: model_path for key in cell.values if key.endswith("model_name_or_path")})
        settings = cell.settings(tmp_path)
        assert settings.curriculum.strategy in available_strategies()
        assert {settings.run.held_out_reward} == rewards[cell.task]  # methods are measured alike


def test_the_small_benchmark_compares_methods_curricula_and_tasks():
    cells = make_cells(BenchmarkConfig(**read(FOLDER / "benchmark" / "small_cpu.yaml")))
    assert {cell.trainer for cell in cells} >= {"grpo", "sft"}
    for method in ("grpo", "sft"):
        curricula = {cell.curriculum for cell in cells if cell.trainer == method}
        assert curricula >= {"random", "edco", "combined"} and len(curricula) >= 4
    assert len({cell.values["dataset_name"] for cell in cells}) >= 2


def test_the_table_of_recipes_has_every_recipe():
    table = (FOLDER / "README.md").read_text()
    files = sorted(str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*.yaml"))
    assert [file for file in files if f"| `{file}` |" not in table] == []
