"""The command measures what it says, and writes it down; how fast it was is no test."""

import json
import sys

from . import speed


def test_figures_are_printed_and_written(tmp_path, monkeypatch, capsys):
    arguments = ["speed", "pool", "--sizes", "200", "20000", "--parts", "edco", "--json", str(tmp_path / "speed.json")]
    monkeypatch.setattr(sys, "argv", arguments)
    monkeypatch.setattr("tests.benchmarks.speed_pool.SIZE", 128)
    speed.main()
    lines = [json.loads(line) for line in (tmp_path / "speed.json").read_text().splitlines()]
    assert all(line.keys() == {"name", "value", "unit", "floor", "ratio", "goal", "met"} for line in lines)
    found = {line["name"]: line for line in lines}
    memory = found["edco, 20,000: memory a prompt"]
    assert 24 <= memory["value"] <= 32 and memory["goal"] == 48 and memory["met"] is True
    renewal = found["edco, 20,000: renewal"]
    assert renewal["ratio"] == renewal["value"] / renewal["floor"] and renewal["met"] == (renewal["ratio"] <= 1.5)
    assert "edco, memory a prompt: exponent" in found and "edco, 200: batch" in capsys.readouterr().out
