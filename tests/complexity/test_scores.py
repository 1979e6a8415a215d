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
from edco_rl.complexity.scores import SCHEMA, ComplexityScorer, check_single_token_answers, prediction
from edco_rl.config import ComplexityConfig
from edco_rl.data.prompts import with_instruction
from edco_rl.data.tokens import RowTokenizer
from edco_rl.engine.transformers_backend import TransformersBackend
from edco_rl.errors import ConfigurationError

from ..tokens import tokenize_prompt

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


def test_the_auc_is_scikit_learns_over_all_rows_and_each_subject():
    rng = np.random.default_rng(0)
    score = rng.integers(0, 12, 200).astype(float)
    right = rng.random(200) < 1 / (1 + np.exp(score / 4 - 1))
    subject = np.array(["radio", "core"])[rng.integers(0, 2, 200)]
    columns = {"id": [str(i) for i in range(200)], "subject": subject, "score": score, "right": right}
    table = pa.table({field.name: columns.get(field.name, [None] * 200) for field in SCHEMA}, schema=SCHEMA)
    found = prediction(table, seed=1)
    for name, chosen in {"all": right | True, "radio": subject == "radio", "core": subject == "core"}.items():
        group = found["groups"][name]
        assert group["wrong_answer_auc"]["value"] == pytest.approx(roc_auc_score(~right[chosen], score[chosen]))
        assert (
            group["wrong_answer_auc"]["low"] < group["wrong_answer_auc"]["value"] < group["wrong_answer_auc"]["high"]
        )
        assert (group["rows"], group["accuracy"]) == (chosen.sum(), pytest.approx(right[chosen].mean()))
    assert found == prediction(table, seed=1)


def test_a_subject_without_wrong_answers_has_no_auc():
    columns = {"id": ["a", "b", "c"], "subject": ["s"] * 3, "score": [0.1, 0.2, 0.3], "right": [True, True, True]}
    table = pa.table({field.name: columns.get(field.name, [None] * 3) for field in SCHEMA}, schema=SCHEMA)
    assert prediction(table, seed=0)["groups"]["all"]["wrong_answer_auc"] is None
