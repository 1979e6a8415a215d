"""Forecasts for rows an audit has not seen, on simulated rows whose numbers are known."""

import json
from dataclasses import asdict

import numpy as np
import pytest

from edco_rl.audit.auditor import step_path
from edco_rl.config import EstimatorConfig
from edco_rl.store import once_value
from tests.benchmarks.supervised_check import check


@pytest.fixture
def audited(tmp_path):
    """600 rows: a score that tells wrong answers well, one that tells nothing, and losses."""
    rng = np.random.default_rng(0)
    wrong = rng.random(600) < 0.4
    scores = {"answer_entropy": wrong + rng.normal(size=600), "perplexity": rng.exponential(size=600)}
    steps = {f"{name}-{number}": {"values": list(values)} for name, values in scores.items() for number in range(2)}
    steps["greedy-answers"] = {"rewards": [None, *(1.0 - wrong[1:])]}
    for name, value in steps.items():
        once_value(step_path(tmp_path / "measurements", name), {}, lambda value=value: value)
    entries = [{"label": name, "settings": asdict(EstimatorConfig(estimator=name))} for name in scores]
    full = [{"label": "whole answers", "settings": {}}] * 2
    config = {"audit": {"curriculum_share": 0.25}}
    (tmp_path / "audit.json").write_text(json.dumps({"estimators": [*entries, *full], "config": config}))
    return tmp_path


def test_forecasts_hold_on_the_other_rows_and_the_score_that_tells_is_advised(audited):
    found = check(audited, samples=128, splits=10)
    assert found["rows"] == 600 and found["wrong"] == pytest.approx(0.4, abs=0.05)
    held = {key: np.mean([inside for _, _, inside in rows]) for key, rows in found["errors"].items()}
    assert set(held) == {
        (score, number)
        for score in ("answer_entropy", "perplexity")
        for number in ("wrong_answer_auc", "hard", "wrong_ratio", "loss_ratio")
    }
    assert np.mean(list(held.values())) >= 0.9
    values = [value for value, _, _ in found["errors"]["answer_entropy", "wrong_answer_auc"]]
    assert np.mean(values) == pytest.approx(0.76, abs=0.04)  # of two normal distributions, one apart: Phi(1 / sqrt(2))
    assert np.mean(found["right"]) >= 0.9
