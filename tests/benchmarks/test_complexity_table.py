"""The table is that of the cells: means over seeds, differences paired by seed."""

import json
import sys

import pytest

from tests.benchmarks import complexity_table


def line(method, direct, reasoning, tokens=0, trained=100, by_class=0.0):
    forms = {"direct": direct, "reasoning": reasoning, "by_class": by_class}
    measured = {form: {"accuracy": accuracy} for form, accuracy in forms.items()}
    training = {"tokens": trained, "steps": 10, "seconds": 1.0}
    return {"method": method, "evaluation": measured, "teacher": {"answer_tokens": tokens}, "training": training}


@pytest.fixture
def folder(tmp_path):
    for seed in (1, 2):
        for name in ("thirds", "quarters"):
            path = tmp_path / "cells" / f"{name}_{seed}"
            path.mkdir(parents=True)
            (path / "cell.json").write_text(json.dumps({"value": {"seed": seed, "method": name}}))
            methods = [line("complexity-aware", 0.5, 0.6, 40, by_class=0.6 + 0.1 * seed)]
            if name == "thirds":
                methods += [line("sft", 0.5 + 0.05 * seed, 0.9), line("distillation", 0.2, 0.8, 100)]
            auc = {"value": 0.75, "low": 0.7, "high": 0.8}
            prediction = {"groups": {"all": {"rows": 500, "accuracy": 0.6, "wrong_answer_auc": auc}}}
            (path / "table.json").write_text(json.dumps({"methods": methods, "prediction": prediction}))
    return tmp_path


def test_methods_count_in_the_form_they_were_trained_for(folder):
    found, predictions = complexity_table.read(folder)
    assert set(found) == {"sft", "distillation", "complexity-aware, thirds", "complexity-aware, quarters"}
    assert complexity_table.numbers(found["sft"][1])["accuracy"] == pytest.approx(0.55)
    assert complexity_table.numbers(found["complexity-aware, thirds"][2])["accuracy"] == pytest.approx(0.8)
    assert [one["seed"] for one in predictions] == [1, 2, 1, 2]


def test_differences_are_paired_by_seed(folder, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["complexity_table", str(folder)])
    complexity_table.main()
    [row] = [row for row in capsys.readouterr().out.splitlines() if "aware, thirds" in row or "thirds" in row][:1]
    assert "0.175" in row and "-0.050" in row and "40%" in row  # 0.15 and 0.2 ahead of sft; -0.1 and 0 of distillation
