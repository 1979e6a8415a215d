"""Log-probabilities of completions with each prompt computed once, however many completions it has.

A group repeats its prompt for every completion. Where prompts are longer than completions, most of a forward and
backward pass computes the same keys and values again and again; here they are computed once and shared.
"""

from typing import Any, NamedTuple

import torch

# Rows of a vocabulary whose probabilities fit into a processor's cache.
_ROWS_AT_A_TIME = 16


class CompletionOutput(NamedTuple):
    """What a forward pass says about the tokens of B completions of length T.

    Attributes:
        logprobs (`torch.Tensor`):
            Log-probabilities in nats, shape (B, T); 0 for padding.
        entropies (`torch.Tensor`):
            Entropies of the next-token distributions in nats, shape (B, T), without gradient; 0 for padding.
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
    is_token = attention_mask[:, prompt_length:].bool()
    logits = head(hidden[is_token])  # of padding nobody asks
    logprobs, entropies = TokenLogprobs.apply(logits.float(), completion_ids[is_token], temperature)
    padded = torch.zeros_like(is_token, dtype=torch.float32)
    return CompletionOutput(
        padded.masked_scatter(is_token, logprobs), padded.masked_scatter(is_token, entropies), hidden
    )


class TokenLogprobs(torch.autograd.Function):
    """Log-probabilities of N tokens in nats, differentiable, and entropies of their distributions, both of shape (N,).

    Of the size of the logits, shape (N, V), one tensor is kept, and becomes their gradient: it goes backward once.
    """

    @staticmethod
    def forward(
        ctx: Any, logits: torch.Tensor, token_ids: torch.Tensor, temperature: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        logprobs = (logits / temperature).log_softmax(-1)
        parts = logprobs.split(_ROWS_AT_A_TIME)
        entropies = torch.cat([-(rows.exp() * rows).sum(-1) for rows in parts])
        ctx.logprobs, ctx.token_ids, ctx.temperature = logprobs, token_ids.unsqueeze(-1), temperature
        ctx.mark_non_differentiable(entropies)
        return logprobs.gather(-1, ctx.token_ids).squeeze(-1), entropies

    @staticmethod
    def backward(ctx: Any, of_logprobs: torch.Tensor, _: Any) -> tuple[torch.Tensor, None, None]:
        gradient, ctx.logprobs = ctx.logprobs.exp_(), None
        scale = of_logprobs.unsqueeze(-1) / ctx.temperature
        return gradient.mul_(-scale).scatter_add_(-1, ctx.token_ids, scale), None, None
