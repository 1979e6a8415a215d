"""`edco-rl train complexity-aware` as a whole, on a model of two layers and without an engine."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from edco_rl.cli import main
from edco_rl.config.complexity import Baseline

FOLDER = Path(__file__).parents[2] / "recipes"
BASELINES = list(Baseline.__args__)
ROWS = 24
HELD_OUT = 4


@pytest.fixture
def questions(tmp_path):
    """Multiple-choice questions in a local file; two have no explanation."""
    path = tmp_path / "questions.jsonl"
    rows = [
        {
            "id": f"q{i}",
            "question": f"Question {i}. Is it even?",
            "options": ["yes", "no"],
            "answer_index": i % 2,
            "explanation": "" if i in (3, 4) else f"{i} is {2 * (i // 2)} + {i % 2}.",
            "subject": "even" if i % 4 < 2 else "odd",
        }
        for i in range(ROWS)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def arguments(model, data, folder, recipe="communication", **changes):
    settings = {
        "model_name_or_path": model,
        "dataset_name": data,
        "output_dir": folder,
        "engine_mode": "none",
        "held_out_prompts": HELD_OUT,
        "max_steps": 1,
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 1,
        "warmup_steps": 0,
        "reasoning_tokens": 4,
        "answer_tokens": 2,
        "disable_tqdm": "true",
        "use_cpu": "true",
        **changes,
    }
    flags = [word for name, value in settings.items() if value != [] for word in (f"--{name}", *_words(value))]
    config = FOLDER / recipe / "complexity_aware.yaml"
    if changes.get("baselines") == []:
        text = yaml.safe_load(config.read_text()) | {"baselines": []}
        config = Path(folder).with_suffix(".yaml")
        config.write_text(yaml.safe_dump(text))
    return ["train", "complexity-aware", "--config", str(config), *flags]


def _words(value):
    return map(str, value) if isinstance(value, list) else [str(value)]


def run(*given, **changes):
    main(arguments(*given, **changes))


def manifests(folder):
    return {
        str(path.parent.relative_to(folder)): json.loads(path.read_text()) for path in folder.rglob("manifest.json")
    }


def begun(text):
    """Stages a run has begun or continued, from what it told."""
    return {line.rpartition(": ")[0] for line in text.splitlines() if line.endswith((": begun", ": continued"))}


def test_a_run_ends_with_the_table_of_all_methods_and_skips_what_has_not_changed(
    tiny_model_path, questions, tmp_path, capsys
):
    folder = tmp_path / "run"
    run(tiny_model_path, questions, folder)
    capsys.readouterr()
    found = json.loads((folder / "table.json").read_text())
    methods = {entry["method"]: entry for entry in found["methods"]}
    assert list(methods) == ["untrained", "complexity_aware", *BASELINES]
    count = ROWS - HELD_OUT
    assert found["rows"] == count and sum(part["rows"] for part in found["split"].values()) == count
    hard = found["split"]["hard"]["rows"]
    for method, asked in {"complexity_aware": hard, "random_split": hard, "distillation": count}.items():
        teacher, rows = methods[method]["teacher"], methods[method]["rows"]
        assert sum(teacher["rows"].values()) == asked and teacher["answer_tokens"] > 0
        assert rows["reasoning"] == teacher["rows"]["right"] and rows["instead"] == teacher["rows"]["failed"]
        assert methods[method]["reasoning_share"] == pytest.approx(rows["reasoning"] / count)
        chains = pq.read_table(folder / "reasoning" / method / "reasoning.parquet").to_pylist()
        assert sum(chain["answer_tokens"] for chain in chains) == teacher["answer_tokens"]
    assert methods["sft"]["teacher"] is None and methods["sft"]["reasoning_share"] == 0
    for entry in found["methods"][1:]:
        assert entry["training"]["steps"] == 1 and entry["training"]["tokens"] > 40
        assert entry["evaluation"]["reasoning"]["prompts"] == HELD_OUT
    table = list(csv.DictReader((folder / "table.csv").open()))
    assert [row["method"] for row in table] == list(methods)
    assert float(table[3]["accuracy_direct"]) == methods["distillation"]["evaluation"]["direct"]["accuracy"]
    assert (folder / "table.md").read_text().count("\n") == len(methods) + 2
    assert (folder / "complexity.svg").read_text().lstrip().startswith("<?xml")

    run(tiny_model_path, questions, folder)
    assert begun(capsys.readouterr().err) == set()
    assert json.loads((folder / "table.json").read_text()) == found

    # Another learning rate: the model and its evaluation are made anew, and nothing that comes before.
    run(tiny_model_path, questions, folder, baselines=[], learning_rate=0.01)
    assert begun(capsys.readouterr().err) == {"model/complexity_aware", "evaluation/complexity_aware"}


def test_stages_can_be_run_one_after_the_other_and_replaced(tiny_model_path, questions, tmp_path, capsys):
    folder = tmp_path / "run"
    run(tiny_model_path, questions, folder, baselines=[], last_stage="split")
    assert "Does complexity predict a wrong answer?" in capsys.readouterr().err
    assert set(manifests(folder)) == {"scores", "prediction", "split"}
    own = tmp_path / "own.parquet"
    table = pq.read_table(folder / "split" / "split.parquet")
    own_classes = [2 if identifier == "q5" else 0 for identifier in table["id"].to_pylist()]
    pq.write_table(table.set_column(table.column_names.index("class"), "class", [own_classes]), own)
    replaced = {"replace_artefacts": json.dumps({"split": str(own)})}
    run(tiny_model_path, questions, folder, baselines=[], last_stage="training_data", **replaced)
    rows = pq.read_table(folder / "training_data" / "complexity_aware" / "rows.parquet").to_pylist()
    if "q5" in {row["id"] for row in rows}:
        assert [row["id"] for row in rows if row["reasoning"]] == ["q5"]
    assert "model/complexity_aware" not in manifests(folder)


@pytest.mark.parametrize("recipe", ["law", "medicine"])
def test_the_other_recipes_run_on_a_local_file_up_to_training(tiny_model_path, questions, tmp_path, recipe):
    settings = {"teacher": "column", "teacher_model": "none"} if recipe == "law" else {}
    run(tiny_model_path, questions, tmp_path / "run", recipe, last_stage="training_data", **settings)
    done = {name for name, manifest in manifests(tmp_path / "run").items() if manifest["complete"]}
    assert {f"training_data/{method}" for method in ["complexity_aware", *BASELINES]} < done


def test_a_killed_run_goes_on_and_no_call_is_paid_twice(tiny_model_path, questions, tmp_path, scripted_teacher):
    teacher = scripted_teacher({7: ["wrong"], 8: ["empty"]})
    folder = tmp_path / "run"
    with teacher.serve() as url:
        settings = {"teacher": "endpoint", "teacher_url": url, "teacher_model": "m", "teacher_concurrency": 1}
        settings |= {"baselines": ["distillation"], "last_stage": "reasoning"}
        command = arguments(tiny_model_path, questions, folder, **settings)
        process = subprocess.Popen(
            [sys.executable, "-m", "edco_rl", *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

        def kill(question):
            if len(teacher.requests) == 10:
                os.kill(process.pid, signal.SIGKILL)

        teacher.before_answer = kill
        assert process.wait(timeout=120) == -signal.SIGKILL
        teacher.before_answer = lambda question: None
        answered = [question for question, _, _ in teacher.requests[:9]]
        assert len(teacher.requests) == 10 and manifests(folder)["scores"]["complete"]
        main(command)
        # Those that were answered are not asked again; the one in flight was not answered.
        assert not set(answered) & {question for question, _, _ in teacher.requests[10:]}
        done, count = manifests(folder), ROWS - HELD_OUT
        rows = done["reasoning/distillation"]["results"]["rows"]
        assert sum(rows.values()) == count and rows["pending"] == 0
        assert len(teacher.requests) == count + 1  # each once, and the one the kill left unanswered
        shutil.rmtree(folder / "reasoning")
        main(command)
        assert len(teacher.requests) == count + 1
        again = manifests(folder)
        assert {name: stage["files"] for name, stage in again.items()} == {
            name: stage["files"] for name, stage in done.items()
        }


def test_an_interrupted_training_goes_on_from_its_last_checkpoint(
    tiny_model_path, questions, tmp_path, monkeypatch, capsys
):
    settings = {"baselines": [], "last_stage": "model", "max_steps": 2, "save_steps": 1, "training_order": "stages"}
    run(tiny_model_path, questions, tmp_path / "whole", **settings)

    with monkeypatch.context() as patch:
        patch.setattr("edco_rl.trainers.CurriculumSFTTrainer.save_model", _save_until(1))
        with pytest.raises(SystemExit) as error:
            run(tiny_model_path, questions, tmp_path / "part", **settings)
    assert error.value.code == 130
    (tmp_path / "part" / "model" / "complexity_aware" / "checkpoint-2").mkdir()  # one the end came in the middle of
    capsys.readouterr()
    run(tiny_model_path, questions, tmp_path / "part", **settings)
    assert begun(capsys.readouterr().err) == {"model/complexity_aware"}
    whole, part = (manifests(tmp_path / name)["model/complexity_aware"] for name in ("whole", "part"))
    assert part["files"] == whole["files"] and (part["attempts"], whole["attempts"]) == (2, 1)
    assert part["results"]["tokens"] == whole["results"]["tokens"] and part["results"]["steps"] == 2


def _save_until(step):
    """TRL's `save_model`, interrupted when it is called after this optimizer step."""
    from edco_rl import CurriculumSFTTrainer

    save = CurriculumSFTTrainer.save_model

    def save_model(trainer, *arguments, **settings):
        if trainer.state.global_step > step:
            raise KeyboardInterrupt
        save(trainer, *arguments, **settings)

    return save_model


def test_a_used_up_budget_ends_the_run_before_training_and_a_larger_one_goes_on(
    tiny_model_path, questions, tmp_path, scripted_teacher, capsys
):
    teacher = scripted_teacher()
    folder = tmp_path / "run"
    with teacher.serve() as url:
        settings = {"teacher": "endpoint", "teacher_url": url, "teacher_model": "m", "teacher_answer_tokens": 20}
        settings |= {"baselines": [], "last_stage": "training_data"}
        with pytest.raises(SystemExit) as error:
            run(tiny_model_path, questions, folder, **settings, teacher_token_budget=400)
        message = capsys.readouterr().err
        assert error.value.code == 1 and "the budget is used up" in message and "are pending" in message
        assert "Traceback" not in message and not (folder / "training_data").exists()
        chains = pq.read_table(folder / "reasoning" / "complexity_aware" / "reasoning.parquet").to_pylist()
        paid = [chain for chain in chains if chain["status"] == "right"]
        assert 0 < len(paid) < len(chains) and {chain["status"] for chain in chains} == {"right", "pending"}

        run(tiny_model_path, questions, folder, **settings, teacher_token_budget=400, pending_reasoning="drop")
        rows = pq.read_table(folder / "training_data" / "complexity_aware" / "rows.parquet")
        assert len(rows) == ROWS - HELD_OUT - (len(chains) - len(paid))
        run(tiny_model_path, questions, folder, **settings)
        assert set(teacher.paid.values()) == {1} and len(teacher.requests) == len(chains)

        # A refusal ends the run, whatever is to become of pending rows.
        teacher.script = {i: [403] for i in range(ROWS)}
        with pytest.raises(SystemExit):
            run(tiny_model_path, questions, folder, **settings, pending_reasoning="drop", teacher_temperature=0.5)
        assert "answers HTTP 403" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"held_out_prompts": 0}, "held_out_prompts is 0"),
        ({"teacher_column": "why"}, "teacher_column 'why' is none of the data set's"),
        ({"max_length": 16}, "and max_length 16 would cut off its answer"),
        ({"teacher": "server", "teacher_model": "/nowhere/model"}, "teacher_model '/nowhere/model' is not a model"),
        ({"replace_artefacts": '{"lunch": "x"}'}, "replace_artefacts: this run has no 'lunch'"),
        (
            {"teacher": "endpoint", "teacher_model": "m", "teacher_url": "https://e/v1", "teacher_key_variable": "NO"},
            "teacher_key_variable NO: the environment has no such variable",
        ),
    ],
)
def test_wrong_settings_end_with_one_message(tiny_model_path, questions, tmp_path, capsys, changes, message):
    with pytest.raises(SystemExit) as error:
        run(tiny_model_path, questions, tmp_path / "run", baselines=[], **changes)
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.value.code == 2 and last.startswith("edco-rl: error: ") and message in last
