"""`edco-rl report` on matrices whose truth is known."""

import csv
import itertools
import json
import re

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from scipy import stats

from edco_rl.benchmark.comparison import compare
from edco_rl.benchmark.learning import Learning
from edco_rl.cli import main
from edco_rl.config import ReportConfig
from edco_rl.report import details, traces
from edco_rl.report.build import build
from edco_rl.report.load import load
from edco_rl.report.tables import print_table, rows, write_csv

from .synthetic import POOL, end, write_matrix, write_run

SPEEDS = {"random": 1.0, "edco": 2.5, "combined": 1.0}
SEEDS = (1, 2, 3, 4)


def report(capsys, output, *folders, **config):
    """What is printed, with the table in `output`; without the plots, which take most of a report's time."""
    data = build(load(list(map(str, folders))), ReportConfig(**config))
    output.mkdir()
    write_csv(data, output / "table.csv")
    print_table(data)
    return capsys.readouterr().out


@pytest.fixture(scope="module")
def matrix(tmp_path_factory):
    folder = write_matrix(tmp_path_factory.mktemp("matrix") / "whole", speeds=SPEEDS, tasks=("addition",), seeds=SEEDS)
    main(["report", str(folder)])
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


def runs_of(matrix, curriculum):
    """The runs of a curriculum, read by hand."""
    runs = {}
    for seed in SEEDS:
        text = (matrix / "cells" / f"addition_grpo_{curriculum}_{seed}" / "records.jsonl").read_text()
        found = [json.loads(entry) for entry in text.splitlines()]
        found = [entry for entry in found if entry["kind"] == "evaluation"]
        right = np.array([[float(character) for character in entry["right"]] for entry in found])
        costs = {
            "steps": np.array([float(entry["step"]) for entry in found]),
            "tokens": np.array([sum(entry["tokens"].values()) for entry in found], dtype=float),
        }
        runs[seed] = Learning(costs, right, f"{seed}")
    return runs


def test_the_numbers_are_those_of_the_files(matrix):
    line = table(matrix / "report")["grpo", "edco"]
    sides = [runs_of(matrix, curriculum) for curriculum in ("edco", "random")]
    finals = [run.right[-1].mean() for run in sides[0].values()]
    assert float(line["final_accuracy"]) == pytest.approx(np.mean(finals))
    starts, ends = ([run.right[i].mean() for run in sides[1].values()] for i in (0, -1))
    target = np.mean(starts) + 0.75 * (np.mean(ends) - np.mean(starts))
    assert float(line["target_accuracy"]) == pytest.approx(target)
    others = [runs_of(matrix, "combined")]
    expected = compare(*sides, target, "tokens", others=others)
    mine = [float(line[f"tokens_ratio{suffix}"]) for suffix in ("", "_low", "_high")]
    assert mine == pytest.approx([expected.ratio, expected.low, expected.high])
    assert float(line["p_value"]) == pytest.approx(compare(*sides, target, others=others).p_value, rel=1e-6)


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
    report(capsys, tmp_path / "out", *shards)
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
    told = rows(build(load([str(folder)]), ReportConfig()))
    assert [(row["steps ratio"], row["verdict"]) for row in told] == [("-", "no run of random")]


def test_a_target_out_of_reach_or_given_is_told(matrix, tmp_path, capsys):
    out = report(capsys, tmp_path / "high", matrix, target_accuracy=0.9)
    assert "not reached" in out and "0.900 (given)" in out
    assert {line["steps_to_target"] for line in table(tmp_path / "high").values()} == {""}
    assert {line["verdict"] for line in table(tmp_path / "high").values()} == {"", "0", "1"}  # it needs no target
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
    assert "Name the folders to report on first" in refused("--confidence_level", "0.9")[1]
    for cell in (other / "cells").iterdir():
        end(other, cell.name, "failed", "broken")
    assert "None of the 6 runs is done; 6 failed." in refused(other)[1]


def test_what_the_curriculum_did_is_counted_as_by_hand(matrix):
    run = next(run for run in load([str(matrix)]).runs if run.curriculum == "edco" and run.method == "grpo")
    lines = run.lines("step")
    heat = traces.heat(run)
    rows = {row[0]: dict(zip(details.COLUMNS, row, strict=True)) for row in details.prompt_rows(run)}
    first = lines[0]["prompts"][0]
    groups = [group for line in lines for group in line["groups"] if group[0] == first]
    assert rows[first]["draws"] == len(groups) and rows[first]["first"] == 1
    assert rows[first]["reward"] == pytest.approx(np.mean([group[1] for group in groups]), abs=1e-4)
    assert rows[first]["later"] == rows[first]["reward"] and rows[first]["score"] == lines[0]["prompt_scores"][0]
    picks = details.picks_by_subject(run)
    odd = np.mean([i % 2 for line in lines[:3] for i in line["prompts"]])
    assert picks["names"] == ["long", "short"] and picks["shares"][1][0] == pytest.approx(odd, abs=1e-4)
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


def test_a_run_by_itself_has_a_report_of_its_kind_also_while_it_is_in_progress(tmp_path, capsys):
    write_run(tmp_path / "run")
    out = " ".join(report(capsys, tmp_path / "out", tmp_path / "run").split())
    assert "1 of 1 runs are done" in out and "say nothing of other seeds" in out
    assert not any(word in out for word in ("verdict", "baseline", "ratio", "Target", "None"))
    row = table(tmp_path / "out")["grpo", "edco"]
    right = json.loads((tmp_path / "run" / "records.jsonl").read_text().splitlines()[-1])["right"].count("1")
    low, high = stats.binomtest(right, 100).proportion_ci(0.95, method="wilson")
    assert [float(row[f"final_accuracy{end}"]) for end in ("", "_low", "_high")] == pytest.approx(
        [right / 100, low, high]
    )
    (tmp_path / "run" / "summary.json").unlink()
    lines = (tmp_path / "run" / "records.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "run" / "records.jsonl").write_text("".join(lines[:100]) + lines[100][:20])  # as it is being written
    data = build(load([str(tmp_path / "run")]), ReportConfig(watch=5))
    steps = [json.loads(line)["step"] for line in lines[:100]]
    assert data["in_progress"] and data["refresh"] == 5 and data["series"][0]["steps"] == max(steps)
    assert data["series"][0]["final"]["value"] != pytest.approx(right / 100)
    assert "0 of 1 runs are done, 1 unfinished." in " ".join(
        report(capsys, tmp_path / "part", tmp_path / "run").split()
    )


def test_the_table_has_one_line_a_row_at_eighty_columns_and_says_what_it_leaves_out(matrix, tmp_path):
    data = build(load([str(matrix)]), ReportConfig())
    with (tmp_path / "terminal").open("w") as file:
        print_table(data, Console(file=file, width=80, force_terminal=True, no_color=True))
    lines = re.sub(r"\x1b\[[0-9;]*m", "", (tmp_path / "terminal").read_text()).splitlines()
    assert max(map(len, lines)) <= 80
    for one in data["series"]:
        [line] = [line for line in lines if re.match(rf"│{one['method']} {one['curriculum']} ", line)]
        assert f"{one['final']['value']:.3f} [" in line
    told = " ".join(lines)
    assert "Too wide for here:" in told and "seconds ratio" in told and "table.csv" in told
