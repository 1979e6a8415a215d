"""A real vLLM server against transformers."""

import time

import numpy as np
import psutil
import pytest
import torch

from edco_rl.config import EstimatorConfig
from edco_rl.engine import EngineError, Sampling
from edco_rl.engine.client import EngineClient
from edco_rl.entropy import PrefixEntropy, TokenLogprobs
from edco_rl.errors import ConfigurationError

from ..engine.formulas import sampled_logprobs
from .conftest import TOLERANCE, largest_difference, transformers_logprobs

pytestmark = pytest.mark.engine


def test_greedy_log_probabilities_are_transformers(client, model, tokenizer, tasks):
    prompts = tokenizer(list(tasks["prompt"]))["input_ids"]
    assert largest_difference(client, model, prompts) < TOLERANCE


def test_top_log_probabilities_are_the_largest_ones(client, model, tokenizer, tasks):
    prompts = tokenizer(tasks["prompt"][:4])["input_ids"]
    groups = client.generate(prompts, Sampling(4, temperature=0.0, top_logprobs=10))
    for prompt, [completion] in zip(prompts, groups, strict=True):
        _, rows = transformers_logprobs(model, prompt, completion.token_ids)
        expected = -np.sort(-rows, axis=1)[:, :10]
        assert completion.top_logprobs.shape == expected.shape
        np.testing.assert_allclose(completion.top_logprobs, expected, atol=2 * TOLERANCE)


@pytest.mark.parametrize(
    "sampling",
    [
        {"temperature": 0.5},
        {"temperature": 2.0, "top_p": 0.7},
        {"temperature": 1.0, "repetition_penalty": 1.5},
        {"temperature": 0.0, "repetition_penalty": 1.5},
        {"temperature": 1.0, "presence_penalty": 1.5, "frequency_penalty": 0.5},
        {"temperature": 2.0, "top_p": 0.7, "top_k": 9, "min_p": 0.01, "repetition_penalty": 1.3},
    ],
    ids=str,
)
def test_log_probabilities_are_those_of_the_distribution_sampled_from(client, model, tokenizer, tasks, sampling):
    """The same formulas that the backend without an engine is held to."""
    prompts = tokenizer(tasks["prompt"][:4])["input_ids"]
    sampling = Sampling(4, top_logprobs=5, **sampling)
    with torch.no_grad():
        for prompt, group in zip(prompts, client.generate(prompts, sampling), strict=True):
            for completion in group:
                tokens = [*prompt, *completion.token_ids]
                logits = model(torch.tensor([tokens])).logits[0].double().numpy()
                for position, token in enumerate(completion.token_ids, start=len(prompt)):
                    expected = sampled_logprobs(logits[position - 1], prompt, tokens[len(prompt) : position], sampling)
                    found = completion.logprobs[position - len(prompt)]
                    assert found == pytest.approx(expected[token], abs=4 * TOLERANCE)
                    largest = -np.sort(-expected)[:5]
                    top = completion.top_logprobs[position - len(prompt)]
                    np.testing.assert_allclose(top[largest > -50], largest[largest > -50], atol=4 * TOLERANCE)


def test_log_probabilities_can_be_those_before_temperature_and_top_p(client, model, tokenizer, tasks):
    prompts = tokenizer(tasks["prompt"][:4])["input_ids"]
    sampling = Sampling(4, n=2, temperature=0.7, top_p=0.7, top_logprobs=5, model_logprobs=True)
    for prompt, group in zip(prompts, client.generate(prompts, sampling), strict=True):
        for completion in group:
            own, rows = transformers_logprobs(model, prompt, completion.token_ids)
            np.testing.assert_allclose(completion.logprobs, own, atol=2 * TOLERANCE)
            np.testing.assert_allclose(completion.top_logprobs, -np.sort(-rows)[:, :5], atol=2 * TOLERANCE)


def test_a_server_sleeps_between_requests(client, tokenizer):
    """vLLM's worker would poll for a second, on a core that the trainer needs."""

    def seconds_of_cores():
        times = [process.cpu_times() for process in psutil.Process().children(recursive=True)]
        return sum(time.user + time.system for time in times)

    client.generate(tokenizer(["One and one are"])["input_ids"], Sampling(1))
    time.sleep(0.1)
    before = seconds_of_cores()
    time.sleep(0.6)
    assert seconds_of_cores() - before < 0.3


def test_many_prompts_come_back_in_order(client, tokenizer):
    prompts = tokenizer([f"{i} + 1 =" for i in range(150)])["input_ids"]
    few = client.generate(prompts[100:103], Sampling(2, temperature=0.0))
    many = client.generate(prompts, Sampling(2, n=2, top_p=0.001))
    assert len(many) == 150 and all(len(group) == 2 for group in many)
    assert [group[0].token_ids for group in many[100:103]] == [group[0].token_ids for group in few]


def test_prefix_entropy_is_the_exact_one_within_its_bounds(client, model, tokenizer, tasks):
    """The paper's score from 20 log-probabilities against full-vocabulary logits, on real prompts."""
    prompts = tokenizer(list(tasks["prompt"]))["input_ids"]
    estimator = PrefixEntropy(EstimatorConfig(scoring_prefix_tokens=4, scoring_top_logprobs=20))
    found, exact = [], []
    groups = client.generate(prompts, Sampling(4, temperature=0.0, top_logprobs=20))
    for prompt, [completion] in zip(prompts, groups, strict=True):
        _, rows = transformers_logprobs(model, prompt, completion.token_ids)
        score = estimator.score([TokenLogprobs(completion.logprobs, completion.top_logprobs)], rows.shape[1])
        entropy = -(np.exp(rows) * rows).sum(1).mean()
        assert score.lower - TOLERANCE <= entropy <= score.upper + TOLERANCE
        found.append(score.value)
        exact.append(entropy)
    assert np.abs(np.subtract(found, exact)).mean() < 0.05
    assert np.corrcoef(found, exact)[0, 1] > 0.99


def test_a_seed_is_refused(client):
    with pytest.raises(ConfigurationError, match="seed"):
        client.generate([[1, 2]], Sampling(1, extra={"seed": 0}))


def test_the_servers_own_complaint_is_passed_on(client):
    with pytest.raises(EngineError, match="answered /v1/completions with 400"):
        client.generate([[1, 2]], Sampling(1, top_logprobs=100_000))


def test_a_server_that_is_not_there_is_named():
    with pytest.raises(EngineError, match=r"No answer from the vLLM server at http://127\.0\.0\.1:9"):
        EngineClient("http://127.0.0.1:9")


def test_a_real_server_is_reached_past_a_proxy_and_with_a_word_for_what_its_address_lacks(server_url, monkeypatch):
    for variable in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")  # nobody listens there
    client = EngineClient(server_url)
    [[completion]] = client.generate([[1, 2]], Sampling(2))
    assert len(completion.token_ids) <= 2 and client.max_model_len() == 512
    client.close()
    with pytest.raises(EngineError, match="engine_url is the server's base URL: without /vllm"):
        EngineClient(f"{server_url}/vllm")
    with pytest.raises(EngineError, match=f"does not speak https: is it {server_url}"):
        EngineClient(server_url.replace("http", "https", 1))
