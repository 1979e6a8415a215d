"""What the documentation shows is run as it stands there."""

import json
import re
import sys
from pathlib import Path

import yaml

from edco_rl.cli import main

EXTENDING = Path(__file__).parents[1] / "docs" / "extending.md"


def code_of(section):
    text = EXTENDING.read_text().partition(f"\n## {section}\n")[2]
    return re.search(r"```python\n(.*?)```", text, re.DOTALL).group(1)


def test_the_strategy_and_the_gate_shown_train_and_resume(tiny_model_path, tmp_path, monkeypatch):
    code = code_of("A strategy and a gate of your own")
    (tmp_path / "my_curriculum.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_curriculum", raising=False)
    settings = {
        "model_name_or_path": tiny_model_path,
        "dataset_name": "reasoning_gym:chain_sum",
        "train_prompts": 20,
        "held_out_prompts": 0,
        "output_dir": str(tmp_path / "run"),
        "report_to": "none",
        "max_steps": 4,
        "save_steps": 2,
        "per_device_train_batch_size": 4,
        "num_generations": 2,
        "max_completion_length": 2,
        "gradient_checkpointing": False,
        "reward_funcs": ["math"],
        "engine_mode": "none",
        "strategy": "my_curriculum:WorstFirst",
        "gates": ["my_curriculum:NotSolved"],
        "disable_tqdm": True,
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(settings))
    train = ["train", "grpo", "--config", str(tmp_path / "recipe.yaml")]
    main(train)
    whole = json.loads((tmp_path / "run" / "curriculum.json").read_text())
    assert len(whole["curriculum"]["strategy_state"]["rewards"]) == 8  # every prompt once, the unseen ones first
    main([*train, "--resume_from_checkpoint", str(tmp_path / "run" / "checkpoint-2")])
    assert json.loads((tmp_path / "run" / "curriculum.json").read_text()) == whole
    for definition in re.split(r"\n\n\n", code)[1:]:
        assert len([line for line in definition.splitlines() if line.strip()]) < 20
