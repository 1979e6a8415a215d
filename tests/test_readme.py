"""What the documentation shows is run as it stands there."""

import json
import re
import sys
from pathlib import Path

import yaml

from edco_rl import CurriculumGRPOTrainer
from edco_rl.cli import main

ROOT = Path(__file__).parents[1]
EXTENDING = ROOT / "docs" / "extending.md"


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


def test_three_lines_give_a_stock_trl_script_a_curriculum(tiny_model_path, tmp_path, monkeypatch):
    """The diff is applied as it is printed, and what comes of it trains; engines are for tests/e2e."""
    [diff] = re.findall(r"```diff\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    header, *hunks = re.split(r"^@@ .* @@\n", diff, flags=re.MULTILINE)
    code = (ROOT / re.match(r"--- (\S+)\n\+\+\+ \S+\n$", header)[1]).read_text()
    for hunk in hunks:
        lines = hunk.splitlines(keepends=True)
        before, after = ("".join(line[1:] for line in lines if line[0] != other) for other in "+-")
        assert code.count(before) == 1
        code = code.replace(before, after)
    assert len(re.findall(r"^\+ ?\w|^\+    ", diff, re.MULTILINE)) == 3
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["trl_grpo.py", tiny_model_path])
    names = {}
    exec(code, names)
    trainer = names["trainer"]
    assert isinstance(trainer, CurriculumGRPOTrainer) and trainer.state.global_step == 3
    assert trainer.tokens["scored"] > 256 and trainer.curriculum.pool.visits.sum() == 3, (
        "each of 256 prompts is scored"
    )
