"""Proximal policy optimization as functions of tensors: rewards a token, advantages, whitening, the value loss.

All tensors are of shape (B, T), completions by tokens. A `mask` is 1 where the policy chose the token and 0 elsewhere:
padding, truncated completions that are left out, tokens of a tool. Statistics over several processes take `reduce`,
which sums a tensor over them.
"""

from collections.abc import Callable
from typing import Any

import torch

Reduce = Callable[[torch.Tensor], torch.Tensor]


def token_rewards(scores: torch.Tensor, mask: torch.Tensor, penalties: torch.Tensor | None = None) -> torch.Tensor:
    """Rewards a token: the score of a completion at its last token, less a penalty at every token.

    Args:
        scores (`torch.Tensor`):
            Score of each completion, shape (B,).
        mask (`torch.Tensor`):
            The policy's tokens, shape (B, T). A row of zeros gets no reward.
        penalties (`torch.Tensor`, *optional*):
            What each token costs, shape (B, T).

    Returns:
        `torch.Tensor`: shape (B, T), zero outside the mask.
    """
    mask = mask.bool()
    tokens_left = mask.flip(1).cumsum(1).flip(1)
    rewards = torch.where(mask & (tokens_left == 1), scores.unsqueeze(1), 0.0)
    return rewards if penalties is None else rewards - penalties.masked_fill(~mask, 0.0)


def generalized_advantages(
    rewards: torch.Tensor, values: torch.Tensor, mask: torch.Tensor, *, gamma: float, lam: float
) -> torch.Tensor:
    """Generalized advantage estimates (Schulman et al. 2015, arXiv 1506.02438, equation 16).

    The state after a completion's last token is terminal: its value is 0. Tokens outside the mask are no steps; the
    estimate passes over them from one token of the policy to the next.

    Args:
        rewards (`torch.Tensor`):
            Reward of each token, shape (B, T).
        values (`torch.Tensor`):
            Value of the state each token was chosen in, shape (B, T).
        mask (`torch.Tensor`):
            The policy's tokens, shape (B, T).
        gamma (`float`):
            Discount a token.
        lam (`float`):
            Weight of longer estimates: 0 is the temporal difference of one token, 1 the return less the value.

    Returns:
        `torch.Tensor`: advantages of shape (B, T), zero outside the mask. Returns, the targets of the value function,
        are the advantages plus the values.
    """
    mask = mask.bool()
    advantages = torch.zeros_like(values)
    advantage = next_value = torch.zeros_like(values[:, 0])
    for t in reversed(range(values.shape[1])):
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        advantage = torch.where(mask[:, t], delta + gamma * lam * advantage, advantage)
        next_value = torch.where(mask[:, t], values[:, t], next_value)
        advantages[:, t] = torch.where(mask[:, t], advantage, 0.0)
    return advantages


def _identity(tensor: torch.Tensor) -> torch.Tensor:
    return tensor


def masked_moments(values: torch.Tensor, mask: torch.Tensor, reduce: Reduce = _identity) -> tuple[torch.Tensor, ...]:
    """Number, mean and variance (of a sample, as in `torch.var`) of the values under a mask, over all processes.

    The variance of fewer than two values is 0.
    """
    kept = values.masked_fill(~mask.bool(), 0.0)
    count, total = reduce(torch.stack([mask.sum().to(values.dtype), kept.sum()]))
    mean = total / count.clamp(min=1.0)
    squares = reduce((values - mean).masked_fill(~mask.bool(), 0.0).square().sum())
    return count, mean, squares / (count - 1).clamp(min=1.0)


def whitening_scale(
    values: torch.Tensor, mask: torch.Tensor, floor: torch.Tensor | float = 0.0, reduce: Reduce = _identity
) -> torch.Tensor:
    """What values are multiplied by to have variance 1, or less where they deviate by less than the floor."""
    _, _, variance = masked_moments(values, mask, reduce)
    smallest = torch.as_tensor(floor, dtype=variance.dtype, device=variance.device).square()
    return torch.rsqrt(torch.maximum(variance, smallest) + 1e-8)


def whiten(
    values: torch.Tensor,
    mask: torch.Tensor,
    *,
    shift_mean: bool = True,
    floor: torch.Tensor | float = 0.0,
    reduce: Reduce = _identity,
) -> torch.Tensor:
    """Values scaled to variance 1, and shifted to mean 0 unless told otherwise; zero outside the mask.

    Args:
        values (`torch.Tensor`), mask (`torch.Tensor`):
            Shapes (B, T).
        shift_mean (`bool`, *optional*, defaults to `True`):
            Whether the mean becomes 0; otherwise it stays what it is.
        floor (`torch.Tensor` or `float`, *optional*, defaults to `0.0`):
            Smallest standard deviation that is scaled to 1: values that deviate less are divided by the floor, and so
            deviate by less than 1 afterwards. TRL's former `PPOTrainer` has none.
        reduce (`Callable`, *optional*):
            Sums a tensor over processes.

    Returns:
        `torch.Tensor`: shape (B, T).
    """
    _, mean, _ = masked_moments(values, mask, reduce)
    whitened = (values - mean) * whitening_scale(values, mask, floor, reduce)
    return (whitened if shift_mean else whitened + mean).masked_fill(~mask.bool(), 0.0)


def root_mean_square(values: torch.Tensor, mask: torch.Tensor, reduce: Reduce = _identity) -> torch.Tensor:
    """Root of the mean of the squared values under a mask, over all processes."""
    return masked_moments(values.square(), mask, reduce)[1].sqrt()


def explained_variance(
    values: torch.Tensor, returns: torch.Tensor, mask: torch.Tensor, reduce: Reduce = _identity
) -> float:
    """Share of the variance of the returns that the values predict: 1 is all, 0 no more than a constant does.

    It is below 0 where they predict worse than a constant, and NaN where the returns are all the same.
    """
    _, _, unexplained = masked_moments(returns - values, mask, reduce)
    _, _, total = masked_moments(returns, mask, reduce)
    return (1 - unexplained / total).item() if total > 0 else float("nan")


def value_losses(
    values: torch.Tensor, old_values: torch.Tensor, returns: torch.Tensor, cliprange: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Squared errors of the values, with the value held within `cliprange` of what it was at the rollout.

    The larger of the clipped and the plain error counts, so that clipping only ever takes away a gain (the value loss
    of Schulman et al.'s implementation of PPO, and of TRL's former `PPOTrainer`).

    Args:
        values (`torch.Tensor`):
            Values now, shape (B, T).
        old_values (`torch.Tensor`):
            Values at the rollout, shape (B, T).
        returns (`torch.Tensor`):
            Targets, shape (B, T).
        cliprange (`float`):
            How far a value can move from the one at the rollout.

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: half the squared errors, and whether each was clipped; shapes (B, T).
    """
    clipped = values.clamp(old_values - cliprange, old_values + cliprange)
    plain_error, clipped_error = (values - returns).square(), (clipped - returns).square()
    return 0.5 * torch.maximum(plain_error, clipped_error), clipped_error > plain_error


def sequences(batch: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Ids and attention mask of prompts with their completions, and the length of the completions."""
    input_ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    attention_mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
    return input_ids, attention_mask, batch["completion_ids"].shape[1]


def policy_mask(batch: dict[str, Any]) -> torch.Tensor:
    """1 for the tokens the policy chose, shape (B, T)."""
    mask = batch["completion_mask"]
    return mask * batch["tool_mask"] if "tool_mask" in batch else mask
