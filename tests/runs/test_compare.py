"""A run with another curriculum beside it, as the command does it, without an engine."""

import json
from pathlib import Path

import numpy as np
import pytest

from edco_rl.cli import main
from edco_rl.runs.recorder import decode
from edco_rl.runs.shared_server import SharedServer


def train(tiny_model_path, folder, **settings):
    rows = folder / "rows.jsonl"
    rows.write_text("".join(json.dumps({"prompt": f"{i} + 1 =", "answer": str(i + 1)}) + "\n" for i in range(30)))
    fixed = {"max_steps": 2, "bf16": False, "use_cpu": True, "report_to": "none", "held_out_prompts": 4}
    fixed |= {
        "per_device_train_batch_size": 4,
        "num_generations": 2,
        "max_completion_length": 3,
        "save_strategy": "no",
    }
    fixed |= {"gradient_checkpointing": False, "engine_mode": "none", "reward_funcs": "math", "logging_steps": 1}
    fixed |= {"strategy": "learning_edge", "gates": "equal_rewards", "scoring_prefix_tokens": 2, "held_out_every": 1}
    words = ["train", "grpo", "--model_name_or_path", tiny_model_path, "--dataset_name", str(rows)]
    for name, value in {"output_dir": folder / "run", **fixed, **settings}.items():
        words += [f"--{name}", str(value)] if value is not None else []
    main(words)
    return folder / "run"


@pytest.fixture
def sampled(tmp_path, monkeypatch):
    """Settings for five sampled answers to each held-out prompt; what they earn goes to `judged.jsonl`."""
    (tmp_path / "even.py").write_text(
        "import json, pathlib\n"
        "def judge(completions, **kwargs):\n"
        "    rewards = [float(len(text) % 2 == 0) for text in completions]\n"
        "    with pathlib.Path('judged.jsonl').open('a') as file:\n"
        "        file.write(json.dumps(rewards) + '\\n')\n"
        "    return rewards\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return {"held_out_reward": "even:judge", "held_out_samples": 5, "held_out_temperature": 1.0}


def test_the_other_run_begins_alike_and_stands_in_the_summary(tiny_model_path, tmp_path, sampled, capsys):
    folder = train(tiny_model_path, tmp_path, compare_with="random", **sampled)
    assert len(Path("judged.jsonl").read_text().splitlines()) == 5  # the start is measured once
    both = json.loads((folder / "summary.json").read_text())
    other = json.loads((folder / "random" / "summary.json").read_text())
    assert other["accuracy_before"] == both["accuracy_before"] and other["steps"] == both["steps"] == 2
    for key, value in both["random"].items():
        assert value == other[key]
    assert {"accuracy_after", "groups_with_signal", "tokens", "seconds"} <= both["random"].keys()
    assert both["config"]["curriculum"]["strategy"] == "learning_edge" and both["outlook"] is not None
    config = other["config"]["curriculum"]
    assert (config["strategy"], config["gates"], other["outlook"]) == ("random", None, None)
    assert "learning_edge" in (printed := capsys.readouterr().out) and "groups with a signal" in printed
    # Alone it is the same run.
    (tmp_path / "alone").mkdir()
    alone = train(tiny_model_path, tmp_path / "alone", strategy="random", gates=None)
    drawn = [
        [line["prompts"] for line in map(json.loads, (one / "records.jsonl").open()) if line["kind"] == "step"]
        for one in (alone, folder / "random")
    ]
    assert drawn[0] == drawn[1]


def test_nothing_to_compare_is_refused(tiny_model_path, tmp_path, capsys):
    with pytest.raises(SystemExit):
        train(tiny_model_path, tmp_path, strategy="random", gates=None, compare_with="random")
    assert "compare_with is 'random', and so is the strategy" in capsys.readouterr().err


def test_the_server_of_both_gets_a_model_of_the_home_folder(tiny_model_path, tmp_path, capsys, monkeypatch):
    """As a recipe names it; a server is asked whether it serves that very path, and no shell has expanded it."""
    path = Path(tiny_model_path)
    monkeypatch.setenv("HOME", str(path.parent))
    asked = []
    monkeypatch.setattr(SharedServer, "prepare", lambda self, settings, everyone: asked.append(settings) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train(f"~/{path.name}", tmp_path, compare_with="random")
    assert asked[0].model.model_name_or_path == tiny_model_path


def test_of_several_answers_to_a_held_out_prompt_the_mean_is_measured(tiny_model_path, tmp_path, sampled, capsys):
    folder = train(tiny_model_path, tmp_path, **sampled)
    calls = [json.loads(line) for line in Path("judged.jsonl").read_text().splitlines()]
    judged = np.array(calls).reshape(3, 4, 5)  # measured three times, 4 prompts
    lines = [line for line in map(json.loads, (folder / "records.jsonl").open()) if line["kind"] == "evaluation"]
    assert [decode(line).tolist() for line in lines] == judged.mean(axis=2).tolist()
    assert len(set(judged.mean(axis=2).ravel().tolist()) - {0.0, 1.0}) > 0
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["accuracy_after"] == pytest.approx(judged[-1].mean())
    assert "mean of 5 at temperature 1" in " ".join(capsys.readouterr().out.split())


def test_several_greedy_answers_are_refused(tiny_model_path, tmp_path, capsys):
    with pytest.raises(SystemExit):
        train(tiny_model_path, tmp_path, held_out_samples=5)
    assert "held_out_samples is 5 but held_out_temperature is 0" in capsys.readouterr().err
