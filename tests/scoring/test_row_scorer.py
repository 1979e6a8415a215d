"""Every estimator on the model itself, without an engine, against full logits in float64."""

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from edco_rl.config import EstimatorConfig
from edco_rl.data.prompts import with_instruction
from edco_rl.data.tokens import RowTokenizer
from edco_rl.engine.protocol import Sampling
from edco_rl.engine.transformers_backend import TransformersBackend
from edco_rl.errors import ConfigurationError
from edco_rl.scoring import RowScorer
from edco_rl.scoring.labels import LabelTokens

from ..conftest import TINY_VOCABULARY
from ..tokens import tokenize_prompt

ROWS = [
    {"prompt": "2 + 2 =", "options": ["3", "4"], "answer": " 4"},
    {
        "prompt": [{"role": "user", "content": "Name a colour of the flag of France.\nA. green\nB. blue\nC. black"}],
        "options": ["green", "blue", "black"],
        "completion": [{"role": "assistant", "content": "B. It is blue, white and red."}],
    },
    {"prompt": "Once upon a time there was a", "options": ["king", "queen", "ant", "fly"], "completion": " king."},
]


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


def score(model, tokenizer, name, rows=ROWS, batch_size=2, **settings):
    scorer = RowScorer(RowTokenizer(tokenizer), EstimatorConfig(estimator=name, **settings))
    backend = TransformersBackend(model, tokenizer.pad_token_id, [tokenizer.eos_token_id], batch_size)
    return scorer.score(scorer.encode(rows), backend)


def distributions(model, ids, count):
    """Log-probabilities of the last `count` next-token distributions of a sequence, in float64."""
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0, -count:].double().log_softmax(-1).numpy()


def entropy(logprobs):
    return -(np.exp(logprobs) * logprobs).sum(-1)


def greedy(model, ids, tokens, eos):
    rows = []
    for _ in range(tokens):
        rows.append(distributions(model, ids, 1)[0])
        ids = [*ids, int(rows[-1].argmax())]
        if ids[-1] == eos:
            break
    return np.array(rows)


@pytest.mark.parametrize(("name", "tokens", "quick"), [
    ("prefix_entropy", 3, True), ("prefix_entropy", 5, False), ("sequence_entropy", 6, False),
    ("answer_entropy", 1, True), ("answer_entropy", 1, False),
])  # fmt: skip
@pytest.mark.parametrize("top", [2, TINY_VOCABULARY])
def test_entropy_along_the_greedy_answer_is_exact_within_its_bounds(model, tokenizer, name, tokens, quick, top):
    settings = {
        "scoring_prefix_tokens": tokens,
        "scoring_sequence_tokens": tokens,
        "scoring_quick_answer": quick,
        "scoring_top_logprobs": top,
    }
    found = score(model, tokenizer, name, **settings)
    instruction = EstimatorConfig().scoring_quick_answer_instruction
    for row, result in zip(ROWS, found, strict=True):
        prompt = with_instruction(row["prompt"], instruction) if quick else row["prompt"]
        rows = greedy(model, tokenize_prompt(prompt, tokenizer), tokens, tokenizer.eos_token_id)
        exact = entropy(rows).mean()
        assert result.lower - 1e-4 <= exact <= result.upper + 1e-4
        assert result.tokens == len(rows)
        if top == TINY_VOCABULARY:
            assert result.value == pytest.approx(exact, abs=1e-4)


@pytest.mark.parametrize("quick", [True, False])
def test_option_entropy_is_that_of_the_labels_with_and_without_a_space(model, tokenizer, quick):
    found = score(model, tokenizer, "option_entropy", scoring_quick_answer=quick)
    for row, result in zip(ROWS, found, strict=True):
        prompt = (
            with_instruction(row["prompt"], EstimatorConfig().scoring_quick_answer_instruction)
            if quick
            else row["prompt"]
        )
        p = np.exp(distributions(model, tokenize_prompt(prompt, tokenizer), 1)[0])
        labels = "ABCD"[: len(row["options"])]
        mass = np.array([sum(p[tokenizer.convert_tokens_to_ids(form)] for form in (x, f"Ġ{x}")) for x in labels])
        mass /= mass.sum()
        assert result.value == pytest.approx(-(mass * np.log(mass)).sum(), abs=1e-5)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_perplexity_is_that_of_the_reference_answer(model, tokenizer, batch_size):
    found = score(model, tokenizer, "perplexity", batch_size=batch_size)
    texts = [" 4", "B. It is blue, white and red.", " king."]
    for row, text, result in zip(ROWS, texts, found, strict=True):
        prompt = tokenize_prompt(row["prompt"], tokenizer)
        reference = [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]
        rows = distributions(model, prompt + reference, len(reference) + 1)[:-1]
        expected = -rows[np.arange(len(reference)), reference].mean()
        assert result.value == pytest.approx(expected, abs=1e-5)
        assert result.tokens == len(reference)


def test_surprisal_is_that_of_the_reference_answer_without_its_end(model, tokenizer):
    texts = [" 4", "B. It is blue, white and red.", " king."]
    for row, text, result in zip(ROWS, texts, score(model, tokenizer, "surprisal"), strict=True):
        prompt, answer = tokenize_prompt(row["prompt"], tokenizer), tokenizer(text)["input_ids"]
        rows = distributions(model, prompt + answer, len(answer) + 1)[:-1]
        assert result.value == pytest.approx(-rows[np.arange(len(answer)), answer].sum(), abs=1e-5)
        assert result.tokens == len(answer)


def test_sampled_estimates_agree_with_the_exact_entropy_of_the_first_token(model, tokenizer):
    """With one token, the mean of -log p over samples estimates a distribution's entropy, and its error is known."""
    torch.manual_seed(0)
    row = {"prompt": "2 + 2 ="}
    exact = entropy(distributions(model, tokenizer("2 + 2 =")["input_ids"], 1)).item()
    settings = {
        "scoring_samples": 400,
        "scoring_sequence_tokens": 1,
        "scoring_prefix_tokens": 1,
        "scoring_temperature": 1.0,
    }
    settings |= {"scoring_quick_answer": False, "scoring_top_logprobs": 1000}
    [rollout] = score(model, tokenizer, "rollout_entropy", [row], 400, **settings)
    assert abs(rollout.value - exact) < 4 * rollout.standard_error
    [sequence] = score(model, tokenizer, "sequence_entropy", [row], 400, **settings)
    assert sequence.lower - 1e-4 <= exact <= sequence.upper + 1e-4
    assert sequence.standard_error == pytest.approx(0, abs=1e-6)  # every sample sees the same first distribution


def test_scoring_leaves_the_model_as_it_was(model, tokenizer):
    model.train()
    state = torch.random.get_rng_state()
    score(model, tokenizer, "prefix_entropy", scoring_temperature=1.0)
    score(model, tokenizer, "perplexity")
    assert model.training and torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize(
    ("name", "row", "message"),
    [
        ("option_entropy", {"prompt": "a"}, "needs multiple-choice rows with a column 'options'"),
        ("perplexity", {"prompt": "a"}, "needs a column 'completion' or 'answer'"),
    ],
)
def test_a_data_set_without_the_column_an_estimator_needs_is_refused(tokenizer, name, row, message):
    with pytest.raises(ConfigurationError, match=message):
        RowScorer(RowTokenizer(tokenizer), EstimatorConfig(estimator=name)).check_columns(list(row))


@pytest.mark.parametrize(
    ("name", "row", "message"),
    [
        ("option_entropy", {"prompt": "a", "options": ["x"], "id": "q7"}, "row 'q7' has no two options"),
        ("perplexity", {"prompt": "a b c", "answer": None}, "the row with prompt 'a b c' has no reference answer"),
    ],
)
def test_a_row_without_what_an_estimator_needs_is_named(tokenizer, name, row, message):
    with pytest.raises(ConfigurationError, match=message):
        RowScorer(RowTokenizer(tokenizer), EstimatorConfig(estimator=name)).encode([row])


def word_pieces(*vocabulary):
    pieces = WordPiece({token: number for number, token in enumerate(vocabulary)}, unk_token="[UNK]")
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(pieces), unk_token="[UNK]")


def test_a_label_without_a_token_of_its_own_is_refused_by_name():
    found = LabelTokens(word_pieces("[UNK]", "A", "Option", "##B"))
    assert found("A") == [1]
    for label in ("B", "OptionB"):  # unknown; two tokens
        with pytest.raises(
            ConfigurationError, match=f"no single token of the tokenizer is the option label '{label}'"
        ):
            found(label)


def test_samples_differ_from_call_to_call(model, tokenizer):
    backend = TransformersBackend(model, tokenizer.pad_token_id, [tokenizer.eos_token_id])
    prompts = tokenizer(["Once upon a time"])["input_ids"]
    first, second = (backend.generate(prompts, Sampling(8))[0][0].token_ids for _ in range(2))
    assert first != second
