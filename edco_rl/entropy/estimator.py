"""Estimators: from log-probabilities to the score of a prompt, and what each needs from the engine."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .topk import FloatArray, entropy_from_top_logprobs


@dataclass(frozen=True)
class Request:
    """What an estimator asks of the engine for each prompt.

    Args:
        max_tokens (`int`):
            Most tokens to generate.
        samples (`int`):
            Continuations a prompt.
        temperature (`float`):
            Sampling temperature; 0 is greedy.
        top_logprobs (`int`):
            Log-probabilities at each position.
        quick_answer (`bool`):
            Whether the prompt should ask for the answer at once.
    """

    max_tokens: int
    samples: int
    temperature: float
    top_logprobs: int
    quick_answer: bool


@dataclass(frozen=True)
class Score:
    """An estimate of a prompt's inference entropy.

    Args:
        value (`float`):
            Mean entropy of the next-token distribution over the tokens looked at, in nats.
        standard_error (`float`):
            Standard error of `value` over samples, in nats; NaN where a single one says nothing about it.
        lower (`float`), upper (`float`):
            Bounds that the log-probabilities the engine did not return leave, in nats.
        tokens (`int`):
            Generated tokens spent.
    """

    value: float
    standard_error: float
    lower: float
    upper: float
    tokens: int


class Estimator(ABC):
    """Turns the log-probabilities of a prompt's continuations into a [`Score`]."""

    @abstractmethod
    def request(self) -> Request:
        """What to generate for each prompt."""

    @abstractmethod
    def score(self, top_logprobs: Sequence[FloatArray], vocabulary_size: int) -> Score:
        """Score one prompt.

        Args:
            top_logprobs (`Sequence[NDArray[np.float64]]`):
                For each continuation, the largest log-probabilities at each position, shape (T, k), in nats.
            vocabulary_size (`int`):
                Tokens in the vocabulary.
        """


class PrefixEntropy(Estimator):
    """Prefix entropy with quick-answer prompting (EDCO, arXiv 2601.03725).

    The mean entropy of the next-token distribution over the first `tokens` generated tokens, fewer where the model
    ends earlier (its end-of-sequence token counts), averaged over samples. With one greedy continuation it is a
    deterministic function of prompt and policy.

    Args:
        tokens (`int`):
            Generated tokens, k in the paper.
        samples (`int`, *optional*, defaults to `1`):
            Continuations averaged.
        temperature (`float`, *optional*, defaults to `0.0`):
            Sampling temperature; 0 is greedy.
        top_logprobs (`int`, *optional*, defaults to `20`):
            Log-probabilities at each position.
        quick_answer (`bool`, *optional*, defaults to `True`):
            Whether to ask for the answer at once.
    """

    def __init__(
        self,
        tokens: int,
        *,
        samples: int = 1,
        temperature: float = 0.0,
        top_logprobs: int = 20,
        quick_answer: bool = True,
    ) -> None:
        self._request = Request(tokens, samples, temperature, top_logprobs, quick_answer)

    def request(self) -> Request:
        return self._request

    def score(self, top_logprobs: Sequence[FloatArray], vocabulary_size: int) -> Score:
        per_sample = []
        for sample in top_logprobs:
            entropy = entropy_from_top_logprobs(sample[: self._request.max_tokens], vocabulary_size)
            per_sample.append((entropy.estimate.mean(), entropy.lower.mean(), entropy.upper.mean()))
        value, lower, upper = np.mean(per_sample, axis=0)
        return Score(
            value=float(value),
            standard_error=_standard_error([estimate for estimate, _, _ in per_sample]),
            lower=float(lower),
            upper=float(upper),
            tokens=sum(len(sample) for sample in top_logprobs),
        )


def rollout_entropy(logprobs: Sequence[FloatArray], prefix_tokens: int | None = None) -> Score:
    """Entropy from rollouts that were made anyway: minus the mean log-probability of the sampled tokens.

    At temperature 1 the expectation of -log p over sampled tokens is the entropy, so this costs nothing beyond the
    log-probabilities a rollout carries. Without top-k there is no bound from a missing tail.

    Args:
        logprobs (`Sequence[NDArray[np.float64]]`):
            For each completion of a prompt, the log-probabilities of its sampled tokens, shape (T,), in nats.
        prefix_tokens (`int`, *optional*):
            Tokens looked at; all by default.
    """
    per_sample = [-float(np.mean(sample[:prefix_tokens])) for sample in logprobs]
    value = float(np.mean(per_sample))
    tokens = sum(len(sample) for sample in logprobs)
    return Score(value, _standard_error(per_sample), lower=value, upper=value, tokens=tokens)


def _standard_error(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")
