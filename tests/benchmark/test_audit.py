import contextlib
import io
import json

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from edco_rl.benchmark.audit_report import recommend
from edco_rl.cli import main


@pytest.fixture(scope="module")
def audited(tiny_model_path, tmp_path_factory):
    """What the command printed, and the folder it wrote to."""
    folder = tmp_path_factory.mktemp("audit")
    settings = {
        "model_name_or_path": tiny_model_path,
        "dataset_name": "reasoning_gym:chain_sum",
        "samples": 12,
        "reference_samples": 4,
        "sequence_tokens": 4,
        "engine_mode": "none",
        "output_dir": folder / "out",
        "reward_func": f"{__name__}:even_length",
    }
    arguments = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        main(["audit", *arguments, "--estimators", "answer_entropy", "perplexity", "--json"])
    return json.loads(printed.getvalue()), folder / "out"


def even_length(completions, **kwargs):
    return [float(len(completion[0]["content"]) % 2 == 0) for completion in completions]


def test_the_json_lists_every_estimator_with_its_statistics(audited):
    result, folder = audited
    assert [entry["estimator"] for entry in result["estimators"]] == [
        "answer_entropy",
        "perplexity",
        "rollout_entropy",
        "sequence_entropy",
    ]
    for entry in result["estimators"]:
        for name in ("reliability", "reference_correlation", "wrong_answer_auc", "reward_variance_correlation"):
            interval = entry[name]
            assert interval["low"] <= interval["value"] <= interval["high"]
        assert entry["relative_tokens"]["low"] <= entry["relative_tokens"]["value"]
    assert result["prompts"] == 12 and result["recommendation"].startswith("Use ")
    assert result == json.loads((folder / "audit.json").read_text())
    assert (folder / "audit.svg").read_text().lstrip().startswith("<?xml")


def test_the_statistics_are_those_of_the_raw_measurements(audited):
    result, folder = audited
    raw = np.load(folder / "measurements.npz")
    assert raw["reference"].shape == (12, 4)
    for entry, (first, second) in zip(result["estimators"], raw["values"], strict=True):
        expected = spearmanr(first, raw["reference"].mean(axis=1)).statistic
        assert entry["reference_correlation"]["value"] == pytest.approx(expected)
        assert entry["reliability"]["value"] == pytest.approx(spearmanr(first, second).statistic)
        assert entry["wrong_answer_auc"]["value"] == pytest.approx(roc_auc_score(raw["wrong"], first))
        variance = spearmanr(first, raw["reward_variance"]).statistic
        assert entry["reward_variance_correlation"]["value"] == pytest.approx(variance)


def test_sampled_estimators_are_measured_anew_and_deterministic_ones_under_other_words(audited):
    result, folder = audited
    kinds = {entry["estimator"]: entry["reliability_over"] for entry in result["estimators"]}
    assert kinds == {
        "answer_entropy": "rewording",
        "perplexity": "rewording",
        "rollout_entropy": "repetition",
        "sequence_entropy": "repetition",
    }
    for first, second in np.load(folder / "measurements.npz")["values"]:
        assert (first != second).any()


def entry(label, agreement, cost, auc=0.6):
    def interval(value):
        return {"value": value, "low": value - 0.1, "high": value + 0.1}

    return {
        "label": label,
        "reference_correlation": interval(agreement),
        "relative_seconds": interval(cost),
        "wrong_answer_auc": interval(auc),
        "seconds": 100 * cost,
    }


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        (
            [entry("a", 0.5, 0.04), entry("b", 0.9, 0.03)],
            ["Use b: of those that cost at most 5%", "0.90 [0.80, 1.00]"],
        ),
        ([entry("a", 0.5, 0.04), entry("b", 0.9, 0.5)], ["Use a: of those", "the best of all here, b, reaches 0.90"]),
        ([entry("a", 0.5, 0.4), entry("b", 0.9, 0.6)], ["Use a: none costs at most 5%", "it is the cheapest"]),
        ([entry("a", 0.5, 0.04), entry("free", 0.9, 0.0)], ["Use a:"]),
        ([entry("a", 0.85, 0.04, auc=float("nan"))], ["0.85", "allows 0.92"]),
        ([entry("a", float("nan"), 0.04)], ["No estimator can be recommended"]),
    ],
)
def test_the_advice_is_the_best_agreement_within_the_limit(entries, words):
    sentence = recommend({"reference": {"ceiling": 0.92}, "estimators": entries}, cost_limit=0.05)
    assert all(word in sentence for word in words), sentence
    assert sentence.endswith(".") and "nan" not in sentence
