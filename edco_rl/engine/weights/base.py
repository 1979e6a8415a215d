"""What all transports are: the base class, its checks, and what two of them share."""

import os
import secrets
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from ...config import EngineConfig
from ...errors import ConfigurationError, EdcoRLError
from ..exchange import exchange_folder, open_exchange_folder
from ..leftovers import push_folder, sweep
from ..protocol import Engine, VLLMEngine
from ..vllm_plugin import FILE_BACKEND

if TYPE_CHECKING:
    import torch

EngineT = TypeVar("EngineT", bound=Engine)
NamedParameters = Iterable[tuple[str, "torch.Tensor"]]

FIRST_VERSION = "default"
"""What vLLM calls the weights it was started with."""
WEIGHTS = "weights.safetensors"
LOADING = "loading"
"""Version of weights while they change."""


class WeightVersionError(EdcoRLError, RuntimeError):
    """The engine serves other weights than the ones just pushed."""


class WeightTransport(ABC, Generic[EngineT]):
    """Moves the policy's weights to an engine: base class of this package's transports, and of your own.

    Write [`~WeightTransport.send`], set the class attributes that differ, and name the class by import path as
    `engine_transport`. A file of this package `edco_rl/engine/weights/<name>.py` with a class `<Name>Transport` is
    found under its name.

    Args:
        engine (`Engine` or `None`):
            The engine this rank pushes to; `None` on ranks that only take part in gathering.
        config (`EngineConfig`):
            Settings.
        rank (`int`, *optional*, defaults to `0`):
            This process.
        peft_config (`peft.PeftConfig`, *optional*):
            The policy's LoRA configuration.
        model (`str`, *optional*, defaults to `""`):
            Model folder or hub id the policy started from; empty where it is not known.
    """

    backend: ClassVar[str | None] = None
    """vLLM's weight-transfer backend a started engine must have."""
    adapter_only: ClassVar[bool] = False
    """Whether it is given a LoRA adapter's parameters alone, rather than those of the whole model."""
    needs_cuda: ClassVar[bool] = False
    """Whether parameters must be on a CUDA device."""
    engine_class: ClassVar[type[Engine]] = Engine  # type: ignore[type-abstract]
    """What engines it works with."""

    base_version: str | None = None
    """Version of the weights under an adapter, where they are known to be the trainer's base weights."""
    pushed: str | None = None
    """Version of the last push."""

    def __init__(
        self,
        engine: EngineT | None,
        config: EngineConfig,
        rank: int = 0,
        peft_config: Any = None,
        model: str = "",
    ) -> None:
        self.engine = engine
        self.config = config
        self.rank = rank
        self.peft_config = peft_config
        self.model = model
        self._run = secrets.token_hex(8)
        self._pushes = 0

    @classmethod
    def check(cls, config: EngineConfig, engine: type[Engine], *, lora: bool, cuda: bool) -> None:
        """Check that it can work with these settings. Called before anything is started.

        Args:
            config (`EngineConfig`):
                Settings; `engine_transport` is the name of this class.
            engine (`type[Engine]`):
                Class of the engine.
            lora (`bool`):
                Whether the policy is a LoRA model.
            cuda (`bool`):
                Whether the trainer runs on CUDA.

        Raises:
            ConfigurationError: It cannot.
        """
        name = f"engine_transport {config.engine_transport}"
        if cls.adapter_only and not lora:
            raise ConfigurationError(f"{name} needs a LoRA policy; set use_peft, or another transport.")
        if cls.needs_cuda and not cuda:
            raise ConfigurationError(f"{name} needs CUDA on the trainer; use transport file.")
        if not issubclass(engine, cls.engine_class):
            raise ConfigurationError(
                f"{name} works with engines that are a {cls.engine_class.__name__}; {engine.__name__} of engine_mode "
                f"{config.engine_mode} is none. Name a transport of your own as engine_transport."
            )

    def connect(self) -> None:
        """Prepare both sides. Called once, on every rank, before the first push."""

    def push(self, named_parameters: NamedParameters, version: int) -> None:
        """Send all parameters, have the engine forget what it computed with others, and verify that it serves them.

        Called on every rank: iterating over sharded parameters is a collective operation.

        Args:
            named_parameters (`Iterable[tuple[str, torch.Tensor]]`):
                Full parameters under the names the engine expects. Can be iterated over more than once.
            version (`int`):
                Optimizer step the weights were made at.

        Raises:
            WeightVersionError: The engine reports another version afterwards.
        """
        # No other run, and no other push of this one, has the same.
        self._pushes += 1
        stamp = f"{version}-{self._run}-{self._pushes}"
        self.send(named_parameters, stamp)
        self.pushed = stamp
        if self.engine is not None:
            self.engine.reset_prefix_cache()
        self.verify()

    def verify(self) -> None:
        """Check that the engine serves the weights of the last push: after one, and before its answers are used.

        Raises:
            WeightVersionError: It does not: it was started again, or another trainer has pushed to it.
        """
        if self.engine is None or self.pushed is None:
            return
        if (served := self.served_version(self.engine)) != self.pushed:
            raise WeightVersionError(
                f"The engine serves weights of version {_step(served)} after version {_step(self.pushed)} was pushed. "
                "Is another trainer pushing to the same engine, or was it started again?"
            )
        if self.base_version is not None and self.engine.weight_version() != self.base_version:
            raise WeightVersionError(
                "The engine's base weights have changed under the adapter. Is another trainer pushing to the same "
                "engine?"
            )

    @abstractmethod
    def send(self, named_parameters: NamedParameters, version: str) -> None:
        """Send all parameters and have the engine stamp them with their version.

        On a rank without an engine, iterate over the parameters alone.

        Args:
            named_parameters (`Iterable[tuple[str, torch.Tensor]]`):
                As for [`~WeightTransport.push`].
            version (`str`):
                What the engine has to report as the version of its weights from now on.
        """

    def served_version(self, engine: EngineT) -> str:
        """Version of the weights the engine answers with, as it reports it."""
        return engine.weight_version()

    def close(self) -> None:
        """Release what `connect` made."""


def check_backend(engine: VLLMEngine, expected: str) -> None:
    """Raise [`ConfigurationError`] where an engine was started for another transport."""
    backend = engine.weight_transfer_backend()
    if backend != expected:
        raise ConfigurationError(
            f"The engine's weight-transfer backend is {backend}, but this transport needs {expected}. Start the "
            "server with the engine_transport the trainer has."
        )


def _step(version: str) -> str:
    """The optimizer step of a version, or of several, without what tells runs and pushes apart."""
    return ", ".join(one.partition("-")[0] for one in version.split(", "))


def agree(engine: Engine, config: EngineConfig, model: str, *, weights: bool) -> Path:
    """Agree with an engine on a folder both see (below `engine_transport_dir`, or in shared memory) and on the model.

    Args:
        engine (`Engine`):
            The engine; what is no [`VLLMEngine`] is not asked.
        config (`EngineConfig`):
            Settings.
        model (`str`):
            Model folder or hub id of the trainer; empty where it is not known.
        weights (`bool`):
            Whether the engine must have been started from the same weights too.

    Raises:
        ConfigurationError: Files cannot be exchanged, the engine may be on another machine, or it has another backend.
        EngineError: The engine sees another folder, or serves another model.
    """
    if config.engine_transport_dir is None and not engine.sees_local_files:
        raise ConfigurationError(
            f"The engine at {engine.url} may run on another machine: name a folder both see as engine_transport_dir"
            f"{'' if isinstance(config.engine_url, list) else ', or use transport nccl'}."
        )
    from ..model_identity import describe

    folder = exchange_folder(config.engine_transport_dir)
    os.close(open_exchange_folder(folder))
    sweep(folder)
    if isinstance(engine, VLLMEngine):
        check_backend(engine, FILE_BACKEND)
        with push_folder(folder) as own:
            (own / WEIGHTS).touch(mode=0o600)
            described = {**describe(model), "with_weights": weights} if model else {}
            engine.init_weight_transfer_engine({"file": f"{own.name}/{WEIGHTS}", "model": described})
    return folder


class TrainerAPITransport(WeightTransport[VLLMEngine]):
    """vLLM's own trainer-side API; each of its backends is a subclass that says how it begins."""

    backend: ClassVar[str]
    needs_cuda = True
    engine_class = VLLMEngine

    def __init__(
        self,
        engine: VLLMEngine | None,
        config: EngineConfig,
        rank: int = 0,
        peft_config: Any = None,
        model: str = "",
    ) -> None:
        super().__init__(engine, config, rank, peft_config, model)
        self._source = _Source()
        self._trainer: Any = None

    @abstractmethod
    def init_info(self) -> Any:
        """vLLM's `TrainerInitInfo` of the backend."""

    def connect(self) -> None:
        from vllm.distributed.weight_transfer.factory import WeightTransferTrainerFactory

        if self.engine is not None:
            check_backend(self.engine, self.backend)
        self._trainer = WeightTransferTrainerFactory.trainer_init(
            self.init_info(), client=self.engine, source=self._source
        )

    def send(self, named_parameters: NamedParameters, version: str) -> None:
        self._source.named_parameters = named_parameters
        if self.engine is not None:
            self.engine.update_weight_version(LOADING)
        self._trainer.send_weights()
        if self.engine is not None:
            self.engine.update_weight_version(version)

    def close(self) -> None:
        if self._trainer is not None:
            self._trainer.shutdown()


class _Source:
    """vLLM's `WeightSource` over parameters that are set anew for each push."""

    def __init__(self) -> None:
        self.named_parameters: NamedParameters = ()
        self._metadata: list[Any] | None = None

    def metadata(self) -> list[Any]:
        from vllm.distributed.weight_transfer.base import ParamMeta

        if self._metadata is None:  # constant over the run, and gathering for it is costly
            self._metadata = [ParamMeta(name, p.dtype, tuple(p.shape)) for name, p in self.named_parameters]
        return self._metadata

    def __iter__(self) -> Iterator[tuple[str, "torch.Tensor"]]:
        return iter(self.named_parameters)
