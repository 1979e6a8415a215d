"""What a split by a score would find, against a brute-force reference and simulated pools."""

import numpy as np
import pytest
import yaml
from sklearn.metrics import roc_auc_score

from edco_rl.audit.auditor import Measurement
from edco_rl.audit.candidates import named_candidates
from edco_rl.audit.supervised import look_at_references, look_at_rows
from edco_rl.config import EstimatorConfig

DEFAULTS = EstimatorConfig()


def measured(*scores, names=("answer_entropy", "perplexity", "surprisal")):
    candidates = named_candidates(EstimatorConfig(scoring_top_logprobs=50), names[: len(scores)])
    return [
        Measurement(candidate, np.array([values, values]), np.ones(len(values)), np.ones(2))
        for candidate, values in zip(candidates, scores, strict=True)
    ]


def test_thirds_and_their_ratio_are_counted():
    rng = np.random.default_rng(0)
    scores = rng.permutation(90).astype(float)
    wrong = (rng.random(90) < scores / 90).astype(float)
    [split] = look_at_rows(measured(scores), wrong, DEFAULTS, 0)["splits"]
    order = np.argsort(scores)
    for name, rows in zip(("easy", "medium", "hard"), np.split(order, 3), strict=True):
        assert split[name]["value"] == pytest.approx(wrong[rows].mean())
        assert split[name]["low"] <= split[name]["value"] <= split[name]["high"]
    assert split["wrong_ratio"]["value"] == pytest.approx(wrong[order[60:]].mean() / wrong.mean())
    assert split["wrong_answer_auc"]["value"] == pytest.approx(roc_auc_score(wrong, scores))


def test_a_hard_third_with_every_wrong_answer_is_not_certain_to_have_those_of_other_rows():
    scores = np.arange(90.0)
    [split] = look_at_rows(measured(scores), (scores >= 70).astype(float), DEFAULTS, 0)["splits"]
    ratio = split["wrong_ratio"]
    assert ratio["value"] == ratio["high"] == pytest.approx(3)
    assert 3 * 0.75 < ratio["low"] < 3 * 0.95  # 20 wrong answers, all of them found


def test_rows_of_unknown_score_or_answer_are_left_out():
    rng = np.random.default_rng(1)
    scores, wrong = rng.random(60), (rng.random(60) < 0.5).astype(float)
    whole = look_at_rows(measured(scores), wrong, DEFAULTS, 0)
    more = look_at_rows(measured(np.append(scores, [np.nan, 9.0])), np.append(wrong, [1.0, np.nan]), DEFAULTS, 0)
    assert more["splits"] == whole["splits"]


def test_the_surest_score_is_advised_with_its_settings():
    rng = np.random.default_rng(2)
    wrong = (rng.random(200) < 0.4).astype(float)
    found = look_at_rows(measured(rng.random(200), wrong + rng.random(200)), wrong, DEFAULTS, 0)
    advice = found["advice"]
    assert advice["split"] == found["splits"][1]["label"] and "times as many" in advice["reason"]
    assert yaml.safe_load(advice["recipe"]) == {"estimator": "perplexity", "scoring_top_logprobs": 50}


def test_useless_scores_are_seldom_advised():
    advised = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        wrong = (rng.random(128) < 0.4).astype(float)
        found = look_at_rows(measured(rng.random(128), rng.random(128)), wrong, DEFAULTS, seed)
        advised += found["advice"]["split"] != "random"
    assert advised <= 10  # 2.5 % are due to chance


@pytest.mark.parametrize("share", [0.0, 0.02, 1.0])
def test_where_all_answers_are_alike_there_is_nothing_to_split(share):
    wrong = (np.arange(100) < 100 * share).astype(float)
    found = look_at_rows(measured(np.random.default_rng(0).random(100)), wrong, DEFAULTS, 0)
    assert found["advice"]["split"] is None and found["advice"]["recipe"] == ""


def test_without_a_reward_nothing_is_said():
    assert look_at_rows(measured(np.ones(9)), np.full(9, np.nan), DEFAULTS, 0) is None


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("rows", [0, 1, 2, 3])
def test_few_rows_give_no_number_that_is_not_known(rows):
    scores, wrong = np.arange(9.0), np.where(np.arange(9) < rows, np.arange(9) % 2, np.nan)
    found = look_at_rows(measured(scores), wrong, DEFAULTS, 0)
    assert (found is None) == (rows == 0)
    for name in ("easy", "medium", "hard") if found else ():
        value = found["splits"][0][name]["value"]
        assert np.isnan(value) or 0 <= value <= 1


def test_the_loss_of_a_curriculums_rows_is_that_of_its_highest_scores():
    rng = np.random.default_rng(3)
    loss, scores = rng.exponential(size=80), rng.permutation(80).astype(float)
    found = look_at_references(measured(scores, loss), share=0.25, seed=0)
    assert found["loss"]["value"] == pytest.approx(loss.mean())
    by_score, by_loss = (one["loss_ratio"] for one in found["curricula"])
    assert by_score["value"] == pytest.approx(loss[np.argsort(scores)[-20:]].mean() / loss.mean())
    assert by_loss["value"] == pytest.approx(np.sort(loss)[-20:].mean() / loss.mean())
    assert by_score["low"] <= by_score["value"] <= by_score["high"]


@pytest.mark.filterwarnings("error")
def test_where_all_is_known_by_heart_there_is_no_ratio():
    [one, _] = look_at_references(measured(np.arange(9.0), np.zeros(9)), share=0.25, seed=0)["curricula"]
    assert np.isnan(one["loss_ratio"]["value"])


def test_without_references_nothing_is_said_of_them():
    assert look_at_references(measured(np.arange(9.0)), share=0.25, seed=0) is None
