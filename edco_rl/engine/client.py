"""Client of a vLLM server: generation with top-k log-probabilities, and the routes of weight sync."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import numpy as np
import requests
from numpy.typing import NDArray

from ..config import EngineConfig
from ..errors import ConfigurationError
from .http import is_loopback, open_session, why_refused, why_unreachable
from .protocol import Completion, EngineError, Sampling, VLLMEngine
from .server import VLLMServer

_TOKEN_PREFIX = "token_id:"
# Requests in flight, and prompts in each: large enough to fill the engine's batch, small enough to parse as they come.
_CONCURRENT_REQUESTS = 4
_PROMPTS_PER_REQUEST = 64


class EngineClient(VLLMEngine):
    """Talks to one vLLM server.

    Args:
        url (`str`):
            Base URL, for example `http://localhost:8000`.
        timeout (`float`, *optional*, defaults to `600.0`):
            Seconds to wait for the answer to one request.
        server (`VLLMServer`, *optional*):
            The server, where it was started for this client and is to end with it.

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
    requests_in_flight = 2
    """A server answers one while it is sent the next."""

    def __init__(self, url: str, timeout: float = 600.0, server: VLLMServer | None = None) -> None:
        self.url = url.rstrip("/")
        self.sees_local_files = is_loopback(self.url)
        self.outlives_trainer = server is None
        self.timeout = timeout
        self._server = server
        self._session = open_session(self.url)
        # A request that generates is not repeated on its own: the engine may still be working on the first one.
        self._session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=_CONCURRENT_REQUESTS))
        self.base_model: str = self.models()[0]
        self.model = self.base_model

    @classmethod
    def open(cls, model: str, config: EngineConfig, *, rank: int, log_path: str | Path) -> Self | None:
        if rank != 0:
            return None
        if config.engine_url is not None:
            return cls(config.engine_url, config.engine_request_timeout)
        server = VLLMServer(model, config, config.engine_log or log_path)
        server.start()
        try:
            return cls(server.url, config.engine_request_timeout, server)
        except BaseException:
            server.stop()
            raise

    @classmethod
    def default_transport(cls, config: EngineConfig, *, lora: bool, cuda: bool) -> str:
        # A server started here shares its first GPU with the trainer, which NCCL does not allow.
        if cuda and not lora and config.engine_url is not None:
            return "nccl"
        return super().default_transport(config, lora=lora, cuda=cuda)

    def request(self, method: str, path: str, **kwargs: Any) -> Any:
        """Send one request and return its JSON.

        Raises:
            EngineError: The server cannot be reached or reports an error; the message holds its answer.
        """
        try:
            response = self._session.request(method, f"{self.url}{path}", timeout=self.timeout, **kwargs)
        except requests.RequestException as error:
            raise EngineError(
                f"No answer from the vLLM server at {self.url}{path} ({type(error).__name__}). "
                f"{why_unreachable(self.url, error)}"
            ) from error
        if response.status_code != 200:
            raise EngineError(
                f"The vLLM server at {self.url} answered {path} with {response.status_code}: {response.text[:1000]}"
                f"{why_refused(self.url, response.status_code)}"
            )
        return response.json() if "json" in response.headers.get("content-type", "") else response.text

    def models(self) -> list[str]:
        """Names the server answers to: the base model first, then its LoRA adapters."""
        return [model["id"] for model in self._models()]

    def max_model_len(self) -> int | None:
        return self._models()[0].get("max_model_len")

    def _models(self) -> list[dict[str, Any]]:
        answer = self.request("GET", "/v1/models")
        if not isinstance(answer, dict) or not answer.get("data"):
            raise EngineError(f"{self.url}/v1/models names no models: is there a vLLM server (`edco-rl serve`)?")
        return answer["data"]

    def config(self) -> dict[str, Any]:
        """vLLM's resolved configuration.

        Raises:
            ConfigurationError: The server has no weight-sync routes.
        """
        try:
            info = self.request("GET", "/server_info", params={"config_format": "json"})
        except EngineError as error:
            if "with 404" not in str(error):
                raise
            raise ConfigurationError(
                f"The server at {self.url} has no routes for weight sync. Start it with `edco-rl serve`, or with "
                "VLLM_SERVER_DEV_MODE=1 in its environment."
            ) from None
        return info["vllm_config"]

    def dtype(self) -> str:
        return self.config()["model_config"]["dtype"].removeprefix("torch.")

    def weight_transfer_backend(self) -> str | None:
        config = self.config()["weight_transfer_config"]
        return None if config is None else config["backend"]

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
        body = {
            "model": self.model,
            # All of them: what is left out, the server takes from generation_config.json (Qwen3's has a top_k of 20).
            **sampling.parameters(),
            "logprobs": sampling.width,
            "return_token_ids": True,
            "return_tokens_as_token_ids": True,
        }
        if sampling.logprob_token_ids is not None:
            body["logprob_token_ids"] = list(sampling.logprob_token_ids)
        choices = self._complete(prompts, body, per_prompt=sampling.n)
        return self._completed(prompts, [_parse_choice(choice, sampling) for choice in choices], sampling)

    def read(
        self, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]], top_logprobs: int = 0
    ) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        sequences = [[*prompt, *completion] for prompt, completion in zip(prompts, completions, strict=True)]
        # A server always generates a token.
        body = {"model": self.model, "max_tokens": 1, "temperature": 0.0, "prompt_logprobs": top_logprobs}
        choices = self._complete(sequences, body)
        found = []
        for completion, choice in zip(completions, choices, strict=True):
            positions = choice["prompt_logprobs"][-len(completion) :]
            values = [{token: entry["logprob"] for token, entry in position.items()} for position in positions]
            own = [position[str(token)] for token, position in zip(completion, values, strict=True)]
            found.append((np.array(own, dtype=np.float64), _top(values, len(values), top_logprobs)))
        return found

    def _complete(
        self, prompts: Sequence[Sequence[int]], body: dict[str, Any], per_prompt: int = 1
    ) -> list[dict[str, Any]]:
        """The server's choices for all prompts, in their order, from several requests in flight."""
        batches = [
            list(map(list, prompts[i : i + _PROMPTS_PER_REQUEST]))
            for i in range(0, len(prompts), _PROMPTS_PER_REQUEST)
        ]

        def send(batch: list[list[int]]) -> list[dict[str, Any]]:
            choices = self.request("POST", "/v1/completions", json={**body, "prompt": batch})["choices"]
            return sorted(choices, key=lambda choice: choice["index"])

        with ThreadPoolExecutor(_CONCURRENT_REQUESTS) as pool:
            choices = [choice for answer in pool.map(send, batches) for choice in answer]
        if len(choices) != per_prompt * len(prompts):
            raise EngineError(
                f"Asked for {per_prompt * len(prompts)} completions, got {len(choices)} from {self.url}."
            )
        return choices

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        self.request("POST", "/init_weight_transfer_engine", json={"init_info": init_info})

    def start_weight_update(self) -> None:
        self.request("POST", "/start_weight_update")

    def update_weights(self, update_info: Any) -> None:
        self.request("POST", "/update_weights", json={"update_info": update_info})

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        body = None if weight_version is None else {"weight_version": weight_version}
        self.request("POST", "/finish_weight_update", json=body)

    def update_weight_version(self, version: str) -> None:
        self.request("POST", "/update_weight_version", json={"new_version": version})

    def weight_version(self) -> str:
        return self.request("GET", "/weight_info")["weight_version"]

    def reset_prefix_cache(self) -> None:
        self.request("POST", "/reset_prefix_cache")

    def world_size(self) -> int:
        return self.request("GET", "/get_world_size")["world_size"]

    def load_adapter(self, name: str, path: str) -> None:
        self.request("POST", "/v1/load_lora_adapter", json={"lora_name": name, "lora_path": path})
        self.model = name

    def unload_adapter(self, name: str) -> None:
        self.request("POST", "/v1/unload_lora_adapter", json={"lora_name": name})
        if self.model == name:
            self.model = self.base_model

    def adapters(self) -> list[str]:
        return self.models()[1:]

    def close(self) -> None:
        """Close the connections. The server goes on, unless it was started for this client."""
        self._session.close()
        if self._server is not None:
            self._server.stop()


def _parse_choice(choice: dict[str, Any], sampling: Sampling) -> Completion:
    logprobs = choice["logprobs"]
    positions, token_ids = logprobs["top_logprobs"] or [], sampling.logprob_token_ids
    return Completion(
        token_ids=choice["token_ids"],
        logprobs=np.array(logprobs["token_logprobs"], dtype=np.float64),
        top_logprobs=_top(positions, len(logprobs["tokens"]), sampling.top_logprobs)
        if token_ids is None
        else np.array([[position[f"{_TOKEN_PREFIX}{token}"] for token in token_ids] for position in positions]),
        finished=choice["finish_reason"] == "stop",
    )


def _top(positions: Sequence[dict[str, float] | None], length: int, k: int) -> NDArray[np.float64]:
    # The server adds the generated token where it is not among the top k: only the k largest are wanted.
    top = np.full((length, k), -np.inf)
    if k:
        for row, position in zip(top, positions, strict=True):
            values = sorted((position or {}).values(), reverse=True)[:k]
            row[: len(values)] = values
    return top
