"""The programs of recipes/examples run as they are, in this process and on a tiny model."""

import json
import runpy
import sys
from pathlib import Path

import pytest
import torch
from trl import GRPOTrainer

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "recipes" / "examples"


@pytest.fixture
def run(tiny_model_path, tmp_path, monkeypatch):
    """Runs an example in an empty folder that has the repository's recipes; returns its names."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    monkeypatch.syspath_prepend(FOLDER)
    threads = torch.get_num_threads()

    def program(name):
        monkeypatch.setattr(sys, "argv", [name, tiny_model_path])
        return runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")

    yield program
    torch.set_num_threads(threads)


def test_examples_are_short_and_listed():
    table = (FOLDER / "README.md").read_text()
    programs = {path.name: len(path.read_text().splitlines()) for path in FOLDER.glob("*.py")}
    assert {name: lines for name, lines in programs.items() if lines >= 60} == {}
    assert sorted(programs) == sorted(name for name in programs if f"]({name})" in table)


def test_the_stock_script_is_stock_trl(run):
    names = run("trl_grpo")
    assert type(names["trainer"]) is GRPOTrainer and names["trainer"].state.global_step == 3
    assert "from edco_rl" not in (FOLDER / "trl_grpo.py").read_text()


def test_a_reward_of_ones_own(run):
    names = run("own_reward")
    assert names["right_number"](["31", "x", "so 8."], ["31", "7", "9"]) == [1.0, 0.0, 0.1]
    trainer = names["trainer"]
    assert trainer.state.global_step == 3 and "rewards/right_number/mean" in trainer.state.log_history[0]


def test_a_strategy_of_ones_own(run):
    strategy = run("own_strategy")["trainer"].curriculum.strategy
    assert type(strategy).__name__ == "NearTarget" and strategy.target == 0.4
    assert len(strategy.rewards) == 3, "a new prompt a step, as long as there are some"
    strategy.rewards = {name: float(index == 5) for index, name in enumerate(strategy.pool.ids)}
    strategy.target = 1.0
    assert strategy.select(1).tolist() == [5]
    state = strategy.state_dict()
    strategy.rewards = {}
    strategy.load_state_dict(state)
    assert strategy.rewards[strategy.pool.ids[5]] == 1.0


def test_a_trainer_of_ones_own(run):
    trainer = run("own_trainer")["trainer"]
    visits = trainer.curriculum.pool.visits
    assert trainer.state.global_step == visits.sum() == 4 and visits.max() == 1
    # Untrained, policy and reference agree: the chance of the preferred answer is a half.
    assert trainer.state.log_history[0]["loss"] == pytest.approx(0.6931, abs=0.01)


def test_scores_of_a_data_set(run, capsys):
    table = run("score_data_set")["table"]
    rows = [json.loads(line) for line in (FOLDER / "questions.jsonl").read_text().splitlines()]
    assert sorted(table["id"].to_pylist()) == sorted(row["id"] for row in rows)
    scores = table["score"].to_pylist()
    assert scores == sorted(scores, reverse=True) and scores[-1] > 0
    printed = capsys.readouterr().out.splitlines()[-5:]
    assert printed == [f"{row['score']:.3f}  {row['id']}" for row in table.slice(0, 5).to_pylist()]


def test_a_curriculum_in_plain_trl(run):
    names = run("curriculum_in_plain_trl")
    scores = names["rows"]["score"]
    assert list(scores) == sorted(names["score_of"].values()) and len(set(scores)) > 50
    assert list(names["trainer"]._get_train_sampler()) == list(range(60)), "TRL takes them in this order"
    assert names["trainer"].state.global_step == 3


def test_an_audit_from_python(run):
    found = run("audit_from_python")["found"]
    shares = [found["pool"][kind]["value"] for kind in ("mastered", "learnable", "hopeless")]
    assert sum(shares) == pytest.approx(1) and found["prompts"] == 16
    assert found["reference"]["samples"] == 8 and found["advice"]["strategy"]


def test_a_walk_through_a_run(run, tmp_path, tiny_model_path, monkeypatch):
    monkeypatch.setenv("MODEL", tiny_model_path)
    monkeypatch.setenv("STEPS", "3")
    names = run("walk_through_a_run")
    assert [line["step"] for line in names["trained"]] == [1, 2, 3] and names["scored"][0]["step"] == 0
    assert names["drawn"][-1] == names["summary"]["prompts_trained_on"] == 12
    plots = list((tmp_path / "runs" / "walk").glob("**/*.svg"))
    assert len(plots) == 5 and (tmp_path / "runs" / "walk" / "report" / "report.html").is_file()
