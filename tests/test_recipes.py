"""Every recipe: what it says without running it; tests/e2e/test_recipes.py runs them."""

from dataclasses import fields
from pathlib import Path
from typing import get_args

import pytest
import yaml

from edco_rl.config import BenchmarkConfig, ComplexityConfig
from edco_rl.config.complexity import Baseline
from edco_rl.curriculum import available_strategies
from edco_rl.data.hub import HUB_DATASETS
from edco_rl.benchmark.cells import make_cells
from edco_rl.rewards import get_rewards
from edco_rl.trainers.divergence import make_divergence

FOLDER = Path(__file__).parents[1] / "recipes"
DOMAINS = ("communication", "law", "medicine")
FOLDERS = (*DOMAINS, "instructions", "quickstart")
# Recipes of a curriculum; complexity_aware.yaml has tests of its own, and runs in tests/complexity/test_run.py.
RECIPES = sorted(
    path for folder in FOLDERS for path in (FOLDER / folder).glob("*.yaml") if path.stem != "complexity_aware"
)
# What may differ between a curriculum and its baseline.
CURRICULUM = {
    "strategy",
    "interval",
    "size",
    "candidates",
    "scoring_prefix_tokens",
    "scoring_quick_answer",
    "output_dir",
}
# POCL's curriculum is one of the loss too.
CURRICULUM |= {"strategy_kwargs", "difficulty_rankings", "final_distillation_temperature"}
CURRICULUM |= {"distillation_weight", "final_distillation_weight"}


def read(path):
    return yaml.safe_load(path.read_text())


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_recipe_names_what_exists(path):
    settings = read(path)
    assert settings["strategy"] in available_strategies()
    if path.stem.startswith("grpo"):
        assert get_rewards(settings["reward_funcs"], settings.get("reward_kwargs"))
        per_step = settings["per_device_train_batch_size"] * settings["gradient_accumulation_steps"]
        assert per_step % settings["num_generations"] == 0
    if path.stem.startswith("distillation"):
        assert make_divergence(settings["divergence"], skew=settings["skew"])
        assert settings["teacher_model_name_or_path"] != settings["model_name_or_path"]
    if path.parent.name in DOMAINS:
        assert settings["dataset_name"].lower() in HUB_DATASETS
        assert settings["model_name_or_path"] in ("Qwen/Qwen3-4B", "meta-llama/Llama-3.2-3B-Instruct")


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_complexity_aware_recipe_names_what_exists_and_every_baseline(domain):
    settings = read(FOLDER / domain / "complexity_aware.yaml")
    assert settings["dataset_name"].lower() in HUB_DATASETS
    assert settings["model_name_or_path"] in ("Qwen/Qwen3-4B", "meta-llama/Llama-3.2-3B-Instruct")
    assert settings["baselines"] == list(get_args(Baseline))
    ours = {name: settings[name] for name in settings.keys() & {field.name for field in fields(ComplexityConfig)}}
    assert ComplexityConfig(**ours).estimator == "answer_entropy"


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_recipe_differs_from_its_baseline_in_the_curriculum_only(path):
    baseline = path.with_name(path.name.replace("edco", "random").replace("pocl", "random"))
    if not baseline.is_file():
        pytest.skip(f"{path.stem} has no baseline")
    edco, random = read(path), read(baseline)
    assert {k: v for k, v in edco.items() if k not in CURRICULUM} == {
        k: v for k, v in random.items() if k not in CURRICULUM
    }
    assert random["strategy"] == "random"


@pytest.mark.parametrize("path", sorted((FOLDER / "benchmark").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_benchmark_is_what_its_first_lines_say_and_every_setting_exists(path, tmp_path):
    values = read(path)
    cells = make_cells(BenchmarkConfig(**values))
    assert f"{len(cells)} runs" in path.read_text().partition("output_dir")[0]
    assert len(values["seeds"]) >= 3 and "random" in {cell.curriculum for cell in cells}
    rewards = {cell.task: {cell.values["held_out_reward"]} for cell in cells}
    for cell in (cell for cell in cells if cell.seed == values["seeds"][0]):
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
