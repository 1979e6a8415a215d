"""What a source of log-probabilities is asked for and returns, and what an engine can do beyond it."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..config import EngineConfig
from ..errors import ConfigurationError, EdcoRLError


class EngineError(EdcoRLError, RuntimeError):
    """The engine did not answer, or not with what it was asked for."""


class EngineLostError(EngineError):
    """The engine is gone, or hangs. Where it comes back, it has other weights."""


T = TypeVar("T")

_NOT_SAMPLED = ("top_logprobs", "logprob_token_ids", "model_logprobs", "extra")


@dataclass(frozen=True)
class Sampling:
    """How prompts are continued, and which log-probabilities come back; names and meanings are vLLM's.

    Log-probabilities are those of the distribution sampled from, and of the model itself when greedy or where
    `model_logprobs` asks for them.

    Args:
        max_tokens (`int`):
            Most tokens of a continuation.
        n (`int`, *optional*, defaults to `1`):
            Continuations a prompt.
        temperature (`float`, *optional*, defaults to `1.0`):
            0 is greedy.
        top_p (`float`, *optional*, defaults to `1.0`), top_k (`int`, *optional*, defaults to `0`), min_p (`float`,
            *optional*, defaults to `0.0`):
            Tokens sampled from: a mass, a number (0 is all), a share of the largest probability.
        repetition_penalty (`float`, *optional*, defaults to `1.0`):
            Factor against tokens of the prompt and those generated before.
        presence_penalty, frequency_penalty (`float`, *optional*, default to `0.0`):
            Taken from the logits of tokens generated before: once, and each time.
        top_logprobs (`int`, *optional*, defaults to `0`):
            Log-probabilities returned at each position beside the generated token's.
        logprob_token_ids (`tuple[int, ...]`, *optional*):
            Tokens whose log-probabilities are returned at each position instead of the largest.
        model_logprobs (`bool`, *optional*, defaults to `False`):
            Whether log-probabilities are those before temperature, top-p and all else.
        extra (`Mapping[str, Any]`, *optional*):
            Further sampling parameters of vLLM (`stop`, `min_tokens`, ...), passed on as they are.
    """

    max_tokens: int
    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    top_logprobs: int = 0
    logprob_token_ids: tuple[int, ...] | None = None
    model_logprobs: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def width(self) -> int:
        """Log-probabilities returned at each position beside the generated token's."""
        return self.top_logprobs if self.logprob_token_ids is None else len(self.logprob_token_ids)

    def parameters(self) -> dict[str, Any]:
        """What is sampled from, by vLLM's names: all but the log-probabilities asked for."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in _NOT_SAMPLED}
        return {**values, **self.extra}


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


class GenerationBackend(Protocol):
    """Anything that continues prompts: a vLLM server, vLLM in this process, or a transformers model."""

    requests_in_flight: int
    """Requests worth sending at a time: 1 where it works in the thread that asks."""

    @abstractmethod
    def generate(self, prompts: Sequence[Sequence[int]], sampling: Sampling) -> list[list[Completion]]:
        """Continue each prompt.

        Args:
            prompts (`Sequence[Sequence[int]]`):
                Token ids of each prompt.
            sampling (`Sampling`):
                How.

        Returns:
            `list[list[Completion]]`: `sampling.n` completions a prompt, in the order of the prompts.
        """

    @abstractmethod
    def read(
        self, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]], top_logprobs: int = 0
    ) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """Log-probabilities of given completions, as the model has them. Nothing is generated.

        Args:
            prompts (`Sequence[Sequence[int]]`):
                Token ids of each prompt.
            completions (`Sequence[Sequence[int]]`):
                Token ids of its completion, at least one.
            top_logprobs (`int`, *optional*, defaults to `0`):
                Largest log-probabilities wanted at each position.

        Returns:
            `list[tuple[NDArray[np.float64], NDArray[np.float64]]]`: for each completion, the log-probability of each
            of its tokens given the prompt and the tokens before it, shape (T,), and the largest ones there in
            descending order, shape (T, top_logprobs), in nats.
        """

    @abstractmethod
    def weight_version(self) -> str:
        """Version of the weights it answers with, as it reports it."""

    def max_model_len(self) -> int | None:
        """Longest prompt and completion together it takes, in tokens; `None` where that is not known."""
        return None

    def reset_prefix_cache(self) -> None:
        """Forget keys and values computed for earlier prompts, with what may have been other weights."""


class Engine(GenerationBackend):
    """A backend that a trainer's weights reach: base class of this package's engines, and of your own.

    Name yours by import path as `engine_mode`. How weights get there is the transport's:
    [`~edco_rl.engine.WeightTransport`].
    """

    requests_in_flight = 1
    one_per_rank = False
    """Whether each rank of the trainer has its own, rather than the main process one for all."""
    answers_beside = False
    """Whether another thread can ask it while the trainer's own goes on: it works in a process of its own."""
    outlives_trainer = False
    """Whether others can use it after this trainer, so that what was left there has to be cleared."""
    sees_local_files = True
    """Whether it is known to see this machine's shared memory and files."""
    url: str | None = None
    """Where it answers HTTP requests, if it does."""
    restore: Callable[[], None] | None = None
    """Gives it the weights again that it should have, after it was lost and has come back; set by whoever pushes."""

    @classmethod
    @abstractmethod
    def open(cls, model: str, config: EngineConfig, *, rank: int, log_path: str | Path) -> Self | None:
        """Start or reach it. Called on every rank of a trainer.

        Args:
            model (`str`):
                Model folder or hub id.
            config (`EngineConfig`):
                Settings.
            rank (`int`):
                This process.
            log_path (`str` or `Path`):
                Where its output goes, unless `engine_log` names a file.

        Returns:
            The engine this rank talks to; `None` on ranks that leave that to rank 0.
        """

    @classmethod
    def default_transport(cls, config: EngineConfig, *, lora: bool, cuda: bool) -> str:
        """What `engine_transport` `"auto"` stands for.

        Args:
            config (`EngineConfig`):
                Settings.
            lora (`bool`):
                Whether the policy is a LoRA model.
            cuda (`bool`):
                Whether the trainer runs on CUDA.
        """
        return "adapter" if lora else "file"

    def again_if_lost(self, work: Callable[[], T]) -> T:
        """The result of work that asks it; one that can come back is waited for, restored, and asked again.

        Raises:
            EngineLostError: It does not come back.
        """
        return work()

    def without_recovery(self) -> AbstractContextManager[None]:
        """Has this thread told at once, by [`EngineLostError`], where it is lost: another one restores it."""
        return nullcontext()

    def interruptions(self) -> tuple[int, float]:
        """Times it was lost so far, and the seconds that has cost."""
        return 0, 0.0

    def load_adapter(self, name: str, path: str) -> None:
        """Load a LoRA adapter under `name` from a folder and answer with it from now on.

        Raises:
            ConfigurationError: The engine takes none.
        """
        raise ConfigurationError(f"An engine of class {type(self).__name__} takes no LoRA adapters.")

    def unload_adapter(self, name: str) -> None:
        """Drop a LoRA adapter; where it was in use, the base model answers again."""

    def adapters(self) -> list[str]:
        """Names of the LoRA adapters it answers with."""
        return []

    def close(self) -> None:
        """Release it, and end what was started for it."""


class VLLMEngine(Engine):
    """An engine whose weights are set through vLLM's own API; its methods have the names of the trainer side's."""

    def _completed(
        self, prompts: Sequence[Sequence[int]], completions: list[Completion], sampling: Sampling
    ) -> list[list[Completion]]:
        """Completions by prompt. vLLM returns the distribution sampled from: another is read afterwards.

        Raises:
            ConfigurationError: Reading cannot look up `logprob_token_ids`.
        """
        if sampling.model_logprobs and sampling.logprob_token_ids is not None:
            raise ConfigurationError("model_logprobs: vLLM reads the largest log-probabilities only.")
        if sampling.model_logprobs:
            repeated = [prompt for prompt in prompts for _ in range(sampling.n)]
            found = self.read(repeated, [c.token_ids for c in completions], sampling.top_logprobs)
            completions = [
                replace(c, logprobs=own, top_logprobs=top) for c, (own, top) in zip(completions, found, strict=True)
            ]
        return [completions[i : i + sampling.n] for i in range(0, len(completions), sampling.n)]

    @abstractmethod
    def dtype(self) -> str:
        """Data type of its weights, as torch names it (`"float32"`)."""

    @abstractmethod
    def world_size(self) -> int:
        """Workers it consists of (tensor times data parallel)."""

    @abstractmethod
    def weight_transfer_backend(self) -> str | None:
        """Name of vLLM's weight-transfer backend, or `None` without one."""

    @abstractmethod
    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        """Let it prepare its side of a transfer."""

    @abstractmethod
    def start_weight_update(self) -> None:
        """Open a round of weight updates."""

    @abstractmethod
    def update_weights(self, update_info: Any) -> None:
        """Let it receive weights."""

    @abstractmethod
    def finish_weight_update(self, weight_version: str | None = None) -> None:
        """Close the round and stamp the weights with their version."""

    @abstractmethod
    def update_weight_version(self, version: str) -> None:
        """Stamp the weights with a version."""
