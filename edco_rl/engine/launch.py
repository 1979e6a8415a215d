"""From an `EngineConfig` to an engine that answers and a transport that reaches it."""

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..config import ENGINE_CLASSES, EngineConfig
from ..errors import ConfigurationError, EdcoRLError
from ..plugins import Registry
from .client import EngineClient
from .hardware import check_vllm_installed
from .policy import check_adapter, needs_merging
from .protocol import Engine, VLLMEngine
from .server import VLLMServer
from .weights import TRANSPORTS, WeightTransport, WeightVersionError
from .weights.base import FIRST_VERSION, NamedParameters, agree

ENGINES: Registry[Engine] = Registry("engine_mode", Engine, ENGINE_CLASSES)  # type: ignore[type-abstract]
_OF_SEVERAL_SERVERS = "edco_rl.engine.fleet:EngineFleet"


@dataclass
class EngineConnection:
    """An engine as one rank of the trainer sees it.

    Args:
        engine (`Engine` or `None`):
            Answers requests; `None` on ranks that leave that to the main process.
        transport (`WeightTransport`):
            Moves weights to it.
    """

    engine: Engine | None
    transport: WeightTransport

    def close(self) -> None:
        """Release what the transport has made, and the engine."""
        self.transport.close()
        if self.engine is not None:
            self.engine.close()


def engine_class(config: EngineConfig) -> type[Engine]:
    """The class of the engine that settings ask for.

    Raises:
        ConfigurationError: There is no such class.
    """
    several = config.engine_mode == "server" and isinstance(config.engine_url, list)
    return ENGINES.find(_OF_SEVERAL_SERVERS if several else config.engine_mode)


def check_installed(config: EngineConfig) -> None:
    """Raise [`ConfigurationError`] where a vLLM is to be started and none is installed."""
    if config.engine_mode in ENGINE_CLASSES and config.engine_url is None:
        check_vllm_installed()


def resolve_engine(config: EngineConfig, *, lora: bool, cuda: bool, peft_config: Any = None) -> EngineConfig:
    """Find and check the classes that settings name, before anything is started.

    Args:
        config (`EngineConfig`):
            Settings; `engine_mode` is not `"none"`.
        lora (`bool`):
            Whether the policy is a LoRA model.
        cuda (`bool`):
            Whether the trainer runs on CUDA.
        peft_config (`peft.PeftConfig`, *optional*):
            The policy's LoRA configuration, where it is known.

    Returns:
        `EngineConfig`: the settings, with the transport that `"auto"` stands for.

    Raises:
        ConfigurationError: There is no such engine or transport, or it cannot work with these settings.
    """
    engine = engine_class(config)
    check_installed(config)
    if config.engine_transport == "auto":
        adapter = lora and not (peft_config is not None and needs_merging(peft_config))
        config = replace(config, engine_transport=engine.default_transport(config, lora=adapter, cuda=cuda))
    transport = TRANSPORTS.find(config.engine_transport)
    transport.check(config, engine, lora=lora, cuda=cuda)
    if peft_config is not None:
        check_adapter(peft_config, config.engine_transport, adapter_only=transport.adapter_only)
    return config


def open_engine(
    config: EngineConfig,
    model: str,
    *,
    rank: int = 0,
    cuda: bool = False,
    peft_config: Any = None,
    log_path: str | Path = "engine.log",
    server: VLLMServer | None = None,
) -> EngineConnection:
    """Start or reach the engine of a trainer.

    Args:
        config (`EngineConfig`):
            Settings; `engine_mode` is not `"none"`.
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
        server (`VLLMServer`, *optional*):
            One that was launched with these settings and this model: it is waited for, and stopped with the engine.

    Raises:
        ConfigurationError: Settings that cannot work together.
        EngineStartError: The server did not start.
        EngineError: No server answers at `engine_url`.
    """
    config = resolve_engine(config, lora=peft_config is not None, cuda=cuda, peft_config=peft_config)
    if peft_config is not None:
        config = with_adapters(config, peft_config.r)
    if server is None:
        engine = engine_class(config).open(model, config, rank=rank, log_path=log_path)
    else:
        engine = EngineClient.started(server, model, config) if rank == 0 else None
    try:
        return EngineConnection(
            engine, TRANSPORTS.make(config.engine_transport, engine, config, rank, peft_config, model)
        )
    except BaseException:
        if engine is not None:
            engine.close()
        raise


def give_base(
    connection: EngineConnection,
    config: EngineConfig,
    named_parameters: NamedParameters,
    *,
    on_disk: bool,
    alone: bool = False,
) -> None:
    """Give an engine that serves adapters a trainer's base weights, where it may not have them.

    It has them where they are those on disk and no earlier run has pushed others.

    Called on every rank, unless one does it `alone`; an engine of a user's own that takes no files keeps what it has
    loaded.

    Args:
        connection (`EngineConnection`):
            As this rank sees the engine.
        config (`EngineConfig`):
            Settings.
        named_parameters (`Iterable[tuple[str, torch.Tensor]]`):
            Parameters of the base model.
        on_disk (`bool`):
            Whether they are those of the model the engine was started with.
        alone (`bool`, *optional*, defaults to `False`):
            Whether this rank calls it without the others.
    """
    from accelerate.utils import broadcast_object_list

    file, engine = TRANSPORTS.find("file"), connection.engine
    if not issubclass(engine_class(config), file.engine_class):
        return
    untouched = on_disk and (engine is None or engine.weight_version() == FIRST_VERSION)
    if not alone:
        [untouched] = broadcast_object_list([untouched])
    if untouched:
        connection.transport.base_version = FIRST_VERSION
        return
    with closing(file(engine, config)) as transport:
        transport.connect()
        transport.push(named_parameters, 0)
    connection.transport.base_version = transport.pushed


@contextmanager
def scoring_engine(config: EngineConfig, model: str, *, log_path: str | Path = "engine.log") -> Iterator[Engine]:
    """An engine that answers with a model's weights as they are: started, or reached at `engine_url`, and released.

    Args:
        config (`EngineConfig`):
            Settings; `engine_mode` is not `"none"`.
        model (`str`):
            Model folder or hub id a started engine loads.
        log_path (`str` or `Path`, *optional*, defaults to `"engine.log"`):
            Log of a started server, unless `engine_log` names one.

    Raises:
        EngineStartError: The server did not start.
        EngineError: No server answers at `engine_url`.
    """
    check_installed(config)
    engine = engine_class(config).open(model, config, rank=0, log_path=log_path)
    assert engine is not None
    with closing(engine):
        yield engine


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
    if config.engine_transport != "auto" and TRANSPORTS.find(config.engine_transport).adapter_only:
        config = replace(config, engine_transport="file")
    with closing(open_engine(config, model, cuda=torch.cuda.is_available())) as connection:
        assert connection.engine is not None
        weights = AutoModelForCausalLM.from_pretrained(model, dtype="auto")
        if connection.transport.needs_cuda:
            weights.to("cuda")
        connection.transport.connect()
        connection.transport.push(list(weights.named_parameters()), 0)
        if isinstance(connection.engine, VLLMEngine):
            with suppress(EdcoRLError):  # they are the ones it was started with only if that was from this checkpoint
                agree(connection.engine, config, model, weights=True)
                connection.engine.update_weight_version(FIRST_VERSION)


def with_adapters(config: EngineConfig, rank: int) -> EngineConfig:
    """Settings of an engine with room for LoRA adapters of a rank, where the transport can give it any."""
    transport = config.engine_transport
    takes_adapters = transport == "auto" or TRANSPORTS.find(transport).adapter_only
    if not takes_adapters or config.engine_max_lora_rank is not None:
        return config
    return replace(config, engine_max_lora_rank=lora_rank_for_vllm(rank))


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
            See [`scoring_engine`]. A server at `engine_url` must have LoRA enabled and this model's weights.
        adapter (`str`):
            Folder of the adapter.
        rank (`int`):
            Its rank.

    Raises:
        EngineError: The server does not take the adapter, or serves another model.
        WeightVersionError: An earlier run has changed the server's weights.
    """
    if config.engine_max_lora_rank is None:
        config = replace(config, engine_max_lora_rank=lora_rank_for_vllm(rank))
    name = f"edco_rl-{uuid.uuid4().hex[:8]}"
    with scoring_engine(config, model, log_path=log_path) as engine, ExitStack() as stack:
        folder = Path(adapter).resolve()
        if isinstance(engine, VLLMEngine):  # a server reads nothing from elsewhere
            exchanged = stack.enter_context(
                TemporaryDirectory(dir=agree(engine, config, os.path.expanduser(model), weights=True))
            )
            if engine.weight_version() != FIRST_VERSION:
                raise WeightVersionError(
                    "The engine's base weights are not those it was started with: an earlier run has pushed others. "
                    "Start it again."
                )
            for file in folder.glob("adapter_*"):
                shutil.copy(file, exchanged)
            folder = Path(exchanged)
        engine.load_adapter(name, str(folder))
        try:
            yield engine
        finally:
            if engine.outlives_trainer:
                engine.unload_adapter(name)
