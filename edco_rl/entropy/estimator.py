"""What an estimator is: from log-probabilities to the score of a prompt, and what it needs from the engine."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..config import EstimatorConfig
from .topk import FloatArray

Evidence = Literal["continuation", "labels", "reference"]


@dataclass(frozen=True)
class Request:
    """What an estimator asks of the engine for each prompt.

    Args:
        evidence (`str`, *optional*, defaults to `"continuation"`):
            `"continuation"`: continuations with the largest log-probabilities at each position. `"labels"`: the same
            with the log-probabilities of the option labels of a multiple-choice row instead. `"reference"`: the
            log-probabilities of the row's reference answer; nothing is generated.
        max_tokens (`int`, *optional*, defaults to `1`):
            Most tokens to generate.
        samples (`int`, *optional*, defaults to `1`):
            Continuations a prompt.
        temperature (`float`, *optional*, defaults to `0.0`):
            Sampling temperature; 0 is greedy.
        top_logprobs (`int`, *optional*, defaults to `0`):
            Log-probabilities at each position beside the token's own.
        quick_answer (`bool`, *optional*, defaults to `False`):
            Whether the prompt should ask for the answer at once.
        top_p (`float`, *optional*, defaults to `1.0`):
            Probability mass that is sampled from.
        model_logprobs (`bool`, *optional*, defaults to `False`):
            Whether log-probabilities are those before temperature and top-p.
        end_of_turn (`bool`, *optional*, defaults to `True`):
            Whether a reference answer is given with the tokens that end the turn.
    """

    evidence: Evidence = "continuation"
    max_tokens: int = 1
    samples: int = 1
    temperature: float = 0.0
    top_logprobs: int = 0
    quick_answer: bool = False
    top_p: float = 1.0
    model_logprobs: bool = False
    end_of_turn: bool = True


@dataclass(frozen=True)
class TokenLogprobs:
    """Log-probabilities of one continuation, or of a reference answer.

    Args:
        logprobs (`NDArray[np.float64]`):
            Log-probability of each token, shape (T,), in nats.
        top_logprobs (`NDArray[np.float64]`):
            The largest log-probabilities at each position in descending order, shape (T, k), in nats. For a request
            of `"labels"`: those of the labels in the order of the options, shape (1, number of options).
    """

    logprobs: FloatArray
    top_logprobs: FloatArray


@dataclass(frozen=True)
class Score:
    """An estimate of how uncertain the policy is about a prompt.

    Args:
        value (`float`):
            The estimate, in nats a token; of [`Learnability`] a variance, without a unit.
        standard_error (`float`):
            Standard error of `value` over samples, in nats; NaN where a single one says nothing about it.
        lower (`float`), upper (`float`):
            Bounds that the log-probabilities the engine did not return leave, in nats; NaN where there are none.
        tokens (`int`):
            Tokens generated, or of the reference answer: those the prompt itself does not hold.
    """

    value: float
    standard_error: float
    lower: float
    upper: float
    tokens: int


class Estimator(ABC):
    """Turns the log-probabilities of a prompt's continuations into a [`Score`].

    Args:
        config (`EstimatorConfig`):
            Settings.

    Example:

    ```python
    >>> class Surprise(Estimator):
    ...     def request(self):
    ...         return Request(max_tokens=1, temperature=1.0)
    ...
    ...     def score(self, samples, vocabulary_size):
    ...         value = -float(samples[0].logprobs[0])
    ...         return Score(value, float("nan"), value, value, tokens=1)
    ```
    """

    def __init__(self, config: EstimatorConfig) -> None:
        self.config = config

    @abstractmethod
    def request(self) -> Request:
        """What the engine has to return for each prompt."""

    @abstractmethod
    def score(self, samples: Sequence[TokenLogprobs], vocabulary_size: int) -> Score:
        """Score one prompt.

        Args:
            samples (`Sequence[TokenLogprobs]`):
                As many as the request asked for; one for labels and for a reference.
            vocabulary_size (`int`):
                Width of the model's output distribution.
        """


def standard_error(values: Sequence[float]) -> float:
    """Standard error of the mean; NaN for a single value."""
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")
