"""Client of a vLLM server: generation with top-k log-probabilities, and the routes of weight sync."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..config import EngineConfig
from ..errors import ConfigurationError
from .answers import (
    AnswerChecker,
    AnswerT,
    Generations,
    Models,
    Readings,
    Served,
    ServerInfo,
    WeightInfo,
    WorldSize,
    parse,
)
from .health import Condition
from .http import is_loopback
from .policy import vocabulary_size
from .protocol import Completion, EngineError, Sampling
from .served import ServedEngine
from .server import VLLMServer
from .server_connection import ServerConnection
from .supervisor import health_of

T = TypeVar("T")

# Kept open: several threads ask at a time, and what lost servers had to do comes to the others.
_CONNECTIONS = 64


class EngineClient(ServedEngine):
    """Talks to one vLLM server.

    Args:
        url (`str`):
            Base URL, for example `http://localhost:8000`.
        timeout (`float`, *optional*, defaults to `600.0`):
            Seconds to wait for the answer to one request.
        retries (`int`, *optional*, defaults to `5`):
            Times a request is sent again that was answered with 429 or 503, cut off, or not answered in time.
        vocabulary_size (`int`, *optional*):
            Tokens its model has, where that is known: answers with others are refused.

    Raises:
        EngineError: No healthy server answers at `url`.

    Example:

    ```python
    >>> client = EngineClient("http://localhost:8000")
    >>> [[completion]] = client.generate([[1, 2, 3]], Sampling(max_tokens=4, temperature=0.0, top_logprobs=20))
    >>> completion.top_logprobs.shape
    (4, 20)
    ```
    """

    url: str
    answers_beside = True

    def __init__(
        self, url: str, timeout: float = 600.0, *, retries: int = 5, vocabulary_size: int | None = None
    ) -> None:
        self.url = url.rstrip("/")
        self.sees_local_files = is_loopback(self.url)
        self.outlives_trainer = True
        self._connection = ServerConnection(self.url, timeout, retries, _CONNECTIONS)
        self._adapters: dict[str, str] = {}
        # What is not there at the first request may be a wrong address.
        first = self._models(repeat=False)[0]
        self.base_model: str = first.id
        self.model = self.base_model
        self._max_model_len = first.max_model_len
        self._checker = AnswerChecker(f"The vLLM server at {self.url}", vocabulary_size, first.max_model_len)

    @classmethod
    def open(cls, model: str, config: EngineConfig, *, rank: int, log_path: str | Path) -> Self | None:
        if rank != 0:
            return None
        if config.engine_url is not None:
            assert isinstance(config.engine_url, str)  # of several there is an EngineFleet
            return cls.reach(config.engine_url, config, model)
        return cls.started(VLLMServer(model, config, config.engine_log or log_path), model, config)

    @classmethod
    def started(cls, server: VLLMServer, model: str, config: EngineConfig) -> Self:
        """A client of a server that is started, or waited for where it was launched, and stopped with the client.

        Args:
            server (`VLLMServer`):
                The server.
            model (`str`), config (`EngineConfig`):
                As of [`~edco_rl.engine.Engine.open`].

        Raises:
            EngineStartError: It did not start.
        """
        server.start()
        try:
            return cls.reach(server.url, config, model, server)
        except BaseException:
            server.stop()
            raise

    @classmethod
    def reach(
        cls,
        url: str,
        config: EngineConfig,
        model: str,
        server: VLLMServer | None = None,
        *,
        patient: bool = False,
    ) -> Self:
        """A client of a server that runs, and is looked after from now on.

        Args:
            url (`str`):
                Its base URL.
            config (`EngineConfig`), model (`str`):
                As of [`~edco_rl.engine.Engine.open`].
            server (`VLLMServer`, *optional*):
                The server, where it is to be started again when it is lost, and to be stopped at the end.
            patient (`bool`, *optional*, defaults to `False`):
                Whether one that is lost is waited for however long it takes, because there are others.

        Raises:
            EngineError: No healthy server answers there.
        """
        client = cls(
            url,
            config.engine_request_timeout,
            retries=config.engine_request_retries,
            vocabulary_size=vocabulary_size(model),
        )
        client.outlives_trainer = server is None
        client._connection.supervise(health_of(config, patient=patient or server is not None), server)
        return client

    @classmethod
    def default_transport(cls, config: EngineConfig, *, lora: bool, cuda: bool) -> str:
        # A server started here shares its first GPU with the trainer, which NCCL does not allow.
        if cuda and not lora and config.engine_url is not None:
            return "nccl"
        return super().default_transport(config, lora=lora, cuda=cuda)

    def request(self, method: str, path: str, kind: type[AnswerT], **kwargs: Any) -> AnswerT:
        """Send a request, and return its answer as what it should be; see [`ServerConnection.send`].

        Raises:
            EngineError: The server does not answer, reports an error, or answers something else.
            EngineLostError: It is gone, or hangs.
        """
        return parse(kind, self._connection.send(method, path, **kwargs), f"{self.url}{path}")

    def again_if_lost(self, work: Callable[[], T]) -> T:
        return self._connection.again_if_lost(work, self._restore)

    def _restore(self) -> None:
        self.model = self.base_model
        if self.restore is not None:
            self.restore()
        else:
            self.load_adapters_again()

    def load_adapters_again(self) -> None:
        """Where nobody pushes weights, a server that has come back has those on disk, as before, and no adapters."""
        for name, path in list(self._adapters.items()):
            self.load_adapter(name, path)

    def condition(self) -> Condition:
        """Whether the server can be asked, as far as it is known."""
        return self._connection.condition()

    def begin_again(self) -> None:
        """Connect anew to a server that was lost and has come back, with the weights it was started with.

        Raises:
            EngineLostError: It is lost again.
        """
        self._connection.begin_again()
        self.model = self.base_model

    def restored(self) -> None:
        """Told that the server has the weights again that it should have."""
        self._connection.restored()

    def without_recovery(self) -> AbstractContextManager[None]:
        return self._connection.without_recovery()

    def interruptions(self) -> tuple[int, float]:
        return self._connection.interruptions()

    def models(self) -> list[str]:
        """Names the server answers to: the base model first, then its LoRA adapters."""
        return [model.id for model in self._models()]

    def max_model_len(self) -> int | None:
        return self._max_model_len

    def _models(self, repeat: bool = True) -> list[Served]:
        answer = self._connection.send("GET", "/v1/models", repeat=repeat)
        what = f"{self.url}/v1/models names no models: is there a vLLM server (`edco-rl serve`)? It"
        return parse(Models, answer, what).data

    def config(self) -> dict[str, Any]:
        """vLLM's resolved configuration.

        Raises:
            ConfigurationError: The server has no weight-sync routes.
        """
        try:
            info = self.request("GET", "/server_info", ServerInfo, params={"config_format": "json"})
        except EngineError as error:
            if "with 404" not in str(error):
                raise
            raise ConfigurationError(
                f"The server at {self.url} has no routes for weight sync. Start it with `edco-rl serve`, or with "
                "VLLM_SERVER_DEV_MODE=1 in its environment."
            ) from None
        return info.vllm_config

    def dtype(self) -> str:
        return self.config()["model_config"]["dtype"].removeprefix("torch.")

    def weight_transfer_backend(self) -> str | None:
        config = self.config()["weight_transfer_config"]
        return None if config is None else config["backend"]

    def complete(self, prompts: Sequence[Sequence[int]], sampling: Sampling) -> list[Completion]:
        """Continue prompts with one request; `sampling.n` completions a prompt, flat, in the order of the prompts.

        Raises:
            EngineError, EngineLostError: As [`~EngineClient.request`].
        """
        body = {
            # All of them: what is left out, the server takes from generation_config.json (Qwen3's has a top_k of 20).
            **sampling.parameters(),
            "logprobs": sampling.width,
            "return_token_ids": True,
            "return_tokens_as_token_ids": True,
        }
        if sampling.logprob_token_ids is not None:
            body["logprob_token_ids"] = list(sampling.logprob_token_ids)
        return self._checker.completions(self._post(Generations, body, prompts), prompts, sampling)

    def look_up(
        self, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]], top_logprobs: int
    ) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """Read completions with one request: see [`~edco_rl.engine.GenerationBackend.read`].

        Raises:
            EngineError, EngineLostError: As [`~EngineClient.request`].
        """
        sequences = [[*prompt, *completion] for prompt, completion in zip(prompts, completions, strict=True)]
        # A server always generates a token.
        body = {"max_tokens": 1, "temperature": 0.0, "prompt_logprobs": top_logprobs}
        return self._checker.readings(self._post(Readings, body, sequences), prompts, completions, top_logprobs)

    def _post(self, kind: type[AnswerT], body: dict[str, Any], prompts: Sequence[Sequence[int]]) -> AnswerT:
        body = {**body, "model": self.model, "prompt": list(map(list, prompts))}
        return self.request("POST", "/v1/completions", kind, json=body)

    def _ask(self, tokens: int, request: Callable[["EngineClient"], list[T]]) -> list[T]:
        return request(self)

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        self._connection.update("/init_weight_transfer_engine", {"init_info": init_info})

    def start_weight_update(self) -> None:
        self._connection.update("/start_weight_update")

    def update_weights(self, update_info: Any) -> None:
        self._connection.update("/update_weights", {"update_info": update_info})

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        body = None if weight_version is None else {"weight_version": weight_version}
        self._connection.update("/finish_weight_update", body)

    def update_weight_version(self, version: str) -> None:
        self._connection.send("POST", "/update_weight_version", json={"new_version": version})

    def weight_version(self) -> str:
        return self.request("GET", "/weight_info", WeightInfo).weight_version

    def reset_prefix_cache(self) -> None:
        self._connection.send("POST", "/reset_prefix_cache", params={"reset_running_requests": "true"})

    def world_size(self) -> int:
        return self.request("GET", "/get_world_size", WorldSize).world_size

    def load_adapter(self, name: str, path: str) -> None:
        self._connection.update("/v1/load_lora_adapter", {"lora_name": name, "lora_path": path})
        self.model = name
        self._adapters[name] = path

    def unload_adapter(self, name: str) -> None:
        self._adapters.pop(name, None)
        self._connection.update("/v1/unload_lora_adapter", {"lora_name": name})
        if self.model == name:
            self.model = self.base_model

    def adapters(self) -> list[str]:
        return self.models()[1:]

    def close(self) -> None:
        """Close the connections. The server goes on, unless it was started for this client."""
        self._connection.close()
