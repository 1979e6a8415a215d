"""What all transports are: the base class, its checks, and what two of them share."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from ...config import EngineConfig
from ...errors import ConfigurationError, EdcoRLError
from ..leftovers import sweep
from ..protocol import Engine, VLLMEngine

if TYPE_CHECKING:
    import torch

EngineT = TypeVar("EngineT", bound=Engine)
NamedParameters = Iterable[tuple[str, "torch.Tensor"]]

_SHARED_MEMORY = Path("/dev/shm")


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
    """

    backend: ClassVar[str | None] = None
    """vLLM's weight-transfer backend a started engine must have."""
    adapter_only: ClassVar[bool] = False
    """Whether it is given a LoRA adapter's parameters alone, rather than those of the whole model."""
    needs_cuda: ClassVar[bool] = False
    """Whether parameters must be on a CUDA device."""
    engine_class: ClassVar[type[Engine]] = Engine  # type: ignore[type-abstract]
    """What engines it works with."""

    def __init__(self, engine: EngineT | None, config: EngineConfig, rank: int = 0, peft_config: Any = None) -> None:
        self.engine = engine
        self.config = config
        self.rank = rank
        self.peft_config = peft_config

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
        """Send all parameters and verify that the engine serves them.

        Called on every rank: iterating over sharded parameters is a collective operation.

        Args:
            named_parameters (`Iterable[tuple[str, torch.Tensor]]`):
                Full parameters under the names the engine expects. Can be iterated over more than once.
            version (`int`):
                Optimizer step the weights were made at.

        Raises:
            WeightVersionError: The engine reports another version afterwards.
        """
        self.send(named_parameters, version)
        if self.engine is not None and (served := self.served_version(self.engine)) != str(version):
            raise WeightVersionError(
                f"The engine serves weights of version {served} after version {version} was pushed. Is another "
                "trainer pushing to the same engine?"
            )

    @abstractmethod
    def send(self, named_parameters: NamedParameters, version: int) -> None:
        """Send all parameters and have the engine stamp them with their version.

        On a rank without an engine, iterate over the parameters alone. Arguments as for [`~WeightTransport.push`].
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


def exchange_folder(engine: Engine | None, config: EngineConfig) -> Path | None:
    """Folder that trainer and engine both see: `engine_transport_dir`, else shared memory, else the system's own.

    Raises:
        ConfigurationError: It is no folder, or the engine may be on another machine.
    """
    directory = config.engine_transport_dir
    if directory is not None:
        if engine is not None and not Path(directory).is_dir():
            raise ConfigurationError(f"engine_transport_dir {directory!r} is not a folder.")
        sweep(Path(directory))
        return Path(directory)
    if engine is not None and not engine.sees_local_files:
        raise ConfigurationError(
            f"The engine at {engine.url} may run on another machine: name a folder both see as engine_transport_dir, "
            "or use transport nccl."
        )
    if not _SHARED_MEMORY.is_dir():
        return None
    sweep(_SHARED_MEMORY)
    return _SHARED_MEMORY


class TrainerAPITransport(WeightTransport[VLLMEngine]):
    """vLLM's own trainer-side API; each of its backends is a subclass that says how it begins."""

    backend: ClassVar[str]
    needs_cuda = True
    engine_class = VLLMEngine

    def __init__(
        self, engine: VLLMEngine | None, config: EngineConfig, rank: int = 0, peft_config: Any = None
    ) -> None:
        super().__init__(engine, config, rank, peft_config)
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

    def send(self, named_parameters: NamedParameters, version: int) -> None:
        self._source.named_parameters = named_parameters
        self._trainer.send_weights()
        if self.engine is not None:
            self.engine.update_weight_version(str(version))

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
