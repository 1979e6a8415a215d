"""Every estimator over a real vLLM server against transformers' full-vocabulary logits in float64."""

import itertools
import json
import subprocess
import sys
from dataclasses import astuple, replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from scipy.special import log_softmax
from transformers import LogitsProcessor, LogitsProcessorList

from edco_rl.cli import main
from edco_rl.config import EstimatorConfig
from edco_rl.data.prompts import with_instruction
from edco_rl.data.tokens import RowTokenizer
from edco_rl.engine import Sampling
from edco_rl.engine.transformers_backend import TransformersBackend
from edco_rl.entropy import available_estimators
from edco_rl.scoring import RowScorer

from ..tokens import tokenize_prompt
from .conftest import TOLERANCE, transformers_logprobs

pytestmark = pytest.mark.engine

CAPITALS = [("France", ["Rome", "Paris"]), ("Peru", ["Lima", "Cusco", "Quito"]), ("Kenya", ["Lagos", "Nairobi"])]
ROWS = [
    {
        "prompt": [
            {
                "role": "user",
                "content": f"What is the capital of {country}?\n"
                + "\n".join(f"{label}. {city}" for label, city in zip("ABC", cities, strict=False)),
            }
        ],
        "options": cities,
        "completion": [{"role": "assistant", "content": f"It is {cities[0]}."}],
    }
    for country, cities in CAPITALS
] + [{"prompt": f"{a} + {a * a} =", "options": ["yes", "no"], "completion": f" {a + a * a}"} for a in range(5)]


def score(client, tokenizer, name, **settings):
    scorer = RowScorer(RowTokenizer(tokenizer), EstimatorConfig(estimator=name, **settings))
    return scorer.score(scorer.encode(ROWS), client)


def prompt_ids(row, tokenizer, quick):
    instruction = EstimatorConfig().scoring_quick_answer_instruction
    return tokenize_prompt(with_instruction(row["prompt"], instruction) if quick else row["prompt"], tokenizer)


@pytest.mark.parametrize(("name", "tokens"), [("prefix_entropy", 4), ("answer_entropy", 1), ("sequence_entropy", 8)])
def test_the_exact_entropy_of_a_greedy_answer_lies_within_the_bounds(client, model, tokenizer, name, tokens):
    found = score(
        client, tokenizer, name, scoring_prefix_tokens=tokens, scoring_sequence_tokens=tokens, scoring_top_logprobs=100
    )
    prompts = [prompt_ids(row, tokenizer, name != "sequence_entropy") for row in ROWS]
    answers = client.generate(prompts, Sampling(tokens, temperature=0.0))
    for prompt, [answer], result in zip(prompts, answers, found, strict=True):
        _, rows = transformers_logprobs(model, prompt, answer.token_ids)
        exact = -(np.exp(rows) * rows).sum(1).mean()
        assert result.lower - TOLERANCE <= exact <= result.upper + TOLERANCE
        assert result.value == pytest.approx(exact, abs=0.1)
        assert result.tokens == len(answer.token_ids)


def test_option_entropy_is_that_of_the_labels_alone(client, model, tokenizer):
    for row, result in zip(ROWS, score(client, tokenizer, "option_entropy"), strict=True):
        _, [logprobs] = transformers_logprobs(model, prompt_ids(row, tokenizer, True), [0])
        labels = "ABC"[: len(row["options"])]
        p = np.exp(logprobs)
        mass = np.array([p[tokenizer.convert_tokens_to_ids([label, f"Ġ{label}"])].sum() for label in labels])
        mass /= mass.sum()
        assert result.value == pytest.approx(-(mass * np.log(mass)).sum(), abs=2 * TOLERANCE)


def test_perplexity_is_that_of_the_reference_answer(client, model, tokenizer):
    for row, result in zip(ROWS, score(client, tokenizer, "perplexity"), strict=True):
        text = row["completion"] if isinstance(row["completion"], str) else row["completion"][0]["content"]
        reference = [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]
        expected, _ = transformers_logprobs(model, prompt_ids(row, tokenizer, False), reference)
        assert result.value == pytest.approx(-expected.mean(), abs=2 * TOLERANCE)
        assert result.tokens == len(reference)


def test_surprisal_and_learnability_are_those_of_writing_the_reference_answer(client, model, tokenizer):
    surprisal, learnability = (score(client, tokenizer, name) for name in ("surprisal", "learnability"))
    for row, *results in zip(ROWS, surprisal, learnability, strict=True):
        text = row["completion"] if isinstance(row["completion"], str) else row["completion"][0]["content"]
        answer = tokenizer(text)["input_ids"]
        expected, _ = transformers_logprobs(model, prompt_ids(row, tokenizer, False), answer)
        assert results[0].value == pytest.approx(-expected.sum(), abs=2 * len(answer) * TOLERANCE)
        probability = np.exp(expected.sum())
        assert results[1].value == pytest.approx(probability * (1 - probability), abs=2 * TOLERANCE)


def test_surprisal_at_the_temperature_of_rollouts_is_that_of_sampling_the_reference(client, model, tokenizer):
    found = score(client, tokenizer, "surprisal", scoring_reference_temperature=0.7)
    for row, result in zip(ROWS, found, strict=True):
        text = row["completion"] if isinstance(row["completion"], str) else row["completion"][0]["content"]
        answer = tokenizer(text)["input_ids"]
        _, rows = transformers_logprobs(model, prompt_ids(row, tokenizer, False), answer)
        exact = -log_softmax(rows / 0.7, axis=1)[np.arange(len(answer)), answer].sum()
        assert result.lower - 0.01 <= exact <= result.upper + 0.01 and abs(result.value - exact) < 0.3


def test_rollout_entropy_is_minus_the_mean_log_probability_of_what_was_sampled(client, model, tokenizer):
    prompts = [prompt_ids(row, tokenizer, False) for row in ROWS]
    scorer = RowScorer(
        RowTokenizer(tokenizer),
        EstimatorConfig(estimator="rollout_entropy", scoring_samples=3, scoring_sequence_tokens=6),
    )
    recorded = Recorder(client)
    found = scorer.score(scorer.encode(ROWS), recorded)
    for prompt, group, result in zip(prompts, recorded.groups, found, strict=True):
        exact = [-transformers_logprobs(model, prompt, c.token_ids)[0].mean() for c in group]
        assert result.value == pytest.approx(np.mean(exact), abs=2 * TOLERANCE)
        assert result.standard_error == pytest.approx(np.std(exact, ddof=1) / np.sqrt(3), abs=2 * TOLERANCE)
        assert result.tokens == sum(len(c.token_ids) for c in group)


IN_PROCESS = """
import json, sys
from transformers import AutoTokenizer
from edco_rl.config import EngineConfig, EstimatorConfig
from edco_rl.data.tokens import RowTokenizer
from edco_rl.engine.colocate import ColocatedEngine
from edco_rl.scoring import RowScorer

model, rows = sys.argv[1], json.loads(sys.argv[2])
config = EngineConfig(engine_mode="colocate", engine_max_model_len=512, engine_dtype="float32")
engine = ColocatedEngine(model, config)
found = {}
# Of so little mass, sampling is greedy: the model's own log-probabilities are those of the greedy answer.
again = {"scoring_temperature": 0.7, "scoring_top_p": 1e-6, "scoring_logprobs": "model"}
for name in ("prefix_entropy", "option_entropy", "perplexity", "rollout_entropy", "read again"):
    own = {"estimator": "prefix_entropy", **again} if name == "read again" else {"estimator": name}
    config = EstimatorConfig(scoring_prefix_tokens=4, scoring_samples=1, scoring_sequence_tokens=4, **own)
    scorer = RowScorer(RowTokenizer(AutoTokenizer.from_pretrained(model)), config)
    scores = scorer.score(scorer.encode(rows), engine)
    found[name] = [[score.value, score.lower, score.upper, score.tokens] for score in scores]
engine.close()
print(json.dumps(found))
"""


@pytest.mark.slow
def test_an_engine_within_the_process_gives_the_scores_of_the_server(client, tokenizer, model_path):
    command = [sys.executable, "-c", IN_PROCESS, model_path, json.dumps(ROWS)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    found = json.loads(done.stdout)  # nothing else is written to it
    for name in ("prefix_entropy", "option_entropy", "perplexity"):
        expected = [
            [s.value, s.lower, s.upper, s.tokens] for s in score(client, tokenizer, name, scoring_prefix_tokens=4)
        ]
        np.testing.assert_allclose(found[name], expected, atol=2 * TOLERANCE)
    np.testing.assert_allclose(found["read again"], found["prefix_entropy"], atol=2 * TOLERANCE)
    assert all(0 < value < 11 for value, *_ in found["rollout_entropy"])


def test_the_command_scores_over_a_server_that_is_there(client, tokenizer, model_path, server_url, tmp_path):
    rows, output = tmp_path / "rows.jsonl", tmp_path / "scores.parquet"
    rows.write_text("".join(json.dumps({"id": f"r{i}", **row}) + "\n" for i, row in enumerate(ROWS)))
    settings = {
        "model_name_or_path": model_path,
        "dataset_name": rows,
        "dataset_format": "prompt",
        "output": output,
        "engine_url": server_url,
        "estimator": "answer_entropy",
        "part_prompts": 3,
    }
    main(["score", *[word for name, value in settings.items() for word in (f"--{name}", str(value))]])
    table = pq.read_table(output).to_pydict()
    assert table["id"] == [f"r{i}" for i in range(len(ROWS))]
    assert set(table["policy_version"]) == {client.weight_version()}
    expected = [result.value for result in score(client, tokenizer, "answer_entropy")]
    np.testing.assert_allclose(table["score"], expected, atol=2 * TOLERANCE)


@pytest.mark.parametrize(
    ("sampling", "penalties"),
    [
        ({"scoring_temperature": 0.0}, {}),
        pytest.param({"scoring_temperature": 2.0}, {}, marks=pytest.mark.slow),
        pytest.param({"scoring_temperature": 1.0, "scoring_top_p": 0.7}, {}, marks=pytest.mark.slow),
        ({"scoring_temperature": 0.7, "scoring_top_p": 0.7, "scoring_logprobs": "model"}, {}),
        pytest.param({"scoring_temperature": 0.0}, {"repetition_penalty": 1.3}, marks=pytest.mark.slow),
        pytest.param({"scoring_temperature": 1.0}, {"presence_penalty": 1.5}, marks=pytest.mark.slow),
        ({"scoring_temperature": 0.5, "scoring_top_p": 0.7}, {"presence_penalty": -0.5, "frequency_penalty": 0.7}),
    ],
    ids=str,
)
def test_scores_without_an_engine_are_those_with_one(client, model, tokenizer, sampling, penalties):
    """Every estimator, of the same prompts and the same tokens; where tokens are sampled, those that sample."""
    sampled = sampling["scoring_temperature"] > 0
    lengths = {"scoring_prefix_tokens": 3, "scoring_sequence_tokens": 5, "scoring_samples": 1 + sampled}
    rows = [*ROWS[:2], *ROWS[3:5]]
    for name in ("prefix_entropy", "sequence_entropy", "rollout_entropy") if sampled else available_estimators():
        scorer = RowScorer(RowTokenizer(tokenizer), EstimatorConfig(estimator=name, **lengths, **sampling))
        encoded, recorder = scorer.encode(rows), Recorder(client, penalties)
        with_engine = scorer.score(encoded, recorder)
        without = TransformersBackend.of(Repeating(model, recorder.groups), tokenizer)
        found = scorer.score(encoded, Recorder(without, penalties))
        for expected, score_ in zip(with_engine, found, strict=True):
            np.testing.assert_allclose(astuple(score_), astuple(expected), atol=4 * TOLERANCE, err_msg=name)


class Recorder:
    """Passes requests on, with penalties, and keeps what was sampled for them."""

    def __init__(self, backend, penalties=None):
        self.backend, self.penalties, self.groups = backend, penalties or {}, []

    def generate(self, prompts, sampling):
        self.groups = self.backend.generate(prompts, replace(sampling, **self.penalties))
        return self.groups

    def read(self, prompts, completions, top_logprobs=0):
        return self.backend.read(prompts, completions, top_logprobs)


class Repeating:
    """A model that writes the tokens of these completions, whatever it would have sampled."""

    def __init__(self, model, groups):
        self.model = model
        self.coming = iter([completion.token_ids for group in groups for completion in group])

    def __getattr__(self, name):
        return getattr(self.model, name)

    def __call__(self, *args, **kwargs):
        return self.model(*args, **kwargs)

    def generate(self, input_ids, logits_processor, **kwargs):
        texts = list(itertools.islice(self.coming, len(input_ids)))
        processors = LogitsProcessorList([*logits_processor, Written(texts, input_ids.shape[1])])
        return self.model.generate(input_ids=input_ids, logits_processor=processors, **kwargs)


class Written(LogitsProcessor):
    """Leaves one token to choose from."""

    def __init__(self, texts, begin):
        self.texts, self.begin = texts, begin

    def __call__(self, input_ids, scores):
        position = input_ids.shape[1] - self.begin
        only = torch.full_like(scores, -torch.inf)
        for row, text in enumerate(self.texts):
            only[row, text[min(position, len(text) - 1)]] = 0.0  # after its end the model pads
        return only
