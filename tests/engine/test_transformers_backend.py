"""What the backend without an engine says it sampled from, against formulas in float64."""

import copy

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from edco_rl import ConfigurationError
from edco_rl.engine import Sampling
from edco_rl.engine.transformers_backend import TransformersBackend

from .formulas import sampled_logprobs

PAD = 3
PROMPTS = [[5, 6, 7, 8, 9, 10, 11], [12], [13, PAD, 14]]
VOCABULARY = 61


@pytest.fixture(scope="module")
def model():
    """A Llama of random weights whose distributions are neither flat nor certain."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        initializer_range=0.3,
        eos_token_id=1,
        pad_token_id=PAD,
    )
    model = LlamaForCausalLM(config)
    # As many models come: what is asked for stands above it.
    model.generation_config.update(temperature=0.3, top_k=2, top_p=0.3, min_p=0.9, repetition_penalty=1.5)
    return model


def logits(model, tokens):
    """Of the token after these, without padding and in float64."""
    with torch.no_grad():
        return copy.deepcopy(model).double().eval()(torch.tensor([tokens])).logits[0, -1].numpy()


def test_hidden_states_are_the_last_ones_of_each_prompts_last_token(model):
    """Of batches with padding, against transformers' own of each prompt alone."""
    prompts = [*PROMPTS, [7, 8], [9, 10, 11, 12, 13]]
    exact = copy.deepcopy(model).double().eval()
    found = TransformersBackend(exact, PAD, [1], batch_size=2).hidden_states(prompts)
    for states, prompt in zip(found, prompts, strict=True):
        with torch.no_grad():
            expected = exact(torch.tensor([prompt]), output_hidden_states=True).hidden_states[-1][0, -1]
        assert states == pytest.approx(expected.numpy(), rel=1e-6, abs=1e-6)
    assert TransformersBackend(model, PAD, [1]).hidden_states([]).shape == (0, 32)


@pytest.mark.parametrize("tokens", [1, 8192])
def test_answers_stand_in_the_order_of_their_prompts_whatever_the_batches(model, monkeypatch, tokens):
    """Greedy ones, against the most probable token of each prompt alone, again and again."""
    monkeypatch.setattr("edco_rl.engine.transformers_backend._TOKENS", tokens)
    prompts = [*PROMPTS, [7, 8], [9, 10, 11, 12, 13], [20]]
    backend = TransformersBackend(copy.deepcopy(model).double(), PAD, [], batch_size=2)
    for prompt, group in zip(prompts, backend.generate(prompts, Sampling(3, 2, temperature=0.0)), strict=True):
        answer = list(prompt)
        for _ in range(3):
            answer.append(int(logits(model, answer).argmax()))
        assert [completion.token_ids for completion in group] == [answer[len(prompt) :]] * 2


@pytest.mark.parametrize(
    "sampling",
    [
        {"temperature": 0.5},
        {"temperature": 1.0},
        {"temperature": 2.0},
        {"temperature": 1.0, "top_p": 0.7},
        {"temperature": 2.0, "top_p": 0.7},
        {"temperature": 0.5, "top_k": 5},
        {"temperature": 2.0, "min_p": 0.1},
        {"temperature": 1.0, "repetition_penalty": 1.7},
        {"temperature": 0.0, "repetition_penalty": 1.7},
        {"temperature": 2.0, "presence_penalty": 1.5},
        {"temperature": 0.5, "frequency_penalty": 1.5},
        {"temperature": 0.0, "repetition_penalty": 1.3, "presence_penalty": -0.5, "frequency_penalty": 1.5},
        {"temperature": 2.0, "top_p": 0.7, "top_k": 9, "min_p": 0.05, "repetition_penalty": 1.3},
    ],
    ids=str,
)
def test_log_probabilities_are_those_of_the_distribution_sampled_from(model, sampling):
    """A batch of prompts of different lengths, so that all but one are padded."""
    torch.manual_seed(1)
    every = Sampling(6, n=2, logprob_token_ids=tuple(range(VOCABULARY)), **sampling)
    groups = TransformersBackend(model, PAD, [1]).generate(PROMPTS, every)
    for prompt, group in zip(PROMPTS, groups, strict=True):
        assert len(group) == 2
        for completion in group:
            for position, token in enumerate(completion.token_ids):
                before = completion.token_ids[:position]
                expected = sampled_logprobs(logits(model, [*prompt, *before]), prompt, before, every)
                np.testing.assert_allclose(completion.top_logprobs[position], expected, atol=1e-4)
                assert completion.logprobs[position] == pytest.approx(expected[token], abs=1e-4)
                assert np.isfinite(expected[token])


@pytest.mark.parametrize("sampling", [{"temperature": 0.7, "top_p": 0.7}, {"repetition_penalty": 1.7, "top_k": 2}])
def test_log_probabilities_can_be_those_before_temperature_and_the_rest(model, sampling):
    torch.manual_seed(1)
    every = Sampling(6, n=3, logprob_token_ids=tuple(range(VOCABULARY)), model_logprobs=True, **sampling)
    for prompt, group in zip(PROMPTS, TransformersBackend(model, PAD, [1]).generate(PROMPTS, every), strict=True):
        for completion in group:
            for position, token in enumerate(completion.token_ids):
                before = completion.token_ids[:position]
                logits_here = logits(model, [*prompt, *before])
                expected = sampled_logprobs(logits_here, prompt, before, Sampling(1, temperature=0.0))
                np.testing.assert_allclose(completion.top_logprobs[position], expected, atol=1e-4)
                assert completion.logprobs[position] == pytest.approx(expected[token], abs=1e-4)
                # It was sampled from the same distribution as ever.
                assert np.isfinite(sampled_logprobs(logits_here, prompt, before, every)[token])


def test_padding_is_not_penalised(model):
    """The padding token is in the third prompt alone."""
    sampling = Sampling(1, temperature=1.0, repetition_penalty=3.0, logprob_token_ids=(PAD,))
    found = [group[0].top_logprobs[0, 0] for group in TransformersBackend(model, PAD, [1]).generate(PROMPTS, sampling)]
    for prompt, value in zip(PROMPTS, found, strict=True):
        assert value == pytest.approx(sampled_logprobs(logits(model, prompt), prompt, [], sampling)[PAD], abs=1e-4)


def test_samples_follow_the_distribution(model):
    torch.manual_seed(2)
    sampling = Sampling(1, n=4000, temperature=2.0, top_p=0.7)
    [group] = TransformersBackend(model, PAD, [1], batch_size=4000).generate([PROMPTS[0]], sampling)
    counts = np.bincount([completion.token_ids[0] for completion in group], minlength=VOCABULARY)
    expected = np.exp(sampled_logprobs(logits(model, PROMPTS[0]), PROMPTS[0], [], sampling))
    assert counts[expected == 0].sum() == 0
    possible = expected > 0
    chi_squared = ((counts[possible] - 4000 * expected[possible]) ** 2 / (4000 * expected[possible])).sum()
    degrees = possible.sum() - 1
    assert degrees > 2 and chi_squared < degrees + 5 * np.sqrt(2 * degrees)


def test_what_only_vllm_does_is_refused(model):
    with pytest.raises(ConfigurationError, match=r"stop: .*use an engine"):
        TransformersBackend(model, PAD, [1]).generate(PROMPTS, Sampling(1, extra={"stop": ["a"]}))


def test_given_completions_are_read_with_the_largest_log_probabilities(model):
    completions = [[20, 21, 22], [23], [24, 25]]
    found = TransformersBackend(model, PAD, [1], batch_size=2).read(PROMPTS, completions, 4)
    for prompt, completion, (own, top) in zip(PROMPTS, completions, found, strict=True):
        rows = [logits(model, prompt + completion[:position]) for position in range(len(completion))]
        exact = np.array([row - np.logaddexp.reduce(row) for row in rows])
        np.testing.assert_allclose(own, exact[np.arange(len(completion)), completion], atol=1e-4)
        np.testing.assert_allclose(top, -np.sort(-exact, axis=1)[:, :4], atol=1e-4)
