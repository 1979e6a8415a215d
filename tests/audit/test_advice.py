import numpy as np
import pytest
import yaml

from edco_rl import CurriculumConfig
from edco_rl.audit.auditor import Measurement
from edco_rl.audit.candidates import EDCO_RELEASED, default_candidates, named_candidates
from edco_rl.audit.pool import look_at_pool
from edco_rl.config import AuditConfig, EstimatorConfig

AUDIT = AuditConfig("model", "rows", num_generations=4, reference_samples=16, curriculum_share=0.25)
COLUMNS = ["prompt", "answer"]


def answers(pass_rates, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.random((len(pass_rates), 16)) < np.asarray(pass_rates)[:, None]).astype(float)


def mixed(prompts=400, hopeless=0.4):
    """Pass rates: a fifth learnable, some hopeless, the rest mastered."""
    learnable, out = prompts // 5, int(hopeless * prompts)
    return np.concatenate([np.full(learnable, 0.5), np.zeros(out), np.ones(prompts - learnable - out)])


def look(pass_rates, scores, configured=None, columns=COLUMNS, names=None):
    """The audit of a pool; `scores` of the candidates by estimator, of others noise."""
    configured = configured or EstimatorConfig()
    rng = np.random.default_rng(1)
    candidates = named_candidates(configured, names) if names else default_candidates(configured, columns)
    measured = []
    for candidate in candidates:
        score = scores.get(candidate.label, scores.get(candidate.config.estimator))
        values = rng.normal(size=len(pass_rates)) if score is None else np.asarray(score, dtype=float)
        measured.append(Measurement(candidate, np.stack([values, values]), np.ones(len(values)), np.ones(2)))
    return look_at_pool(answers(pass_rates), measured, AUDIT, configured, EstimatorConfig())


def shares(result):
    return {one["name"]: one["signal_share"]["value"] for one in result["curricula"]}


def test_reference_answers_that_find_the_learnable_prompts_are_advised():
    p = mixed()
    noisy = np.clip(p + np.random.default_rng(2).normal(scale=0.1, size=len(p)), 0.001, 0.999)
    result = look(p, {"surprisal": -np.log(noisy), "learnability": noisy * (1 - noisy)})
    assert result["advice"]["strategy"] == "learning_edge"
    assert yaml.safe_load(result["advice"]["recipe"]) == {"strategy": "learning_edge"}
    found = {one["name"]: one for one in result["curricula"]}
    random, best = found["random"]["signal_share"]["value"], found["learning_edge"]["signal_share"]["value"]
    assert random == pytest.approx(0.2 * 0.875, abs=0.02) and best == pytest.approx(0.8 * 0.875, abs=0.03)
    assert found["learning_edge"]["expected_steps_ratio"] == pytest.approx((random / best) ** 0.7)
    assert found["random"]["expected_steps_ratio"] == 1.0
    assert {name: round(share["value"], 1) for name, share in result["pool"].items()} == {
        "mastered": 0.4,
        "learnable": 0.2,
        "hopeless": 0.4,
    }


def test_the_surprisal_leads_to_the_same_curriculum_as_the_learnability():
    p = np.clip(mixed(), 0.001, 0.999)
    one = look(p, {"surprisal": -np.log(p)}, names=["surprisal"])
    other = look(p, {"learnability": p * (1 - p)}, names=["learnability"])
    assert one == other and list(shares(one)) == ["random", "learning_edge"]


def test_the_curricula_are_those_of_the_strategies():
    configured = EstimatorConfig(scoring_prefix_tokens=3, scoring_quick_answer=False)
    names = list(shares(look(mixed(), {}, configured)))
    assert names[:2] == ["random", "edco"] and len(set(names)) == len(names)
    assert {"edco as released", "loss", "learning_edge", "edco by prefix_entropy (1 token, greedy)"} < set(names)
    assert "edco by prefix_entropy (3 tokens, greedy)" not in names


def test_an_entropy_that_finds_them_is_advised_with_its_settings_and_a_gate():
    p = mixed(prompts=600, hopeless=0.1)
    label = "prefix_entropy (4 tokens, 8 at T=1)"
    learnable = (p == 0.5) + np.random.default_rng(3).normal(scale=1.0, size=len(p))
    advice = look(p, {label: learnable})["advice"]
    recipe = yaml.safe_load(advice["recipe"])
    gates = recipe.pop("gates")
    assert recipe == {
        "strategy": "edco",
        "estimator": "prefix_entropy",
        "scoring_prefix_tokens": 4,
        "scoring_samples": 8,
        "scoring_temperature": 1.0,
        "scoring_quick_answer": False,
    }
    assert gates == ["equal_rewards"] and "gate" in advice["reason"]
    CurriculumConfig(gates=gates, **recipe)


def test_the_advice_can_be_edco_as_released():
    p = mixed(hopeless=0.1)
    [released] = [c for c in default_candidates(EstimatorConfig(), COLUMNS) if c.config.scoring_largest_share < 1]
    advice = look(p, {released.label: p == 0.5})["advice"]
    assert advice["strategy"] == "edco" and "gates" not in yaml.safe_load(advice["recipe"])
    recipe = CurriculumConfig(**yaml.safe_load(advice["recipe"]))
    assert {name: getattr(recipe, name) for name in EDCO_RELEASED} == EDCO_RELEASED


def test_a_pool_of_one_kind_has_nothing_to_gain():
    advice = look(np.full(200, 0.5), {})["advice"]
    assert advice["strategy"] == "random" and "knows the answers 8" in advice["reason"]
    assert advice["reason"].startswith("nothing to gain here") and advice["recipe"] == "strategy: random\n"


def test_entropy_on_hopeless_prompts_is_warned_of():
    p = mixed(hopeless=0.6)
    result = look(p, {"prefix_entropy": p == 0.0}, columns=["prompt"])
    assert result["advice"]["strategy"] == "random"
    assert "60% of the prompts are hopeless" in result["advice"]["reason"]
    assert shares(result)["edco"] < 0.01 < shares(result)["random"]
    assert "hopeless" not in look(p, {})["advice"]["reason"]  # there are reference answers


def test_useless_scores_are_seldom_advised():
    p = np.random.default_rng(5).choice([0.0, 0.3, 0.7, 1.0], size=128)
    rng = np.random.default_rng(6)
    advised = 0
    for _ in range(20):
        scores = {c.label: rng.normal(size=len(p)) for c in default_candidates(EstimatorConfig(), COLUMNS)}
        advised += look(p, scores)["advice"]["strategy"] != "random"
    assert advised <= 3


def test_where_no_group_has_a_signal_there_is_no_gate():
    for p in (np.zeros(40), np.ones(40)):
        result = look(p, {})
        assert "no group has a signal" in result["advice"]["reason"]
        assert result["advice"]["recipe"] == "strategy: random\n"
        assert {one["expected_steps_ratio"] for one in result["curricula"]} == {None}
