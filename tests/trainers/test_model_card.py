"""The model card that a run leaves, read as the hub reads it."""

import json

import yaml
from huggingface_hub import ModelCard

from edco_rl.cli import main


def test_a_run_leaves_a_card_with_curriculum_versions_table_and_citation(tmp_path, tiny_model_path):
    recipe = {
        "model_name_or_path": tiny_model_path,
        "dataset_name": "reasoning_gym:chain_sum",
        "train_prompts": 12,
        "held_out_prompts": 3,
        "output_dir": str(tmp_path / "run"),
        "report_to": "none",
        "max_steps": 2,
        "save_steps": 1,
        "per_device_train_batch_size": 4,
        "gradient_checkpointing": False,
        "engine_mode": "none",
        "strategy": "mopps",
        "curriculum_interval": 2,
        "curriculum_exploration": 0.25,
        "disable_tqdm": True,
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    main(["train", "sft", "--config", str(path)])
    card = ModelCard.load(tmp_path / "run" / "README.md")
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert {"trl", "edco-rl", "sft"} <= set(card.data.tags)
    for line in (
        "Prompts were chosen by the strategy `mopps` of edco_rl.",
        "| prompts in the pool | `12` |",
        "| curriculum_interval | `2` |",
        "| curriculum_exploration | `0.25` |",
        "| data | `reasoning_gym:chain_sum` |",
        f"| accuracy after training, 3 held-out prompts, greedy | {summary['accuracy_after']:.3f} |",
        f"- edco_rl: {summary['versions']['edco-rl']}",
        f"- TRL: {summary['versions']['trl']}",
        "@software{edco_rl,",
        "@software{vonwerra2020trl,",
    ):
        assert card.text.count(line) == 1, line
    assert "huggingface.co/datasets" not in card.text
    checkpoint = next((tmp_path / "run").glob("checkpoint-*"))
    assert checkpoint.is_dir()
