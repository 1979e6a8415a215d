"""The recipes of complexity-aware fine-tuning as its authors ran it, small, on rows in MMLU-Pro's layout."""

import json

import pyarrow.parquet as pq
import pytest
import yaml

from edco_rl.cli import main
from edco_rl.complexity.baselines import METHOD
from edco_rl.config.complexity import Baseline
from edco_rl.data.load import load_prompts
from edco_rl.data.prompts import with_instruction
from edco_rl.runs.recorder import read_records

from ..test_recipes import FOLDER
from .conftest import save_numbers_model

RECIPES = sorted((FOLDER / "mmlu_pro").glob("*.yaml"))
ROWS, HELD_OUT, EACH = 120, 10, 4
WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]


@pytest.fixture
def questions(tmp_path):
    """Own questions in the columns of TIGER-Lab/MMLU-Pro, with three to ten options."""
    rows = [
        {
            "question_id": 70 + i,
            "question": f"Question {i}. Which is it?",
            "options": [f"the {word}" for word in WORDS[: 3 + i % 8]],
            "answer": "ABC"[i % 3],
            "answer_index": i % 3,
            "cot_content": "",
            "category": ["physics", "law"][i % 2],
            "src": "own",
        }
        for i in range(ROWS)
    ]
    path = tmp_path / "questions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(recipe, model, data, folder, **changes):
    """A recipe, small, on a model that gives a number for most of the questions."""
    settings = yaml.safe_load(recipe.read_text())
    rows, _ = load_prompts(str(data), option_labels=settings["option_labels"], system_prompt=settings["system_prompt"])
    quick = settings["scoring_quick_answer_instruction"]
    model = save_numbers_model(
        model, folder.with_name("model"), [with_instruction(row, quick) for row in rows["prompt"]]
    )
    settings |= {
        "model_name_or_path": model,
        "dataset_name": str(data),
        "output_dir": str(folder),
        "engine_mode": "none",
        "held_out_prompts": HELD_OUT,
        "split_rows_per_class": EACH,
        "teacher_model": "m",
        "strategy_kwargs": {"stage_passes": 3},
        "num_train_epochs": 3,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 1,
        "reasoning_max_tokens": 6,
        "answer_max_tokens": 2,
        "complexity_baselines": [],
        "logging_steps": 1,
        "save_strategy": "no",
        "disable_tqdm": True,
        "use_cpu": True,
    }
    path = folder.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(settings | changes))
    main(["train", "complexity-aware", "--config", str(path)])
    return pq.read_table(folder / "scores.parquet").to_pylist(), pq.read_table(folder / "split.parquet").to_pylist()


@pytest.mark.parametrize("recipe", RECIPES[:1], ids=lambda path: path.stem)  # they differ by the model
def test_answers_of_easy_and_medium_rows_come_first_and_then_chains_of_hard_ones(
    tiny_model_path, questions, tmp_path, scripted_teacher, recipe
):
    # Right texts and wrong ones, both of which are trained on; one that is empty.
    said = {i: [f"say So it is. [[{(i + i % 2) % 3 + 1}]]"] for i in range(ROWS)}
    teacher = scripted_teacher(said)
    folder = tmp_path / "run"
    with teacher.serve() as url:
        scores, split = run(recipe, tiny_model_path, questions, folder, teacher_url=url)
    assert len(scores) == ROWS - HELD_OUT
    status = {row["id"]: row["status"] for row in scores}
    assert {"answered", "invalid", "unknown"} == set(status.values())

    # Quantiles of the answered rows, of which so many of each class are drawn.
    answered = sorted(row["score"] for row in scores if row["status"] == "answered")
    low, high = (answered[round(len(answered) * share + 1e-9)] for share in (0.25, 0.75))
    for row in split:
        assert (row["name"] in ("easy", "medium", "hard", "not drawn")) == (status[row["id"]] == "answered")
        assert row["name"] != "easy" or row["score"] <= low
        assert row["name"] != "hard" or row["score"] >= high
    classes = [row["class"] for row in split if row["class"] >= 0]
    assert sorted(classes) == [0] * EACH + [1] * EACH + [2] * EACH

    rows = pq.read_table(folder / f"training_data/{METHOD}.parquet").to_pylist()
    hard = {row["id"] for row in rows if row["stage"] == 2}
    assert {row["id"] for row in rows if row["reasoning"]} == hard and len(rows) == 3 * EACH
    chains = pq.read_table(folder / f"reasoning/{METHOD}.parquet").to_pylist()
    assert {chain["status"] for chain in chains} <= {"right", "wrong"} and {chain["id"] for chain in chains} == hard
    for row in rows:
        answer = row["completion"][0]["content"]
        assert answer.startswith("So it is. [[") if row["reasoning"] else answer in ("1", "2", "3")
        assert row["prompt"][0]["role"] == "system" and "\n1. the one\n2. the two\n" in row["prompt"][1]["content"]

    steps = [line["prompts"] for line in read_records(folder / "records.jsonl") if line["kind"] == "step"]
    drawn = [[rows[place]["id"] for place in step] for step in steps]
    assert len(drawn) == 3 * EACH * 3 // 2
    for first, count, wanted in ((0, 2 * EACH, {row["id"] for row in rows} - hard), (3 * EACH, EACH, hard)):
        for one in range(3):
            passed = drawn[first + one * count // 2 : first + (one + 1) * count // 2]
            assert sorted(prompt for step in passed for prompt in step) == sorted(wanted)

    summary = json.loads((folder / "summary.json").read_text())
    assert summary["steps"] == len(steps) and summary["accuracy_after"] is not None
    prediction = json.loads((folder / "prediction.json").read_text())["value"]
    kept = [row for row in scores if row["status"] == "answered"]
    assert prediction["groups"]["all"]["rows"] == len(kept)
    assert prediction["groups"]["all"]["accuracy"] == pytest.approx(sum(row["right"] for row in kept) / len(kept))
    assert {"chain_answer", "chain_max", "chain_mean", "chain_mean_of_sentence_max"} < set(prediction["rivals"])


def test_the_two_recipes_differ_by_their_model_alone():
    qwen, phi = (yaml.safe_load(path.read_text()) for path in reversed(RECIPES))
    assert qwen["model_name_or_path"] == "Qwen/Qwen2.5-3B-Instruct"
    differing = {name for name in qwen | phi if qwen.get(name) != phi.get(name)}
    expected = {"model_name_or_path", "output_dir", "per_device_train_batch_size", "reasoning_max_tokens"}
    assert differing == expected | {"engine_max_model_len"}
    for recipe in (qwen, phi):
        # Ten passes over the rows, each ten times in its phase.
        assert recipe["num_train_epochs"] == recipe["strategy_kwargs"]["stage_passes"] == 10
        assert (recipe["split_points"], recipe["split_rows_per_class"]) == ([0.25, 0.75], 1000)
        assert not recipe.get("use_peft") and recipe["learning_rate"] == 1e-5
        assert recipe["complexity_baselines"] == list(Baseline.__args__)


def test_too_few_rows_of_a_class_end_the_run_before_the_teacher_is_asked(
    tiny_model_path, questions, tmp_path, scripted_teacher, capsys
):
    teacher = scripted_teacher()
    with teacher.serve() as url, pytest.raises(SystemExit):
        changes = {"split_rows_per_class": 1000, "complexity_rivals": []}
        run(RECIPES[0], tiny_model_path, questions, tmp_path / "run", teacher_url=url, **changes)
    assert "split_rows_per_class is 1000, and class easy has" in capsys.readouterr().err and not teacher.requests
