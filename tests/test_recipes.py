"""Every recipe: what it says without running it; tests/e2e/test_recipes.py runs them."""

from pathlib import Path

import pytest
import yaml

from edco_rl.curriculum import available_strategies
from edco_rl.data.hub import HUB_DATASETS
from edco_rl.rewards import get_rewards

FOLDER = Path(__file__).parents[1] / "recipes"
DOMAINS = ("communication", "law", "medicine")
RECIPES = sorted(path for domain in (*DOMAINS, "quickstart") for path in (FOLDER / domain).glob("*.yaml"))
# What may differ between a curriculum and its baseline.
CURRICULUM = {"strategy", "interval", "size", "candidates", "prefix_tokens", "quick_answer", "output_dir"}


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
    if path.parent.name in DOMAINS:
        assert settings["dataset_name"].lower() in HUB_DATASETS
        assert settings["model_name_or_path"] in ("Qwen/Qwen3-4B", "meta-llama/Llama-3.2-3B-Instruct")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_recipe_differs_from_its_baseline_in_the_curriculum_only(path):
    baseline = path.with_name(path.name.replace("edco", "random"))
    if not baseline.is_file():
        pytest.skip(f"{path.stem} has no baseline")
    edco, random = read(path), read(baseline)
    assert {k: v for k, v in edco.items() if k not in CURRICULUM} == {
        k: v for k, v in random.items() if k not in CURRICULUM
    }
    assert random["strategy"] == "random"
