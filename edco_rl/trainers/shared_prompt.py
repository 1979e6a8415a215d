"""Log-probabilities of completions with each prompt computed once, however many completions it has.

A group repeats its prompt for every completion. Where prompts are longer than completions, most of a forward and
backward pass computes the same keys and values again and again; here they are computed once and shared.
"""

from typing import Any, NamedTuple

import torch


class CompletionOutput(NamedTuple):
    """What a forward pass says about the tokens of B completions of length T.

    Attributes:
        logprobs (`torch.Tensor`):
            Log-probabilities in nats, shape (B, T).
        entropies (`torch.Tensor`):
            Entropies of the next-token distributions in nats, shape (B, T), without gradient.
        hidden_states (`torch.Tensor`):
            Last hidden states each token was predicted from, shape (B, T, H).
    """

    logprobs: torch.Tensor
    entropies: torch.Tensor
    hidden_states: torch.Tensor


def completion_logprobs(
    model: Any,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    completion_length: int,
    *,
    temperature: float,
) -> CompletionOutput:
    """Per-token log-probabilities, entropies and hidden states of completions, differentiable.

    Equal, up to rounding, to a forward pass over the whole sequences.

    Args:
        model (`PreTrainedModel` or `PeftModel`):
            The policy, not wrapped for several processes.
        input_ids (`torch.Tensor`):
            Left-padded prompts followed by right-padded completions, shape (B, P + T).
        attention_mask (`torch.Tensor`):
            1 for tokens and 0 for padding, shape (B, P + T).
        completion_length (`int`):
            T, in tokens.
        temperature (`float`):
            Logits are divided by it.
    """
    causal_model = model.get_base_model() if hasattr(model, "get_base_model") else model
    backbone, head = causal_model.base_model, causal_model.get_output_embeddings()
    prompt_length = input_ids.shape[1] - completion_length
    completion_ids = input_ids[:, prompt_length:]
    # A padded prompt is one with another mask: both tell prompts apart.
    prompts = torch.cat([input_ids, attention_mask], dim=1).view(len(input_ids), 2, -1)[:, :, :prompt_length]
    unique, group = torch.unique(prompts, dim=0, return_inverse=True)

    prompt_output = backbone(input_ids=unique[:, 0], attention_mask=unique[:, 1], use_cache=True)
    cache = prompt_output.past_key_values
    cache.batch_select_indices(group)
    # The last prompt token predicts the first completion token; the last completion token predicts nothing.
    hidden = prompt_output.last_hidden_state[group, -1:]
    if completion_length > 1:
        completion_output = backbone(
            input_ids=completion_ids[:, :-1],
            attention_mask=attention_mask[:, :-1],
            past_key_values=cache,
            use_cache=True,
        )
        hidden = torch.cat([hidden, completion_output.last_hidden_state], dim=1)
    logprobs = (head(hidden).float() / temperature).log_softmax(-1)
    with torch.no_grad():
        entropies = -(logprobs.exp() * logprobs).sum(-1)
    return CompletionOutput(logprobs.gather(-1, completion_ids.unsqueeze(-1)).squeeze(-1), entropies, hidden)
