"""Complexity against full logits in float64, tokenizers that split answers, and the AUC against scikit-learn."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from datasets import Dataset
from sklearn.metrics import roc_auc_score
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from edco_rl.complexity.judge import Judge
from edco_rl.complexity.prediction import prediction
from edco_rl.complexity.scores import SCHEMA, ComplexityScorer, check_single_token_answers
from edco_rl.config import ComplexityConfig
from edco_rl.data.prompts import with_instruction
from edco_rl.data.tokens import RowTokenizer
from edco_rl.engine.transformers_backend import TransformersBackend
from edco_rl.errors import ConfigurationError

from ..tokens import tokenize_prompt
from .conftest import save_numbers_model

ROWS = Dataset.from_list(
    [
        {
            "id": f"q{i}",
            "prompt": [{"role": "user", "content": f"What is {i} + 1?\nA. {i}\nB. {i + 1}\nC. {i + 2}"}],
            "options": [str(i), str(i + 1), str(i + 2)],
            "answer": "B",
            "subject": "odd" if i % 2 else "even",
        }
        for i in range(6)
    ]
)


@pytest.fixture(scope="module")
def tokenizer(tiny_model_path):
    return AutoTokenizer.from_pretrained(tiny_model_path)


@pytest.fixture(scope="module")
def model(tiny_model_path):
    """Two layers whose logits are spread like a trained model's."""
    model = AutoModelForCausalLM.from_pretrained(tiny_model_path, dtype=torch.float64)
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(8.0)
    return model


def score(model, tokenizer, rows=ROWS, reward="multiple_choice", **settings):
    config = ComplexityConfig(**settings)
    scorer = ComplexityScorer(RowTokenizer(tokenizer), config, len(tokenizer), Judge(reward))
    scorer.check(rows)
    table = scorer.score(rows, TransformersBackend.of(model, tokenizer))
    assert table.schema == SCHEMA and table["id"].to_pylist() == rows["id"]
    return table.to_pylist()


def first_token(model, tokenizer, row):
    """Log-probabilities of the first token of the answer, from transformers' logits in float64."""
    prompt = with_instruction(row["prompt"], ComplexityConfig().scoring_quick_answer_instruction)
    with torch.no_grad():
        logits = model(torch.tensor([tokenize_prompt(prompt, tokenizer)])).logits[0, -1]
    return logits.double().log_softmax(-1).numpy()


def test_complexity_is_the_entropy_of_the_first_tokens_logits_in_float64(model, tokenizer):
    whole = score(model, tokenizer, scoring_top_logprobs=len(tokenizer))
    some = score(model, tokenizer)
    for row, exact_row, bounded in zip(ROWS, whole, some, strict=True):
        logprobs = first_token(model, tokenizer, row)
        exact = -(np.exp(logprobs) * logprobs).sum()
        assert exact_row["score"] == pytest.approx(exact, abs=1e-4)
        assert bounded["lower"] - 1e-4 <= exact <= bounded["upper"] + 1e-4
        labels = [[tokenizer.convert_tokens_to_ids(form) for form in (x, f"Ġ{x}")] for x in "ABC"]
        mass = [np.exp(logprobs[forms]).sum() for forms in labels]
        assert exact_row["predicted"] == "ABC"[int(np.argmax(mass))]
        assert exact_row["right"] == (exact_row["predicted"] == "B")
        assert exact_row["label_probability"] == pytest.approx(sum(mass), rel=1e-4)


def test_an_answer_of_several_tokens_is_refused_by_name_with_what_to_do_instead():
    pieces = {"[UNK]": 0, "B": 1, "cap": 2, "##A": 3}
    wordpiece = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordPiece(pieces)), unk_token="[UNK]")
    rows = Dataset.from_list([{"id": "q1", "answer": "B"}, {"id": "q2", "answer": "capA"}])
    check_single_token_answers(rows.select([0]), wordpiece)
    with pytest.raises(ConfigurationError) as error:
        check_single_token_answers(rows, wordpiece)
    for part in (
        "'capA' of row 'q2' is 2 tokens: ['cap', '##A']",
        "estimator to prefix_entropy",
        "scoring_prefix_tokens to 2",
    ):
        assert part in str(error.value)


def test_every_option_counts_not_only_the_right_one(tokenizer):
    pieces = {"[UNK]": 0, "A": 1}
    wordpiece = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordPiece(pieces)), unk_token="[UNK]")
    rows = Dataset.from_list([{"id": "q1", "answer": "A", "options": ["yes", "no"]}])
    with pytest.raises(ConfigurationError, match="the answer 'B' of row 'q1'"):
        check_single_token_answers(rows, wordpiece)
    check_single_token_answers(rows, tokenizer)


def test_answers_of_several_tokens_are_scored_with_prefix_entropy(model, tokenizer):
    numbers = ROWS.remove_columns(["options"]).map(lambda row: {"answer": "1234567"})
    with pytest.raises(ConfigurationError, match="'1234567' of row 'q0' is 7 tokens"):
        score(model, tokenizer, numbers)
    settings = {"estimator": "prefix_entropy", "scoring_prefix_tokens": 7, "answer_max_tokens": 2}
    found = score(model, tokenizer, numbers, "math", **settings)
    assert all(row["score"] > 0 and row["right"] is not None and row["label_probability"] is None for row in found)


def numbered_rows(count, options=2):
    return Dataset.from_list(
        [
            {
                "id": f"q{i}",
                "prompt": [{"role": "user", "content": f"Question {i}. Is it even?\n1. yes\n2. no"}],
                "options": ["yes", "no", "perhaps"][:options],
                "answer": str(i % options + 1),
            }
            for i in range(count)
        ]
    )


def test_the_greedy_first_token_is_the_answer_or_the_row_is_left_out_and_counted(tiny_model_path, tmp_path):
    rows, settings = numbered_rows(60), {"answer_from": "first_token", "answer_unknown": "0"}
    quick = ComplexityConfig().scoring_quick_answer_instruction
    path = save_numbers_model(
        tiny_model_path, tmp_path, [with_instruction(prompt, quick) for prompt in rows["prompt"]]
    )
    tokenizer = AutoTokenizer.from_pretrained(path)
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float64)
    found = score(model, tokenizer, rows, **settings)
    greedy = [tokenizer.decode([int(first_token(model, tokenizer, row).argmax())]).strip() for row in rows]
    assert {"0", "1", "2", "3", "all"} == set(greedy)
    assert [one["predicted"] for one in found] == greedy
    status = {"0": "unknown", "1": "answered", "2": "answered"}  # the rows have no third option
    assert [one["status"] for one in found] == [status.get(answer, "invalid") for answer in greedy]
    right = [a == row["answer"] if a in "12" else None for a, row in zip(greedy, rows, strict=True)]
    assert [one["right"] for one in found] == right
    predicted = prediction(pa.Table.from_pylist(found, schema=SCHEMA), {}, seed=0)
    kept = [one for one in right if one is not None]
    assert predicted["groups"]["all"]["rows"] == len(kept)
    assert predicted["groups"]["all"]["accuracy"] == pytest.approx(np.mean(kept))
    unknown = greedy.count("0")
    assert predicted["left_out"] == {"invalid": 60 - len(kept) - unknown, "unknown": unknown}


def test_numbers_are_labels_like_letters(model, tokenizer):
    for row, one in zip(numbered_rows(6, 3), score(model, tokenizer, numbered_rows(6, 3)), strict=True):
        logprobs = first_token(model, tokenizer, row)
        mass = [np.exp(logprobs[tokenizer.convert_tokens_to_ids(label)]) for label in "123"]
        assert one["predicted"] == "123"[int(np.argmax(mass))] and one["right"] == (one["predicted"] == row["answer"])
        assert one["label_probability"] == pytest.approx(sum(mass), rel=1e-4)


def test_ten_options_are_more_than_one_token_can_name(model, tokenizer):
    rows = numbered_rows(2).map(lambda row: {"options": [f"{i}" for i in range(10)], "answer": "10"})
    with pytest.raises(ConfigurationError, match="the answer '10' of row 'q0' is 2 tokens"):
        score(model, tokenizer, rows)
    assert {one["right"] for one in score(model, tokenizer, rows, answer_from="first_token")} <= {False, None}


def test_a_first_token_needs_options_and_an_estimator_of_one_token(model, tokenizer):
    with pytest.raises(ConfigurationError, match="answer_from first_token is for multiple choice"):
        score(model, tokenizer, ROWS.remove_columns("options"), answer_from="first_token")
    with pytest.raises(ConfigurationError, match="set estimator to answer_entropy or option_entropy"):
        score(model, tokenizer, estimator="prefix_entropy", answer_from="first_token")


def table(**columns):
    count = len(columns["id"])
    columns |= {"status": columns.get("status", ["answered"] * count)}
    return pa.table({field.name: columns.get(field.name, [None] * count) for field in SCHEMA}, schema=SCHEMA)


def test_rivals_are_judged_by_their_own_answers_where_they_have_some():
    rng = np.random.default_rng(1)
    right, own = rng.random(100) < 0.5, rng.random(100) < 0.5
    status = np.where(np.arange(100) < 80, "answered", "invalid")
    scores = table(id=[str(i) for i in range(100)], score=rng.random(100), right=right, status=status)
    chain, rating = rng.random(100), rng.choice([0.25, 0.5, 0.75], 100)
    missing = [None if i % 10 == 0 else value for i, value in enumerate(chain.tolist())]
    rivals = {
        "chain": pa.table({"id": scores["id"], "right": own, "tokens": np.arange(100), "mean": missing}),
        "reasoning_steps": pa.table({"id": scores["id"], "rating": rating}),
    }
    found = prediction(scores, rivals, seed=0)
    assert set(found["rivals"]) == {"chain_mean", "reasoning_steps_rating"} and found["left_out"] == {"invalid": 20}
    known = np.arange(100) % 10 > 0
    assert found["rivals"]["chain_mean"]["rows"] == 90
    assert found["rivals"]["chain_mean"]["wrong_answer_auc"]["value"] == pytest.approx(
        roc_auc_score(~own[known], chain[known])
    )
    assert found["rivals"]["reasoning_steps_rating"]["wrong_answer_auc"]["value"] == pytest.approx(
        roc_auc_score(~right[:80], rating[:80])
    )


def test_the_auc_is_scikit_learns_over_all_rows_and_each_subject():
    rng = np.random.default_rng(0)
    score = rng.integers(0, 12, 200).astype(float)
    right = rng.random(200) < 1 / (1 + np.exp(score / 4 - 1))
    subject = np.array(["radio", "core"])[rng.integers(0, 2, 200)]
    scores = table(id=[str(i) for i in range(200)], subject=subject, score=score, right=right)
    found = prediction(scores, {}, seed=1)
    for name, chosen in {"all": right | True, "radio": subject == "radio", "core": subject == "core"}.items():
        group = found["groups"][name]
        assert group["wrong_answer_auc"]["value"] == pytest.approx(roc_auc_score(~right[chosen], score[chosen]))
        assert (
            group["wrong_answer_auc"]["low"] < group["wrong_answer_auc"]["value"] < group["wrong_answer_auc"]["high"]
        )
        assert (group["rows"], group["accuracy"]) == (chosen.sum(), pytest.approx(right[chosen].mean()))
    assert found == prediction(scores, {}, seed=1)


def test_a_subject_without_wrong_answers_has_no_auc():
    scores = table(id=["a", "b", "c"], subject=["s"] * 3, score=[0.1, 0.2, 0.3], right=[True, True, True])
    assert prediction(scores, {}, seed=0)["groups"]["all"]["wrong_answer_auc"] is None
