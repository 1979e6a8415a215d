"""A stand-in for an engine, for measuring what happens around one."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edco_rl.engine.protocol import Completion, GenerationBackend, Sampling


class StandInEngine(GenerationBackend):
    """Answers at once, with log-probabilities that depend on the prompt's tokens alone and mean nothing."""

    requests_in_flight = 1

    def generate(self, prompts: Sequence[Sequence[int]], sampling: Sampling) -> list[list[Completion]]:
        """As many tokens as there may be, each of them 0."""
        groups = []
        for prompt in prompts:
            slope = 0.1 + sum(prompt) % 1009 / 1009  # of a geometric distribution over the tokens
            top = np.log1p(-np.exp(-slope)) - slope * np.arange(max(sampling.width, 1))
            rows = np.tile(top, (sampling.max_tokens, 1))
            completion = Completion([0] * len(rows), rows[:, 0], rows[:, : sampling.width], finished=False)
            groups.append([completion] * sampling.n)
        return groups

    def read(
        self, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]], top_logprobs: int = 0
    ) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """The same for each token of a completion."""
        values = [
            np.full((len(completion), 1 + top_logprobs), -1.0 - sum(completion) % 7) for completion in completions
        ]
        return [(rows[:, 0], rows[:, 1:]) for rows in values]

    def weight_version(self) -> str:
        """There are no weights."""
        return "stand-in"
