"""What an engine returns, and the two methods every source of log-probabilities has."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Completion:
    """One generated continuation.

    Args:
        token_ids (`list[int]`):
            Generated tokens, of length T, end-of-sequence token included.
        logprobs (`NDArray[np.float64]`):
            Log-probability of each generated token, shape (T,), in nats.
        top_logprobs (`NDArray[np.float64]`):
            The largest log-probabilities at each position in descending order, or those of the tokens that were asked
            for in their order, shape (T, k), in nats.
        finished (`bool`):
            Whether the model ended it itself; `False` where the token limit cut it off.
    """

    token_ids: list[int]
    logprobs: NDArray[np.float64]
    top_logprobs: NDArray[np.float64]
    finished: bool


class Generator(Protocol):
    """Anything that gives log-probabilities: a vLLM server, vLLM in this process, or the model being trained."""

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
        """Continue each prompt `n` times.

        Args:
            prompts (`Sequence[Sequence[int]]`):
                Token ids of each prompt.
            max_tokens (`int`):
                Most tokens to generate for each continuation.
            n (`int`, *optional*, defaults to `1`):
                Continuations a prompt.
            temperature (`float`, *optional*, defaults to `1.0`):
                Sampling temperature; 0 is greedy. Log-probabilities are those of the distribution sampled from, and
                of the model itself when greedy.
            top_logprobs (`int`, *optional*, defaults to `0`):
                Log-probabilities returned at each position beside the generated token's.
            logprob_token_ids (`Sequence[int]`, *optional*):
                Tokens whose log-probabilities are returned at each position instead of the largest.

        Returns:
            `list[list[Completion]]`: `n` completions a prompt, in the order of the prompts.
        """
        ...

    def completion_logprobs(
        self, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]]
    ) -> list[NDArray[np.float64]]:
        """Log-probabilities of given completions. Nothing is generated.

        Args:
            prompts (`Sequence[Sequence[int]]`):
                Token ids of each prompt.
            completions (`Sequence[Sequence[int]]`):
                Token ids of its completion, at least one.

        Returns:
            `list[NDArray[np.float64]]`: for each completion, the log-probability of each of its tokens given the
            prompt and the tokens before it, shape (T,), in nats.
        """
        ...
