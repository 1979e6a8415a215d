"""What an engine returns, and the one method every source of completions has."""

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
            The largest log-probabilities at each position in descending order, shape (T, k), in nats.
        finished (`bool`):
            Whether the model ended it itself; `False` where the token limit cut it off.
    """

    token_ids: list[int]
    logprobs: NDArray[np.float64]
    top_logprobs: NDArray[np.float64]
    finished: bool


class Generator(Protocol):
    """Anything that continues prompts: a vLLM server, vLLM in this process, or the model being trained."""

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        max_tokens: int,
        n: int = 1,
        temperature: float = 1.0,
        top_logprobs: int = 0,
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

        Returns:
            `list[list[Completion]]`: `n` completions a prompt, in the order of the prompts.
        """
        ...
