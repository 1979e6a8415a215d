"""Log-probabilities, entropies and gradients of completions, against a forward pass over whole sequences."""

import contextlib

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from edco_rl.trainers.shared_prompt import completion_logprobs

TEMPERATURE, PROMPT, COMPLETION = 0.7, 5, 4


@pytest.mark.parametrize(("mixed", "tolerance"), [(False, 1e-5), (True, 0.05)])
def test_prompts_computed_once_give_what_whole_sequences_give(mixed, tolerance):
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=97, **sizes))
    ids = torch.randint(3, 97, (6, PROMPT + COMPLETION))
    ids[:, :PROMPT] = ids[::3, :PROMPT].repeat_interleave(3, 0)
    mask = torch.ones_like(ids)
    mask[:3, :2] = mask[1, PROMPT + 2 :] = mask[4, PROMPT + 1 :] = 0
    of_tokens, weights = mask[:, PROMPT:], torch.randn(6, COMPLETION)

    positions = (mask.cumsum(1) - 1).clamp(min=0)
    logits = model(input_ids=ids, attention_mask=mask, position_ids=positions).logits[:, PROMPT - 1 : -1]
    every = (logits / TEMPERATURE).log_softmax(-1)
    expected = every.gather(-1, ids[:, PROMPT:, None]).squeeze(-1) * of_tokens
    (expected * weights).sum().backward()
    gradients = [parameter.grad for parameter in model.parameters()]
    model.zero_grad()

    with torch.autocast("cpu", torch.bfloat16) if mixed else contextlib.nullcontext():
        found = completion_logprobs(model, ids, mask, COMPLETION, temperature=TEMPERATURE)
    assert found.logprobs.dtype == found.entropies.dtype == torch.float32
    torch.testing.assert_close(found.logprobs, expected, atol=tolerance, rtol=0)
    torch.testing.assert_close(found.entropies, -(every.exp() * every).sum(-1) * of_tokens, atol=tolerance, rtol=0)
    (found.logprobs * weights).sum().backward()
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, atol=tolerance * 2, rtol=0)
