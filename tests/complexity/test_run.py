"""`edco-rl train complexity-aware` as a whole, on a model of two layers and without an engine."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from transformers import AutoTokenizer

from edco_rl import CurriculumSFTTrainer
from edco_rl.cli import main
from edco_rl.complexity.baselines import METHOD
from edco_rl.config.complexity import Baseline
from edco_rl.report.load import load as load_runs
from edco_rl.runs.recorder import read_records
from edco_rl.store import load

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
        "reasoning_max_tokens": 4,
        "answer_max_tokens": 2,
        "disable_tqdm": "true",
        "use_cpu": "true",
        **changes,
    }
    flags = [word for name, value in settings.items() if value != [] for word in (f"--{name}", *_words(value))]
    config = FOLDER / recipe / "complexity_aware.yaml"
    if changes.get("complexity_baselines") == []:
        text = yaml.safe_load(config.read_text()) | {"complexity_baselines": []}
        config = Path(folder).with_suffix(".yaml")
        config.write_text(yaml.safe_dump(text))
    return ["train", "complexity-aware", "--config", str(config), *flags]


def _words(value):
    return map(str, value) if isinstance(value, list) else [str(value)]


def run(*given, **changes):
    main(arguments(*given, **changes))


def kept(folder):
    """Artefacts in a run's folder that are tables of stages, by their names."""
    paths = [path for path in folder.rglob("*.parquet") if "parts" not in str(path)]
    return {str(path.relative_to(folder).with_suffix("")): load(path) for path in paths}


def begun(text):
    """What a run has begun or continued, from what it told."""
    return {line.partition(": ")[0] for line in text.splitlines() if ": begun" in line or ": continued" in line}


def columns(folder, name):
    return pq.read_table(folder / f"{name}.parquet").to_pylist()


def test_a_run_ends_with_the_table_of_all_methods_and_repeats_nothing_that_has_not_changed(
    tiny_model_path, questions, tmp_path, capsys
):
    folder = tmp_path / "run"
    run(tiny_model_path, questions, folder)
    capsys.readouterr()
    found = json.loads((folder / "table.json").read_text())
    methods = {entry["method"]: entry for entry in found["methods"]}
    assert list(methods) == ["untrained", METHOD, *BASELINES]
    count = ROWS - HELD_OUT
    assert found["rows"] == count and sum(part["rows"] for part in found["split"].values()) == count
    hard = found["split"]["hard"]["rows"]
    for method, asked in {METHOD: hard, "random_split": hard, "distillation": count}.items():
        teacher, rows = methods[method]["teacher"], methods[method]["rows"]
        assert sum(teacher["rows"].values()) == asked and teacher["answer_tokens"] > 0
        assert rows["reasoning"] == teacher["rows"]["right"] and rows["instead"] == teacher["rows"]["failed"]
        assert methods[method]["reasoning_share"] == pytest.approx(rows["reasoning"] / count)
        chains = columns(folder, f"reasoning/{method}")
        assert sum(chain["answer_tokens"] for chain in chains) == teacher["answer_tokens"]
    assert methods["sft"]["teacher"] is None and methods["sft"]["reasoning_share"] == 0
    for entry in found["methods"][1:]:
        assert entry["training"]["steps"] == 1 and entry["training"]["tokens"] > 40
        assert entry["evaluation"]["reasoning"]["prompts"] == HELD_OUT
    # By class: after reasoning where a held-out question is as complex as the hard class.
    hard = {
        row["id"] for row in columns(folder, "held_out_scores") if row["score"] >= found["split"]["hard"]["lowest"]
    }
    for method, entry in methods.items():
        answers = columns(folder, f"evaluation/{method}")
        chosen = [row["right"] for row in answers if (row["form"] == "reasoning") == (row["id"] in hard)]
        assert len(chosen) == entry["evaluation"]["by_class"]["prompts"] == HELD_OUT
        assert entry["evaluation"]["by_class"]["accuracy"] == pytest.approx(np.mean(chosen))
    table = list(csv.DictReader((folder / "table.csv").open()))
    assert [row["method"] for row in table] == list(methods)
    assert float(table[3]["accuracy_direct"]) == methods["distillation"]["evaluation"]["direct"]["accuracy"]
    assert (folder / "table.md").read_text().count("\n") == len(methods) + 2
    assert (folder / "complexity.svg").read_text().lstrip().startswith("<?xml")

    # The method and each baseline left a run that a report can be made of, with what its rows have cost.
    runs = {METHOD: folder, **{name: folder / "baselines" / name for name in BASELINES}}
    loaded = {Path(run.folder): run for run in load_runs(list(map(str, runs.values()))).runs}
    for method, path in runs.items():
        one, teacher = loaded[path], methods[method]["teacher"] or {"prompt_tokens": 0, "answer_tokens": 0}
        assert one.status == "done" and one.method == (METHOD if method == METHOD else f"{METHOD}/{method}")
        assert one.curriculum == ("easy_to_hard" if method == "curriculum" else "random")
        tokens, seconds = one.summary["tokens"], one.summary["seconds"]
        assert tokens["trained"] == methods[method]["training"]["tokens"]
        assert tokens.get("teacher", 0) == teacher["prompt_tokens"] + teacher["answer_tokens"]
        assert tokens.get("scored", 0) == (count if method in (METHOD, "curriculum") else 0)
        assert (seconds["teacher"] > 0) == (teacher["answer_tokens"] > 0)
        assert seconds["training"] > seconds["teacher"] + seconds["scoring"]
        assert len(one.learning().right[0]) == HELD_OUT

    run(tiny_model_path, questions, folder)
    assert begun(capsys.readouterr().err) == set()
    assert json.loads((folder / "table.json").read_text()) == found

    # Another learning rate: the model and its evaluation are made anew, and nothing that comes before.
    settings = {"complexity_baselines": [], "complexity_last_stage": "evaluation"}
    run(tiny_model_path, questions, folder, **settings, learning_rate=0.01)
    assert begun(capsys.readouterr().err) == {f"model/{METHOD}", f"evaluation/{METHOD}"}
    assert json.loads((folder / "summary.json").read_text())["config"]["training"]["learning_rate"] == 0.01

    # Without baselines nothing is compared: the run ends with the model.
    run(tiny_model_path, questions, tmp_path / "alone", complexity_baselines=[])
    assert (tmp_path / "alone" / "summary.json").is_file() and not (tmp_path / "alone" / "evaluation").exists()


def test_stages_can_be_run_one_after_the_other_and_replaced(tiny_model_path, questions, tmp_path, capsys):
    folder = tmp_path / "run"
    run(tiny_model_path, questions, folder, complexity_baselines=[], complexity_last_stage="split")
    assert "Does complexity predict a wrong answer?" in capsys.readouterr().err
    assert set(kept(folder)) == {"scores", "split"} and (folder / "prediction.json").is_file()
    own = tmp_path / "own.parquet"
    table = pq.read_table(folder / "split.parquet")
    own_classes = [2 if identifier == "q5" else 0 for identifier in table["id"].to_pylist()]
    pq.write_table(table.set_column(table.column_names.index("class"), "class", [own_classes]), own)
    replaced = {"complexity_replace_artefacts": json.dumps({"split": str(own)})}
    settings = {"complexity_baselines": [], "complexity_last_stage": "training_data"}
    run(tiny_model_path, questions, folder, **settings, **replaced)
    rows = columns(folder, f"training_data/{METHOD}")
    if "q5" in {row["id"] for row in rows}:
        assert [row["id"] for row in rows if row["reasoning"]] == ["q5"]
    assert not (folder / "training.json").exists()

    pq.write_table(table.set_column(table.column_names.index("class"), "class", [[3] * len(table)]), own)
    with pytest.raises(SystemExit):
        run(tiny_model_path, questions, folder, **settings, **replaced)
    assert f"{own}: classes must be 0 to 2, or -1 for rows left out; got 3 to 3" in capsys.readouterr().err


@pytest.mark.parametrize("recipe", ["law", "medicine"])
def test_the_other_recipes_run_on_a_local_file_up_to_training(tiny_model_path, questions, tmp_path, recipe):
    settings = {"teacher": "column", "teacher_model": "none"} if recipe == "law" else {}
    run(tiny_model_path, questions, tmp_path / "run", recipe, complexity_last_stage="training_data", **settings)
    assert {f"training_data/{method}" for method in [METHOD, *BASELINES]} < set(kept(tmp_path / "run"))


def test_a_killed_run_goes_on_and_no_call_is_paid_twice(tiny_model_path, questions, tmp_path, scripted_teacher):
    teacher = scripted_teacher({7: ["wrong"], 8: ["empty"]})
    folder = tmp_path / "run"
    with teacher.serve() as url:
        settings = {"teacher": "endpoint", "teacher_url": url, "teacher_model": "m", "teacher_concurrency": 1}
        settings |= {"complexity_baselines": ["distillation"], "complexity_last_stage": "reasoning"}
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
        assert len(teacher.requests) == 10 and "scores" in kept(folder)
        main(command)
        # Those that were answered are not asked again; the one in flight was not answered.
        assert not set(answered) & {question for question, _, _ in teacher.requests[10:]}
        count = ROWS - HELD_OUT
        chains = columns(folder, "reasoning/distillation")
        assert len(chains) == count and "pending" not in {chain["status"] for chain in chains}
        assert len(teacher.requests) == count + 1  # each once, and the one the kill left unanswered
        shutil.rmtree(folder / "reasoning")
        main(command)
        assert len(teacher.requests) == count + 1 and columns(folder, "reasoning/distillation") == chains


def test_every_prompt_goes_through_the_chat_template_as_it_is_set(tiny_model_path, questions, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(tiny_model_path, model)
    tokenizer = AutoTokenizer.from_pretrained(model)
    refusal = "{% if thinking is not defined %}{{ raise_exception('no thinking') }}{% endif %}"
    tokenizer.chat_template = refusal + tokenizer.chat_template
    tokenizer.save_pretrained(model)
    settings = {"chat_template_kwargs": '{"thinking": false}', "strategy": "edco"}
    settings |= {"complexity_baselines": [], "complexity_last_stage": "evaluation"}
    run(model, questions, tmp_path / "run", **settings)  # scores, curriculum, training and both evaluations
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["accuracy_after"] is not None


STAGED = {"strategy": "easy_to_hard", "strategy_kwargs": '{"column": "stage"}'}


@pytest.mark.slow
def test_an_interrupted_training_goes_on_from_its_last_checkpoint(
    tiny_model_path, questions, tmp_path, monkeypatch, capsys
):
    settings = {"complexity_baselines": [], "max_steps": 2, "save_steps": 1, **STAGED}
    run(tiny_model_path, questions, tmp_path / "whole", **settings)

    with monkeypatch.context() as patch:
        patch.setattr(CurriculumSFTTrainer, "save_model", _save_until(1))
        with pytest.raises(SystemExit) as error:
            run(tiny_model_path, questions, tmp_path / "part", **settings)
    assert error.value.code == 130
    (tmp_path / "part" / "checkpoint-2").mkdir()  # one the end came in the middle of
    capsys.readouterr()
    run(tiny_model_path, questions, tmp_path / "part", **settings)
    told = capsys.readouterr().err
    assert begun(told) == {f"model/{METHOD}"} and "checkpoint-1" in told.replace("\n", "")
    whole, part = (load(tmp_path / name / "training").value for name in ("whole", "part"))
    assert part["steps"] == 2 and part["tokens"] == whole["tokens"]
    assert part["files"]["adapter_model.safetensors"] == whole["files"]["adapter_model.safetensors"]
    records = [read_records(tmp_path / name / "records.jsonl") for name in ("whole", "part")]
    prompts, resumed = ([line["prompts"] for line in lines if line["kind"] == "step"] for lines in records)
    assert resumed == prompts and len(prompts) == 2

    # What was trained is not taken for another run's, nor for what was altered.
    (tmp_path / "part" / "adapter_model.safetensors").write_text("something else")
    with pytest.raises(SystemExit):
        run(tiny_model_path, questions, tmp_path / "part", **settings)
    assert "adapter_model.safetensors was altered since it was made" in capsys.readouterr().err
    (tmp_path / "part" / "training.json").unlink()
    with pytest.raises(SystemExit):
        run(tiny_model_path, questions, tmp_path / "part", **settings)
    assert "holds checkpoints of another run" in capsys.readouterr().err


def _save_until(step):
    """TRL's `save_model`, interrupted when it is called after this optimizer step."""
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
        settings |= {"complexity_baselines": [], "complexity_last_stage": "training_data"}
        with pytest.raises(SystemExit) as error:
            run(tiny_model_path, questions, folder, **settings, teacher_token_budget=400)
        message = capsys.readouterr().err
        assert error.value.code == 1 and "the budget is used up" in message and "are pending" in message
        assert "Traceback" not in message and not (folder / "training_data").exists()
        assert 0 < len(teacher.requests) == len(list((folder / "teacher_answers").glob("*/*.json")))

        run(tiny_model_path, questions, folder, **settings, teacher_token_budget=400, reasoning_if_pending="drop")
        chains = columns(folder, f"reasoning/{METHOD}")
        paid = [chain for chain in chains if chain["status"] == "right"]
        assert 0 < len(paid) < len(chains) and {chain["status"] for chain in chains} == {"right", "pending"}
        assert len(columns(folder, f"training_data/{METHOD}")) == ROWS - HELD_OUT - (len(chains) - len(paid))
        run(tiny_model_path, questions, folder, **settings)
        assert set(teacher.paid.values()) == {1} and len(teacher.requests) == len(chains)

        # A refusal ends the run, whatever is to become of pending rows.
        teacher.script = {i: [403] for i in range(ROWS)}
        with pytest.raises(SystemExit):
            run(tiny_model_path, questions, folder, **settings, reasoning_if_pending="drop", teacher_temperature=0.5)
        assert "answers HTTP 403" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"held_out_prompts": 0}, "held_out_prompts is 0"),
        ({"teacher_column": "why"}, "teacher_column 'why' is none of the data set's"),
        ({"max_length": 16}, "and max_length 16 would cut off its answer"),
        ({"teacher": "server", "teacher_model": "/nowhere/model"}, "teacher_model '/nowhere/model' is not a model"),
        ({"complexity_replace_artefacts": '{"lunch": "x"}'}, "complexity_replace_artefacts: this run has no 'lunch'"),
        ({"strategy": "lunch"}, "Unknown strategy 'lunch'"),
        ({"gates": ["truncated"]}, "gates ['truncated'] judge rollouts"),
        ({"keep_model": "false", "complexity_last_stage": "evaluation"}, "keep_model is false"),
        (
            {"teacher": "endpoint", "teacher_model": "m", "teacher_url": "https://e/v1", "teacher_key_variable": "NO"},
            "teacher_key_variable NO: the environment has no such variable",
        ),
    ],
)
def test_wrong_settings_end_with_one_message(tiny_model_path, questions, tmp_path, capsys, changes, message):
    with pytest.raises(SystemExit) as error:
        run(tiny_model_path, questions, tmp_path / "run", complexity_baselines=[], **changes)
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.value.code == 2 and last.startswith("edco-rl: error: ") and message in last
