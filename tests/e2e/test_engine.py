"""A real vLLM server against transformers."""

import numpy as np
import pytest

from edco_rl.config import EstimatorConfig
from edco_rl.errors import ConfigurationError
from edco_rl.engine.client import EngineClient, EngineError
from edco_rl.entropy import PrefixEntropy, TokenLogprobs

from .conftest import largest_difference, tolerance, transformers_logprobs

pytestmark = pytest.mark.engine


def test_greedy_log_probabilities_are_transformers(client, model, tokenizer, tasks):
    prompts = tokenizer(list(tasks["prompt"]))["input_ids"]
    assert largest_difference(client, model, prompts) < tolerance(client)


def test_top_log_probabilities_are_the_largest_ones(client, model, tokenizer, tasks):
    prompts = tokenizer(tasks["prompt"][:4])["input_ids"]
    groups = client.generate(prompts, max_tokens=4, temperature=0.0, top_logprobs=10)
    for prompt, [completion] in zip(prompts, groups, strict=True):
        _, rows = transformers_logprobs(model, prompt, completion.token_ids)
        expected = -np.sort(-rows, axis=1)[:, :10]
        assert completion.top_logprobs.shape == expected.shape
        np.testing.assert_allclose(completion.top_logprobs, expected, atol=2 * tolerance(client))


def test_many_prompts_come_back_in_order(client, tokenizer):
    prompts = tokenizer([f"{i} + 1 =" for i in range(150)])["input_ids"]
    few = client.generate(prompts[100:103], max_tokens=2, temperature=0.0)
    many = client.generate(prompts, max_tokens=2, n=2, temperature=1.0, top_p=0.001)
    assert len(many) == 150 and all(len(group) == 2 for group in many)
    assert [group[0].token_ids for group in many[100:103]] == [group[0].token_ids for group in few]


def test_prefix_entropy_is_the_exact_one_within_its_bounds(client, model, tokenizer, tasks):
    """The paper's score from 20 log-probabilities against full-vocabulary logits, on real prompts."""
    prompts = tokenizer(list(tasks["prompt"]))["input_ids"]
    estimator = PrefixEntropy(EstimatorConfig(scoring_prefix_tokens=4, scoring_top_logprobs=20))
    found, exact = [], []
    groups = client.generate(prompts, max_tokens=4, temperature=0.0, top_logprobs=20)
    for prompt, [completion] in zip(prompts, groups, strict=True):
        _, rows = transformers_logprobs(model, prompt, completion.token_ids)
        score = estimator.score([TokenLogprobs(completion.logprobs, completion.top_logprobs)], rows.shape[1])
        entropy = -(np.exp(rows) * rows).sum(1).mean()
        slack = tolerance(client)
        assert score.lower - slack <= entropy <= score.upper + slack
        found.append(score.value)
        exact.append(entropy)
    assert np.abs(np.subtract(found, exact)).mean() < 0.05
    assert np.corrcoef(found, exact)[0, 1] > 0.99


def test_a_seed_is_refused(client):
    with pytest.raises(ConfigurationError, match="seed"):
        client.generate([[1, 2]], max_tokens=1, seed=0)


def test_the_servers_own_complaint_is_passed_on(client):
    with pytest.raises(EngineError, match="answered /v1/completions with 400"):
        client.generate([[1, 2]], max_tokens=1, top_logprobs=100_000)


def test_a_server_that_is_not_there_is_named():
    with pytest.raises(EngineError, match=r"No answer from the vLLM server at http://127\.0\.0\.1:9"):
        EngineClient("http://127.0.0.1:9")
