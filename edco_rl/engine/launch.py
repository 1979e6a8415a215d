"""From an `EngineConfig` to an engine that answers and a transport that reaches it."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from ..config import EngineConfig, Transport
from ..errors import ConfigurationError
from .client import EngineClient
from .colocate import ColocatedEngine
from .protocol import Engine
from .server import VLLMServer
from .weights import AdapterTransport, CUDATransport, FileTransport, WeightTransport, resolve_transport


@dataclass
class EngineConnection:
    """An engine as one rank of the trainer sees it.

    Args:
        engine (`EngineClient`, `ColocatedEngine` or `None`):
            Answers requests; `None` on ranks that leave that to the main process.
        transport (`WeightTransport`):
            Moves weights to it.
        server (`VLLMServer`, *optional*):
            The process, where it was started here.
    """

    engine: Engine | None
    transport: WeightTransport
    server: VLLMServer | None = None

    def close(self) -> None:
        """Release the transport's files, close connections, and stop the server if it was started here."""
        self.transport.close()
        if self.engine is not None:
            self.engine.close()
        if self.server is not None:
            self.server.stop()


def open_engine(
    config: EngineConfig,
    model: str,
    *,
    rank: int = 0,
    cuda: bool = False,
    peft_config: Any = None,
    log_path: str | Path = "engine.log",
) -> EngineConnection:
    """Start or reach the engine of a trainer.

    Args:
        config (`EngineConfig`):
            Settings; `engine_mode` is `"server"` or `"colocate"`.
        model (`str`):
            Model folder or hub id a started engine loads.
        rank (`int`, *optional*, defaults to `0`):
            This process; a server is started and talked to by rank 0 only.
        cuda (`bool`, *optional*, defaults to `False`):
            Whether the trainer runs on CUDA.
        peft_config (`peft.PeftConfig`, *optional*):
            The policy's LoRA configuration.
        log_path (`str` or `Path`, *optional*, defaults to `"engine.log"`):
            Log of a started server, unless `engine_log` names one.

    Raises:
        ConfigurationError: Settings that cannot work together.
        EngineStartError: The server did not start.
        EngineError: No server answers at `engine_url`.
    """
    transport = resolve_transport(config, lora=peft_config is not None, cuda=cuda)
    config = replace(config, engine_transport=cast(Transport, transport))
    if transport == "adapter" and config.engine_max_lora_rank is None:
        config = replace(config, engine_max_lora_rank=lora_rank_for_vllm(peft_config.r))
    engine, server = _connect(config, model, rank, log_path)
    return EngineConnection(engine, _make_transport(transport, engine, config, rank, peft_config), server)


@contextmanager
def scoring_engine(config: EngineConfig, model: str, *, log_path: str | Path = "engine.log") -> Iterator[Engine]:
    """An engine that answers with a model's weights as they are: started, or reached at `engine_url`, and released.

    Args:
        config (`EngineConfig`):
            Settings; `engine_mode` is `"server"` or `"colocate"`.
        model (`str`):
            Model folder or hub id a started engine loads.
        log_path (`str` or `Path`, *optional*, defaults to `"engine.log"`):
            Log of a started server, unless `engine_log` names one.

    Raises:
        EngineStartError: The server did not start.
        EngineError: No server answers at `engine_url`.
    """
    engine, server = _connect(config, model, 0, log_path)
    assert engine is not None
    try:
        yield engine
    finally:
        engine.close()
        if server is not None:
            server.stop()


def _connect(
    config: EngineConfig, model: str, rank: int, log_path: str | Path
) -> tuple[Engine | None, VLLMServer | None]:
    if config.engine_mode == "colocate":
        return ColocatedEngine(model, config, seed=rank), None
    if rank != 0:
        return None, None
    if config.engine_url is not None:
        return EngineClient(config.engine_url, timeout=config.engine_request_timeout), None
    server = VLLMServer(model, config, config.engine_log or log_path)
    server.start()
    try:
        return EngineClient(server.url, timeout=config.engine_request_timeout), server
    except BaseException:
        server.stop()
        raise


def _make_transport(
    name: str, engine: Engine | None, config: EngineConfig, rank: int, peft_config: Any
) -> WeightTransport:
    if name == "adapter":
        return AdapterTransport(engine, peft_config, config.engine_transport_dir)
    if name == "file":
        return FileTransport(engine, config.engine_transport_dir)
    return CUDATransport(engine, name, rank)


def reset_weights(config: EngineConfig, model: str) -> None:
    """Give a server the weights of a model folder or hub id again, whatever earlier trainers have pushed to it.

    Args:
        config (`EngineConfig`):
            Settings with an `engine_url`.
        model (`str`):
            The model.

    Raises:
        EngineError: No server answers at `engine_url`.
    """
    import torch
    from transformers import AutoModelForCausalLM

    # Full weights, also on a server that serves adapters.
    transport: Transport = "file" if config.engine_transport == "adapter" else config.engine_transport
    connection = open_engine(replace(config, engine_transport=transport), model, cuda=torch.cuda.is_available())
    assert connection.engine is not None
    try:
        weights = AutoModelForCausalLM.from_pretrained(model, dtype="auto")
        if isinstance(connection.transport, CUDATransport):
            weights.to("cuda")
        connection.transport.connect()
        connection.transport.push(list(weights.named_parameters()), 0)
        connection.engine.reset_prefix_cache()
    finally:
        connection.close()


def lora_rank_for_vllm(rank: int) -> int:
    """The smallest rank vLLM can be started with that holds adapters of this one."""
    allowed = (8, 16, 32, 64, 128, 256, 320, 512)
    for candidate in allowed:
        if rank <= candidate:
            return candidate
    raise ConfigurationError(f"vLLM serves LoRA adapters of rank {allowed[-1]} at most; lora_r is {rank}.")


@contextmanager
def adapter_engine(
    config: EngineConfig, model: str, adapter: str, *, rank: int, log_path: str | Path = "engine.log"
) -> Iterator[Engine]:
    """As [`scoring_engine`], answering with a LoRA adapter over the model's weights.

    Args:
        config (`EngineConfig`), model (`str`), log_path (`str` or `Path`, *optional*):
            See [`scoring_engine`]. A server at `engine_url` must have LoRA enabled and see the adapter's folder.
        adapter (`str`):
            Folder of the adapter.
        rank (`int`):
            Its rank.

    Raises:
        EngineError: The server does not take the adapter.
    """
    if config.engine_max_lora_rank is None:
        config = replace(config, engine_max_lora_rank=lora_rank_for_vllm(rank))
    name = f"edco_rl-{uuid.uuid4().hex[:8]}"
    with scoring_engine(config, model, log_path=log_path) as engine:
        engine.load_adapter(name, str(Path(adapter).resolve()))
        try:
            yield engine
        finally:
            if engine.outlives_trainer:
                engine.unload_adapter(name)
