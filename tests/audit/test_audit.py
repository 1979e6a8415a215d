import contextlib
import io
import json
import re

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from edco_rl.audit.candidates import default_candidates
from edco_rl.audit.groups import signal_chance
from edco_rl.audit.report import print_report, recommend
from edco_rl.cli import main
from edco_rl.config import AuditConfig, EstimatorConfig
from edco_rl.errors import ConfigurationError


def audit(model, folder, estimators=("answer_entropy", "perplexity"), **changes):
    settings = {
        "model_name_or_path": model,
        "dataset_name": "reasoning_gym:chain_sum",
        "samples": 12,
        "reference_samples": 4,
        "num_generations": 2,
        "scoring_sequence_tokens": 4,
        "engine_mode": "none",
        "output_dir": folder,
        "reward_func": f"{__name__}:even_sum",
        **changes,
    }
    arguments = [word for name, value in settings.items() if value for word in (f"--{name}", str(value))]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        main(["audit", *arguments, "--estimators", *estimators, "--json"])
    return json.loads(printed.getvalue())  # nothing else is printed


@pytest.fixture(scope="module")
def audited(tiny_model_path, tmp_path_factory):
    """What the command printed, and the folder it wrote to."""
    folder = tmp_path_factory.mktemp("audit") / "out"
    return audit(tiny_model_path, folder), folder


def even_sum(completions, answer, **kwargs):
    """Right or wrong for no good reason, but not all the same."""
    pairs = zip(completions, answer, strict=True)
    return [float(sum(map(ord, completion[0]["content"] + right)) % 2 == 0) for completion, right in pairs]


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
    # Advice says nothing that the table does not.
    sure = [entry["label"] for entry in result["estimators"] if entry["reference_correlation"]["low"] > 0]
    sure = sure if result["reference"]["ceiling"] > 0 else []
    words = ("No estimator", *(f"Use {label}: " for label in sure))
    assert result["prompts"] == 12 and result["recommendation"].startswith(words)
    assert result == json.loads((folder / "audit.json").read_text())
    assert (folder / "audit.svg").read_text().lstrip().startswith("<?xml")


def step(folder, name):
    """What a step of the audit gave."""
    value = json.loads((folder / "measurements" / f"{name}.json").read_text())["value"]
    return {key: np.array(values, dtype=float) for key, values in value.items()}


def values(folder, label, column="values"):
    """What both runs of an estimator gave."""
    return [step(folder, f"{label}-{run}")[column] for run in range(2)]


def runs(folder):
    full = "sequence_entropy-4-tokens-1-at-T=1"
    return [
        values(folder, "answer_entropy-1-token-greedy-quick-answer"),
        values(folder, "perplexity"),
        values(folder, full, "free"),
        values(folder, full),
    ]


def test_the_default_candidates_are_told_apart_and_have_edcos_score_in_both_forms():
    candidates = default_candidates(EstimatorConfig(), ["prompt", "options", "answer"])
    labels = [candidate.label for candidate in candidates]
    assert len(set(labels)) == len(labels)
    assert "prefix_entropy (16 tokens, greedy, quick answer)" in labels
    [released] = [candidate for candidate in candidates if candidate.config.scoring_largest_share < 1]
    assert released.is_sampled and released.label == (
        "prefix_entropy (128 tokens, 1 at T=0.7, top-p 0.7, largest 20%, quick answer, no chat template)"
    )


def test_the_statistics_are_those_of_the_raw_measurements(audited):
    result, folder = audited
    reference = step(folder, "reference-0")
    wrong = step(folder, "greedy-answers")["rewards"] < 1
    assert reference["values"].shape == (12, 4)
    for entry, (first, second) in zip(result["estimators"], runs(folder), strict=True):
        expected = spearmanr(first, reference["values"].mean(axis=1)).statistic
        assert entry["reference_correlation"]["value"] == pytest.approx(expected)
        assert entry["reliability"]["value"] == pytest.approx(spearmanr(first, second).statistic)
        assert entry["wrong_answer_auc"]["value"] == pytest.approx(roc_auc_score(wrong, first))
        variance = spearmanr(first, reference["rewards"].var(axis=1)).statistic
        assert entry["reward_variance_correlation"]["value"] == pytest.approx(variance)


def test_the_curricula_are_those_of_the_raw_measurements(audited):
    result, folder = audited
    rewards = step(folder, "reference-0")["rewards"]
    sums = rewards.sum(axis=1)
    kinds = {"mastered": sums == 4, "learnable": (sums > 0) & (sums < 4), "hopeless": sums == 0}
    assert {name: share["value"] for name, share in result["pool"].items()} == {
        name: pytest.approx(kind.mean()) for name, kind in kinds.items()
    }
    chance = signal_chance(rewards, 2)
    highest = [chance[np.argsort(-first)[:3]].mean() for first, _ in runs(folder)[:2]]
    shares = {one["name"]: one["signal_share"] for one in result["curricula"]}
    assert {name: share["value"] for name, share in shares.items()} == {
        "random": pytest.approx(chance.mean()),
        "edco by answer_entropy (1 token, greedy, quick answer)": pytest.approx(highest[0]),
        "loss": pytest.approx(highest[1]),
    }
    assert all(share["low"] <= share["value"] <= share["high"] for share in shares.values())
    assert result["advice"].keys() == {"strategy", "reason", "recipe"}


@pytest.mark.parametrize("almost_greedy", [{"temperature": 0.001}, {"top_p": 1e-6}])
def test_answers_are_sampled_as_in_training(tiny_model_path, tmp_path, almost_greedy):
    result = audit(tiny_model_path, tmp_path, ["answer_entropy"], **almost_greedy)
    greedy = step(tmp_path, "greedy-answers")["rewards"]
    assert (step(tmp_path, "reference-0")["rewards"] == greedy[:, None]).all()
    first, second = (step(tmp_path, path.stem) for path in (tmp_path / "measurements").glob("sequence_entropy*"))
    assert (first["values"] == second["values"]).all()  # the full sequence too
    assert result["pool"]["learnable"]["value"] == 0 and "no group has a signal" in result["advice"]["reason"]


def test_what_is_printed_ends_with_the_recipe(audited, tiny_model_path, capsys):
    result, folder = audited
    main(
        [
            *("audit", "--model_name_or_path", tiny_model_path, "--dataset_name", "reasoning_gym:chain_sum"),
            *("--samples", "12", "--reference_samples", "4", "--num_generations", "2", "--engine_mode", "none"),
            *("--scoring_sequence_tokens", "4", "--output_dir", str(folder), "--reward_func", f"{__name__}:even_sum"),
            *("--estimators", "answer_entropy", "perplexity"),
        ]
    )
    printed = capsys.readouterr().out
    assert printed.endswith(result["advice"]["recipe"] + "\n") and "best possible" in printed
    assert all(one["name"] in printed for one in result["curricula"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"reference_samples": 15}, "reference_samples must be at least twice num_generations, which is 8; got 15"),
        ({"num_generations": 1}, "num_generations must be a whole number of at least 2; got 1"),
        ({"temperature": 0.0}, "temperature must be a number above 0; got 0.0"),
        ({"top_p": 0.0}, "top_p must be a number above 0 and at most 1; got 0.0"),
        ({"curriculum_share": 1.0}, "curriculum_share must be a number above 0 and below 1; got 1.0"),
    ],
)
def test_settings_that_make_no_groups_are_refused(settings, message):
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        AuditConfig("model", "rows", **settings)


def test_sampled_estimators_are_measured_anew_and_deterministic_ones_under_other_words(audited):
    result, folder = audited
    kinds = {entry["estimator"]: entry["reliability_over"] for entry in result["estimators"]}
    assert kinds == {
        "answer_entropy": "rewording",
        "perplexity": "rewording",
        "rollout_entropy": "repetition",
        "sequence_entropy": "repetition",
    }
    for first, second in runs(folder):
        assert (first != second).any()


def test_an_audit_that_was_interrupted_keeps_what_it_had_measured(audited, tiny_model_path):
    before, folder = audited
    (folder / "audit.json").unlink()
    (folder / "measurements" / "reference-0.json").unlink()
    after = audit(tiny_model_path, folder)
    assert after["reference"] != before["reference"]  # drawn anew
    for old, new in zip(before["estimators"], after["estimators"], strict=True):
        assert (old["seconds"], old["reliability"]) == (new["seconds"], new["reliability"])


def test_an_audit_with_other_settings_does_not_use_the_measurements(audited, tiny_model_path, capsys):
    with pytest.raises(SystemExit):
        audit(tiny_model_path, audited[1], reference_samples=5)
    assert "made with reference_samples 4; now it is 5" in capsys.readouterr().err


def test_a_reward_of_the_tokens_of_an_answer_can_be_audited(tiny_model_path, tmp_path):
    bounds = json.dumps({"length": {"maximum": 3, "inside": 1.0, "outside": 0.0}})
    result = audit(tiny_model_path, tmp_path, reward_func="length", reward_kwargs=bounds)
    reference, greedy = step(tmp_path, "reference-0"), step(tmp_path, "greedy-answers")
    assert (reference["rewards"] == (reference["lengths"] <= 3)).all() and reference["lengths"].max() == 4
    assert result["wrong_answers"] == (greedy["rewards"] < 1).mean() > 0


def test_without_a_reward_nothing_is_known_of_answers(tiny_model_path, tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"prompt": f"{number} + {number} ="}) + "\n" for number in range(12)))
    result = audit(tiny_model_path, tmp_path / "out", ["answer_entropy"], dataset_name=rows, reward_func=None)
    assert result["reward"] is result["wrong_answers"] is None
    assert result["pool"] is result["curricula"] is result["best_possible"] is result["advice"] is None
    assert {entry["wrong_answer_auc"]["value"] for entry in result["estimators"]} == {None}
    assert result["recommendation"].startswith(("Use ", "No estimator can be recommended: "))


def test_each_row_of_the_tables_is_one_line_at_eighty_columns(audited, capsys, monkeypatch):
    result, folder = audited
    monkeypatch.setenv("COLUMNS", "80")
    print_report(result, folder)
    lines = capsys.readouterr().out.splitlines()
    rows = [line for line in lines if line[:1] in "│┃"]
    assert max(map(len, rows)) <= 80
    for name in (*(entry["label"] for entry in result["estimators"]), *(one["name"] for one in result["curricula"])):
        assert [line for line in rows if line.startswith((f"│{name} ", f"│{name}│")) and "]" in line], name
    assert any(line.startswith("Too wide for here: ") for line in lines)


def test_without_a_reference_that_agrees_with_itself_nothing_is_advised():
    entries = [entry("a", 0.5, 0.04)]
    for ceiling in (0.0, float("nan")):
        sentence = recommend({"reference": {"ceiling": ceiling}, "estimators": entries}, cost_limit=0.05)
        assert sentence.startswith("No estimator can be recommended: the reference does not agree with itself")
    sentence = recommend({"reference": {"ceiling": 0.9}, "estimators": [entry("a", 0.05, 0.04)]}, cost_limit=0.05)
    assert "by chance alone (rank correlation 0.05 [-0.05, 0.15])" in sentence and "Use" not in sentence


def test_held_out_prompts_that_are_in_the_data_set_are_counted(tiny_model_path, tmp_path):
    rows, held_out = tmp_path / "rows.jsonl", tmp_path / "held out.jsonl"
    rows.write_text("".join(json.dumps({"prompt": f"What is {i}?"}) + "\n" for i in range(14)))
    texts = ["What is 1?", "what is  2", "What is 99?"]
    held_out.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))
    settings = {"dataset_name": rows, "reward_func": None}
    result = audit(tiny_model_path, tmp_path / "out", ["answer_entropy"], eval_dataset_name=held_out, **settings)
    text = f"2 of 3 held-out prompts are in {rows} too, 1 of them but for case, spaces or punctuation."
    assert result["overlap"] == {"prompts": 3, "equal": 1, "near_equal": 1, "text": text}
    assert audit(tiny_model_path, tmp_path / "out", ["answer_entropy"], **settings)["overlap"] is None


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
        (
            [entry("a", 0.5, 0.4), entry("b", 0.9, 0.6)],
            ["Use a: none costs at most 5%", "cannot be told from the cheapest's"],
        ),
        ([entry("a", 0.5, 0.4), entry("b", 0.6, 0.45), entry("c", 0.9, 0.7)], ["Use b: none", "here, c, reaches"]),
        ([entry("a", 0.5, 0.04), entry("free", 0.9, 0.0)], ["Use a:"]),
        ([entry("a", 0.85, 0.04, auc=float("nan"))], ["0.85", "allows 0.92"]),
        ([entry("a", float("nan"), 0.04)], ["No estimator can be recommended"]),
    ],
)
def test_the_advice_is_the_best_agreement_within_the_limit(entries, words):
    sentence = recommend({"reference": {"ceiling": 0.92}, "estimators": entries}, cost_limit=0.05)
    assert all(word in sentence for word in words), sentence
    assert sentence.endswith(".") and "nan" not in sentence
