"""`edco-rl report` on matrices whose truth is known."""

import csv
import itertools
import json

import numpy as np
import pytest
from PIL import Image

from edco_rl.benchmark.comparison import Learning, compare
from edco_rl.cli import main
from edco_rl.config import ReportConfig
from edco_rl.report import traces
from edco_rl.report.build import build
from edco_rl.report.load import load
from edco_rl.report.tables import print_table, rows, write_csv

from .synthetic import POOL, end, write_matrix

SPEEDS = {"random": 1.0, "edco": 2.5, "combined": 1.0}
SEEDS = (1, 2, 3, 4)


def report(capsys, output, *folders, **config):
    """What is printed, with the table in `output`; without the plots, which take most of a report's time."""
    data = build(load(list(map(str, folders))), ReportConfig(**{"resamples": 100, **config}))
    output.mkdir()
    write_csv(data, output / "table.csv")
    print_table(data)
    return capsys.readouterr().out


@pytest.fixture(scope="module")
def matrix(tmp_path_factory):
    folder = write_matrix(tmp_path_factory.mktemp("matrix") / "whole", speeds=SPEEDS, tasks=("addition",), seeds=SEEDS)
    main(["report", str(folder), "--resamples", "400"])
    return folder


def table(folder):
    with (folder / "table.csv").open() as file:
        return {(line["method"], line["curriculum"]): line for line in csv.DictReader(file)}


def test_a_known_effect_stands_in_the_table_and_nothing_else_does(matrix):
    lines = table(matrix / "report")
    verdicts = {key: line["verdict"] for key, line in lines.items()}
    assert verdicts == {
        ("grpo", "random"): "",
        ("grpo", "edco"): "1",
        ("grpo", "combined"): "0",
        ("sft", "random"): "0",
        ("sft", "edco"): "1",
        ("sft", "combined"): "0",
    }
    assert 0.3 < float(lines["grpo", "edco"]["steps_ratio"]) < 0.6


def test_the_numbers_are_those_of_the_files(matrix):
    line = table(matrix / "report")["grpo", "edco"]
    sides = []
    for curriculum in ("edco", "random"):
        runs = {}
        for seed in SEEDS:
            text = (matrix / "cells" / f"addition_grpo_{curriculum}_{seed}" / "records.jsonl").read_text()
            found = [json.loads(entry) for entry in text.splitlines()]
            found = [entry for entry in found if entry["kind"] == "evaluation"]
            right = np.array([[float(character) for character in entry["right"]] for entry in found])
            tokens = np.array([sum(entry["tokens"].values()) for entry in found], dtype=float)
            runs[seed] = Learning({"tokens": tokens}, right, f"{seed}")
        sides.append(runs)
    finals = [run.right[-1].mean() for run in sides[0].values()]
    assert float(line["final_accuracy"]) == pytest.approx(np.mean(finals))
    starts, ends = ([run.right[i].mean() for run in sides[1].values()] for i in (0, -1))
    target = np.mean(starts) + 0.75 * (np.mean(ends) - np.mean(starts))
    assert float(line["target_accuracy"]) == pytest.approx(target)
    expected = compare(*sides, target, "tokens", resamples=400)
    mine = [float(line[f"tokens_ratio{suffix}"]) for suffix in ("", "_low", "_high")]
    assert mine == pytest.approx([expected.ratio, expected.low, expected.high])
    assert float(line["p_value"]) == pytest.approx(expected.p_value, rel=1e-6)


def test_plots_and_tables_are_written_as_files(matrix):
    folder = matrix / "report"
    names = {path.name for path in folder.iterdir()}
    plots = {
        f"addition_{name}.{kind}"
        for name in ("accuracy", "cost", "curriculum", "prompts", "time")
        for kind in ("png", "svg")
    }
    assert names == plots | {"report.html", "table.csv", "table.md"}
    with Image.open(folder / "addition_accuracy.png") as image:
        assert image.width > 1000 and len(image.convert("RGB").getcolors(10**6)) > 10
    assert "held-out accuracy" in (folder / "addition_accuracy.svg").read_text()
    text = (folder / "table.md").read_text()
    assert "fewer steps" in text and "24 of 24 cells are done." in text
    assert "://" not in (folder / "report.html").read_text()


def test_shards_give_the_same_table_as_the_whole(matrix, tmp_path, capsys):
    settings = {"speeds": SPEEDS, "tasks": ("addition",), "seeds": SEEDS}
    shards = [
        write_matrix(tmp_path / f"{number}", **settings, skip=lambda *cell, n=number: cell[-1] % 2 == n)
        for number in (0, 1)
    ]
    report(capsys, tmp_path / "out", *shards, resamples=400)
    assert (tmp_path / "out" / "table.csv").read_text() == (matrix / "report" / "table.csv").read_text()
    out = report(capsys, tmp_path / "half", shards[0])
    assert "12 of 24 cells are done." in out


def test_failed_and_unfinished_cells_are_told(tmp_path, capsys):
    folder = write_matrix(tmp_path / "m", speeds=SPEEDS, tasks=("addition",), methods=("grpo",), seeds=(1, 2))
    end(folder, "addition_grpo_edco_2", "failed", "EngineError: the server died")
    end(folder, "addition_grpo_combined_1", "unfinished")
    out = report(capsys, tmp_path / "out", folder)
    assert "4 of 6 cells are done, 1 failed, 1 unfinished." in out
    assert "addition_grpo_edco_2 failed: EngineError: the server died" in out
    assert table(tmp_path / "out")["grpo", "edco"]["seeds"] == "1" and "one seed" in " ".join(out.split())
    assert table(tmp_path / "out")["grpo", "edco"]["verdict"] == "0"  # one seed says nothing of others


def test_a_measure_that_is_no_share_of_right_answers_is_named(tmp_path, capsys):
    folder = write_matrix(tmp_path / "matrix", speeds={"random": 1.0}, tasks=("t",), methods=("sft", "distillation"))
    told = " ".join(report(capsys, tmp_path / "report", folder).split())
    assert "Accuracy of t, distillation is ROUGE-L" in told and "t, sft is ROUGE-L" not in told


def test_a_curriculum_without_its_baseline_is_not_called_one(tmp_path, capsys):
    folder = write_matrix(tmp_path / "m", speeds={"edco": 1.0}, tasks=("t",), methods=("grpo",), seeds=(1, 2))
    told = rows(build(load([str(folder)]), ReportConfig(resamples=100)))
    assert [(row["steps ratio"], row["verdict"]) for row in told] == [("-", "no run of random")]


def test_a_target_out_of_reach_or_given_is_told(matrix, tmp_path, capsys):
    out = report(capsys, tmp_path / "high", matrix, target_accuracy=0.9)
    assert "neither got there" in " ".join(out.split()) and "0.900 (given)" in out
    assert not {line["verdict"] for line in table(tmp_path / "high").values()} & {"1", "-1"}
    report(capsys, tmp_path / "other", matrix, baseline="combined")
    assert table(tmp_path / "other")["grpo", "combined"]["steps_ratio"] == ""


def test_what_cannot_be_reported_is_refused(matrix, tmp_path, capsys):
    other = write_matrix(tmp_path / "other", speeds=SPEEDS | {"edco": 1.0}, tasks=("addition",), seeds=(1,), every=20)

    def refused(*arguments):
        with pytest.raises(SystemExit) as error:
            main(["report", *map(str, arguments)])
        return error.value.code, capsys.readouterr().err.splitlines()[-1]

    code, message = refused(matrix, other)
    assert code == 2 and "are different results of one cell" in message
    assert refused(tmp_path)[1].endswith("expected a folder of edco-rl benchmark or edco-rl train.")
    assert "Name the folders to report on first" in refused("--resamples", "100")[1]
    for cell in (other / "cells").iterdir():
        end(other, cell.name, "failed", "broken")
    assert "None of the 6 runs is done; 6 failed." in refused(other)[1]


def test_what_the_curriculum_did_is_counted_as_by_hand(matrix):
    run = next(run for run in load([str(matrix)]).runs if run.curriculum == "edco" and run.method == "grpo")
    lines = run.lines("step")
    heat = traces.heat(run)
    per_row = np.bincount(np.arange(POOL) * len(heat["rows"]) // POOL)
    assert (np.array(heat["rows"]) * per_row[:, None]).sum() == pytest.approx(8 * 60, abs=1)
    assert heat["ranked"] and heat["steps"][0] == 1
    hardest = np.argsort(run.difficulty)[-1]
    drawn = sum(line["prompts"].count(hardest) for line in lines)
    top = [i for i in np.argsort(run.difficulty) if list(np.argsort(run.difficulty)).index(i) >= POOL - per_row[-1]]
    assert sum(heat["rows"][-1]) * per_row[-1] == pytest.approx(
        sum(line["prompts"].count(i) for line in lines for i in top), abs=0.2
    )
    assert drawn <= 60
    steps, shares = traces.overlap(run)
    blocks = [{i for line in lines[start : start + 10] for i in line["prompts"]} for start in range(0, 60, 10)]
    assert steps.tolist() == [20, 30, 40, 50, 60]
    assert shares == pytest.approx([len(b & a) / len(b) for a, b in itertools.pairwise(blocks)])
    _, signal = traces.signal(run)
    by_hand = [
        np.mean([np.mean([g[2] for g in line["groups"]]) for line in lines[i : i + 3]]) for i in range(0, 60, 3)
    ]
    assert signal == pytest.approx(by_hand)
    ranks = np.argsort(np.argsort(run.difficulty)) / (POOL - 1)
    _, difficulty = traces.difficulty(run)
    assert difficulty[0] == pytest.approx(np.mean([ranks[line["prompts"]].mean() for line in lines[:3]]))
