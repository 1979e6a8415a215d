"""vLLM inside the trainer's process, behind the same methods as [`~edco_rl.engine.client.EngineClient`]."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ..config import EngineConfig
from ..models import check_model_path
from .hardware import has_avx512, has_cuda
from .protocol import Completion, Sampling, VLLMEngine
from .server_arguments import llm_arguments


class ColocatedEngine(VLLMEngine):
    """A vLLM engine that shares this process, and its device, with the trainer.

    Args:
        model (`str`):
            Model folder or hub id.
        config (`EngineConfig`):
            Settings; those of a server's address are not used.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the sampler; give every rank its own.
    """

    one_per_rank = True

    def __init__(self, model: str, config: EngineConfig, seed: int = 0) -> None:
        check_model_path(model)
        # The engine core must live in this process for its workers to see the trainer's memory (CUDA IPC).
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        os.environ.setdefault("VLLM_CPU_NUM_OF_RESERVED_CPU", "0")
        # Standard output belongs to the command that runs the engine.
        os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", str(config.engine_cpu_kv_cache_gib))
        from vllm import LLM

        arguments = llm_arguments(model, config, cuda=has_cuda(), avx512=has_avx512())
        self.llm = LLM(**arguments, seed=seed)
        """vLLM's own offline engine."""
        self._adapters: dict[str, Any] = {}
        self._adapters_loaded = 0
        self._adapter: Any = None

    @classmethod
    def open(cls, model: str, config: EngineConfig, *, rank: int, log_path: str | Path) -> Self:
        return cls(model, config, seed=rank)

    @classmethod
    def default_transport(cls, config: EngineConfig, *, lora: bool, cuda: bool) -> str:
        return "ipc" if cuda and not lora else super().default_transport(config, lora=lora, cuda=cuda)

    def generate(self, prompts: Sequence[Sequence[int]], sampling: Sampling) -> list[list[Completion]]:
        token_ids = sampling.logprob_token_ids
        outputs = self._run(
            prompts,
            **sampling.parameters(),
            logprobs=sampling.top_logprobs if token_ids is None else None,
            logprob_token_ids=None if token_ids is None else list(token_ids),
            detokenize=bool(sampling.extra.get("stop")),  # text is needed to stop at it, and for nothing else
        )
        flat = [_to_completion(output, sampling.width) for request in outputs for output in request.outputs]
        return self._completed(prompts, flat, sampling)

    def read(
        self, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]], top_logprobs: int = 0
    ) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        sequences = [[*prompt, *completion] for prompt, completion in zip(prompts, completions, strict=True)]
        outputs = self._run(sequences, max_tokens=1, temperature=0.0, prompt_logprobs=top_logprobs, detokenize=False)
        return [
            _own_and_top(output.prompt_logprobs.logprobs, len(completion), top_logprobs)
            for output, completion in zip(outputs, completions, strict=True)
        ]

    def _run(self, prompts: Sequence[Sequence[int]], **parameters: Any) -> list[Any]:
        from vllm import SamplingParams

        return self.llm.generate(
            [{"prompt_token_ids": list(prompt)} for prompt in prompts],
            sampling_params=SamplingParams(flat_logprobs=True, **parameters),
            lora_request=self._adapter,
            use_tqdm=False,
        )

    def dtype(self) -> str:
        return str(self.llm.llm_engine.vllm_config.model_config.dtype).removeprefix("torch.")

    def max_model_len(self) -> int | None:
        return self.llm.llm_engine.vllm_config.model_config.max_model_len

    def world_size(self) -> int:
        return self.llm.llm_engine.vllm_config.parallel_config.world_size

    def weight_transfer_backend(self) -> str | None:
        config = self.llm.llm_engine.vllm_config.weight_transfer_config
        return None if config is None else config.backend

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        self.llm.init_weight_transfer_engine({"init_info": init_info})

    def start_weight_update(self) -> None:
        self.llm.start_weight_update()

    def update_weights(self, update_info: Any) -> None:
        self.llm.update_weights({"update_info": update_info})

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        self.llm.finish_weight_update(weight_version)

    def update_weight_version(self, version: str) -> None:
        self.llm.update_weight_version(version)

    def weight_version(self) -> str:
        return self.llm.get_weight_version()

    def reset_prefix_cache(self) -> None:
        self.llm.reset_prefix_cache(reset_running_requests=True)

    def load_adapter(self, name: str, path: str) -> None:
        from vllm.lora.request import LoRARequest

        self._adapters_loaded += 1
        adapter = LoRARequest(name, self._adapters_loaded, path)
        self.llm.llm_engine.add_lora(adapter)
        self._adapters[name] = self._adapter = adapter

    def unload_adapter(self, name: str) -> None:
        adapter = self._adapters.pop(name)
        self.llm.llm_engine.remove_lora(adapter.lora_int_id)
        if adapter is self._adapter:
            self._adapter = None

    def adapters(self) -> list[str]:
        loaded = self.llm.llm_engine.list_loras()
        return [name for name, adapter in self._adapters.items() if adapter.lora_int_id in loaded]

    def close(self) -> None:
        self.llm.llm_engine.engine_core.shutdown()


def _to_completion(output: Any, width: int) -> Completion:
    own, top = _own_and_top(output.logprobs.logprobs, len(output.token_ids), width)
    return Completion(list(output.token_ids), own, top, finished=output.finish_reason == "stop")


def _own_and_top(flat: Sequence[float], length: int, width: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of the last positions: flat log-probabilities of one are its token's, then those asked for."""
    positions = np.array(flat[-length * (width + 1) :], dtype=np.float64).reshape(length, width + 1)
    return positions[:, 0], positions[:, 1:]
