"""What engines behind HTTP share: a call is cut into requests, several are in flight, and a server answers each."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigurationError
from .protocol import Completion, Sampling, VLLMEngine

if TYPE_CHECKING:
    from .client import EngineClient

T = TypeVar("T")

# To each server, requests in flight, and prompts in each: large enough to fill the engine's batch, small enough to
# parse as they come.
_REQUESTS_IN_FLIGHT = 4
_PROMPTS_PER_REQUEST = 64


class ServedEngine(VLLMEngine):
    """An engine of one server or more: base class of its clients."""

    requests_in_flight = 2
    """A server answers one while it is sent the next."""
    servers: int = 1
    """Servers there are."""

    def generate(self, prompts: Sequence[Sequence[int]], sampling: Sampling) -> list[list[Completion]]:
        """Continue each prompt: see [`~edco_rl.engine.GenerationBackend.generate`].

        vLLM 0.31 answers wrongly when requests with and without `logprob_token_ids` share a batch: while these run,
        nobody else should ask the server for log-probabilities.

        Raises:
            ConfigurationError: `seed` is among them: on a CPU, vLLM 0.31 ends with the first seeded request whose
                prompt is prefilled in chunks.
            EngineError: The server fails.
        """
        if sampling.extra.get("seed") is not None:
            raise ConfigurationError("seed: a seeded request can end a vLLM engine on a CPU. Leave it out.")
        tokens = [sampling.n * (len(prompt) + sampling.max_tokens) for prompt in prompts]

        def work() -> list[list[Completion]]:
            flat = self._in_requests(tokens, lambda client, share: client.complete(prompts[share], sampling))
            return self._completed(prompts, flat, sampling)

        return self._asking(work)

    def read(
        self, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]], top_logprobs: int = 0
    ) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        tokens = [len(prompt) + len(completion) for prompt, completion in zip(prompts, completions, strict=True)]
        return self._asking(
            lambda: self._in_requests(
                tokens, lambda client, share: client.look_up(prompts[share], completions[share], top_logprobs)
            )
        )

    def _asking(self, work: Callable[[], T]) -> T:
        """The result of work that asks it and changes no weights, done again as in [`~Engine.again_if_lost`]."""
        return self.again_if_lost(work)

    @abstractmethod
    def _ask(self, tokens: int, request: Callable[["EngineClient"], list[T]]) -> list[T]:
        """What a request of that many tokens brings, sent with the client of the server that is to answer it."""

    def _in_requests(self, tokens: Sequence[int], request: Callable[["EngineClient", slice], list[T]]) -> list[T]:
        """What requests for shares of the prompts bring, in the order of the prompts; `tokens` are those of each."""
        in_flight = _REQUESTS_IN_FLIGHT * self.servers
        size = _PROMPTS_PER_REQUEST
        if self.servers > 1:  # each is to have a part of what there is
            size = max(1, min(size, -(-len(tokens) // in_flight)))
        shares = [slice(start, start + size) for start in range(0, len(tokens), size)]

        def ask(share: slice) -> list[T]:
            return self._ask(sum(tokens[share]), lambda client: request(client, share))

        with ThreadPoolExecutor(in_flight) as pool:
            return [found for answer in pool.map(ask, shares) for found in answer]
