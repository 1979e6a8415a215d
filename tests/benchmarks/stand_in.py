"""A stand-in for an engine, for measuring what happens around one."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edco_rl.engine.protocol import Completion


class StandInEngine:
    """Answers at once, with log-probabilities that depend on the prompt's tokens alone and mean nothing."""

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        max_tokens: int,
        n: int = 1,
        temperature: float = 1.0,
        top_logprobs: int = 0,
        logprob_token_ids: Sequence[int] | None = None,
    ) -> list[list[Completion]]:
        """See [`~edco_rl.engine.protocol.Generator.generate`]."""
        width = top_logprobs if logprob_token_ids is None else len(logprob_token_ids)
        groups = []
        for prompt in prompts:
            slope = 0.1 + sum(prompt) % 1009 / 1009  # of a geometric distribution over the tokens
            top = np.log1p(-np.exp(-slope)) - slope * np.arange(max(width, 1))
            rows = np.tile(top, (max_tokens, 1))
            groups.append([Completion([0] * max_tokens, rows[:, 0], rows[:, :width], finished=False)] * n)
        return groups

    def completion_logprobs(
        self, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]]
    ) -> list[NDArray[np.float64]]:
        """See [`~edco_rl.engine.protocol.Generator.completion_logprobs`]."""
        return [np.full(len(completion), -1.0 - sum(completion) % 7) for completion in completions]
