"""Rollouts of a generation batch as groups, and the gates groups pass before the optimizer sees them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from ..curriculum import Curriculum, Gate, Outcome
from ..entropy import rollout_entropy


@dataclass(frozen=True)
class Rollout:
    """One completion of a prompt.

    Args:
        prompt_ids (`list[int]`), completion_ids (`list[int]`):
            Token ids.
        completion (`str` or `list[dict]`):
            Its text, or messages.
        logprobs (`list[float]`, *optional*):
            Log-probability of each token under the engine, in nats.
        truncated (`bool`):
            Whether the token limit cut it off.
        rewards (`list[float]`):
            Reward of each function; NaN where it gave none.
    """

    prompt_ids: list[int]
    completion_ids: list[int]
    completion: Any
    logprobs: list[float | None] | None
    truncated: bool
    rewards: list[float]


@dataclass(frozen=True)
class Group:
    """The completions of one prompt, and what the curriculum is told about them."""

    rollouts: tuple[Rollout, ...]
    outcome: Outcome


def make_groups(
    indices: Sequence[int],
    rollouts: Sequence[Rollout],
    *,
    version: int,
    reward_weights: torch.Tensor,
    prefix_tokens: int | None,
) -> list[Group]:
    """Rollouts of all ranks as groups, one for each prompt.

    Args:
        indices (`Sequence[int]`):
            Prompts, as indices into the pool.
        rollouts (`Sequence[Rollout]`):
            As many for each prompt, in the order of the prompts.
        version (`int`):
            Optimizer step of the policy.
        reward_weights (`torch.Tensor`):
            Weight of each reward function, shape (F,).
        prefix_tokens (`int`, *optional*):
            Tokens of a completion its entropy is estimated from.
    """
    size = len(rollouts) // len(indices)
    weights = reward_weights.cpu().numpy()
    groups = []
    for number, index in enumerate(indices):
        members = tuple(rollouts[number * size : (number + 1) * size])
        # A completion that no function scored has no reward, rather than one of zero.
        scored = [rollout.rewards for rollout in members if not np.isnan(rollout.rewards).all()]
        rewards = tuple(float(np.nansum(weights * row)) for row in np.array(scored))
        entropy = None
        if scored and all(rollout.logprobs is not None for rollout in members):
            logprobs = [np.array(rollout.logprobs, dtype=np.float64) for rollout in members]
            entropy = rollout_entropy(logprobs, prefix_tokens).value
        outcome = Outcome(
            index=int(index),
            version=version,
            entropy=entropy,
            rewards=rewards or None,
            truncated=tuple(rollout.truncated for rollout in members),
        )
        groups.append(Group(members, outcome))
    return groups


def ends(completion_ids: Sequence[int], tokens: Collection[int], texts: Sequence[str], tokenizer: Any) -> bool:
    """Whether a completion ends itself, rather than by the token limit.

    Args:
        completion_ids (`Sequence[int]`):
            Its tokens.
        tokens (`Collection[int]`), texts (`Sequence[str]`):
            What generation stops at: a last token, or a text that comes up.
        tokenizer (`PreTrainedTokenizerBase`):
            The policy's.
    """
    if completion_ids[-1] in tokens:
        return True
    return bool(texts) and any(text in tokenizer.decode(completion_ids, skip_special_tokens=True) for text in texts)


def judge(groups: Sequence[Group], gates: Mapping[str, Gate]) -> tuple[list[Group], dict[str, int]]:
    """Ask the gates about each group.

    Returns:
        `tuple[list[Group], dict[str, int]]`: the groups with `outcome.admitted` set, and how many each gate dropped.
        A group is counted for the first gate that drops it; one without any reward is dropped as `unscored`.

    Raises:
        TypeError: A gate answered with something else than a bool.
    """
    dropped = dict.fromkeys([*gates, "unscored"], 0)
    judged = []
    for group in groups:
        refused = None if group.outcome.rewards else "unscored"
        for name, gate in gates.items() if refused is None else ():
            admitted = gate.admit(group.outcome)
            if not isinstance(admitted, bool | np.bool_):
                raise TypeError(f"Gate {name!r} must answer with a bool; got {admitted!r}.")
            if not admitted:
                refused = name
                break
        if refused is not None:
            dropped[refused] += 1
        judged.append(replace(group, outcome=replace(group.outcome, admitted=refused is None)))
    return judged, dropped


def refill_size(missing: int, curriculum: Curriculum, group_size: int, processes: int) -> int:
    """Prompts to draw for `missing` groups: enough that their completions can be spread evenly over all processes."""
    step = processes // np.gcd(group_size, processes)
    wanted = -(-missing // step) * step
    return wanted if wanted <= curriculum.room() else curriculum.room() // step * step
