"""Trainer side of weight sync: one class a transport, all with `connect`, `push` and `close`.

`push` is called on every rank, because iterating over sharded parameters is a collective operation; only the rank that
holds an engine talks to it. After each push the engine's version is read back and compared.
"""

import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from ..config import EngineConfig
from ..errors import ConfigurationError, EdcoRLError
from .protocol import Engine, EngineError
from .vllm_plugin import FILE_BACKEND

NamedParameters = Iterable[tuple[str, torch.Tensor]]

_SHARED_MEMORY = Path("/dev/shm")
_ADAPTER_PREFIX = "policy-version-"


class WeightVersionError(EdcoRLError, RuntimeError):
    """The engine serves other weights than the ones just pushed."""


class WeightTransport(ABC):
    """Moves the policy's weights to an engine.

    Args:
        engine (`EngineClient`, `ColocatedEngine` or `None`):
            The engine this rank pushes to; `None` on ranks that only take part in gathering.
    """

    def __init__(self, engine: Engine | None) -> None:
        self.engine = engine

    @abstractmethod
    def connect(self) -> None:
        """Prepare both sides. Called once, on every rank, before the first push."""

    @abstractmethod
    def push(self, named_parameters: NamedParameters, version: int) -> None:
        """Send all parameters and verify that the engine serves them.

        Args:
            named_parameters (`Iterable[tuple[str, torch.Tensor]]`):
                Full parameters under the names the engine expects. Can be iterated over more than once.
            version (`int`):
                Optimizer step the weights were made at.

        Raises:
            WeightVersionError: The engine reports another version afterwards.
        """

    def close(self) -> None:  # noqa: B027 (nothing to release is a valid transport)
        """Release what `connect` made."""


def _verify(reported: str, version: int) -> None:
    if reported != str(version):
        raise WeightVersionError(
            f"The engine serves weights of version {reported} after version {version} was pushed. Is another trainer "
            "pushing to the same engine?"
        )


class FileTransport(WeightTransport):
    """Weights as one safetensors file in shared memory or a shared folder. Works on every device.

    Args:
        engine (`EngineClient`, `ColocatedEngine` or `None`):
            The engine this rank pushes to.
        directory (`str`, *optional*):
            Folder both sides see; by default shared memory. The file is removed after each push.
    """

    def __init__(self, engine: Engine | None, directory: str | None = None) -> None:
        super().__init__(engine)
        self.parent = _exchange_folder(engine, directory)
        self._dtype: torch.dtype | None = None

    def connect(self) -> None:
        if self.engine is None:
            return
        _check_backend(self.engine, FILE_BACKEND)
        self.engine.init_weight_transfer_engine({})
        self._dtype = getattr(torch, self.engine.dtype())

    def push(self, named_parameters: NamedParameters, version: int) -> None:
        if self.engine is None:
            for _ in named_parameters:  # take part in the gathering
                pass
            return
        # In the engine's data type: it would cast anyway, and the file is half as large where that is bfloat16.
        tensors = {name: p.detach().to("cpu", self._dtype).contiguous() for name, p in named_parameters}
        with tempfile.TemporaryDirectory(prefix="edco_rl-", dir=self.parent) as folder:
            _check_space(Path(folder), sum(t.nbytes for t in tensors.values()))
            path = Path(folder) / "weights.safetensors"
            save_file(tensors, path)
            self.engine.start_weight_update()
            self.engine.update_weights({"path": str(path)})
            self.engine.finish_weight_update(str(version))
        _verify(self.engine.weight_version(), version)


class AdapterTransport(WeightTransport):
    """The LoRA adapter alone, under a name with its version; the base weights of both sides stay untouched.

    Args:
        engine (`EngineClient`, `ColocatedEngine` or `None`):
            The engine this rank pushes to; it must have LoRA enabled.
        peft_config (`peft.LoraConfig`):
            The adapter's configuration.
        directory (`str`, *optional*):
            Folder both sides see; by default shared memory.
    """

    def __init__(self, engine: Engine | None, peft_config: Any, directory: str | None = None) -> None:
        super().__init__(engine)
        self.peft_config = peft_config
        self.parent = _exchange_folder(engine, directory)
        self._name: str | None = None

    def connect(self) -> None:
        """Drop adapters that an earlier trainer has left on the server. One trainer at a time pushes to an engine."""
        self._drop_served()

    def _drop_served(self) -> None:
        for name in self._served():
            self.engine.unload_adapter(name)  # type: ignore[union-attr]
        self._name = None

    def close(self) -> None:
        """Drop the adapter from a server that goes on without this trainer."""
        with suppress(EngineError):  # a server that has died serves nothing
            self._drop_served()

    def _served(self) -> list[str]:
        """Adapters of trainers that a server answers with."""
        if self.engine is None or not self.engine.outlives_trainer:
            return []
        return [name for name in self.engine.adapters() if name.startswith(_ADAPTER_PREFIX)]

    def push(self, named_parameters: NamedParameters, version: int) -> None:
        tensors = {name: p.detach().cpu().contiguous() for name, p in named_parameters}
        if self.engine is None:
            return
        name = f"{_ADAPTER_PREFIX}{version}"
        if name == self._name:  # the same optimizer step again, after an evaluation for instance
            return
        with tempfile.TemporaryDirectory(prefix="edco_rl-", dir=self.parent) as folder:
            save_file(tensors, Path(folder) / "adapter_model.safetensors")
            self.peft_config.save_pretrained(folder)
            self.engine.load_adapter(name, folder)
        previous, self._name = self._name, name
        if previous is not None:
            self.engine.unload_adapter(previous)
        adapters = [a.removeprefix(_ADAPTER_PREFIX) for a in self.engine.adapters() if a.startswith(_ADAPTER_PREFIX)]
        _verify(", ".join(adapters) or "none", version)


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

    def __iter__(self) -> Any:
        return iter(self.named_parameters)


class CUDATransport(WeightTransport):
    """vLLM's own trainer-side API: `nccl` to a server, `ipc` to a colocated engine.

    Args:
        engine (`EngineClient`, `ColocatedEngine` or `None`):
            The engine this rank pushes to.
        backend (`str`):
            `"nccl"` or `"ipc"`.
        rank (`int`):
            This process's rank; rank 0 sends.
    """

    def __init__(self, engine: Engine | None, backend: str, rank: int) -> None:
        super().__init__(engine)
        self.backend = backend
        self.rank = rank
        self._source = _Source()
        self._trainer: Any = None

    def connect(self) -> None:
        from vllm.distributed.weight_transfer.factory import WeightTransferTrainerFactory

        if self.engine is not None:
            _check_backend(self.engine, self.backend)
        self._trainer = WeightTransferTrainerFactory.trainer_init(
            self._init_info(), client=self.engine, source=self._source
        )

    def _init_info(self) -> Any:
        if self.backend == "ipc":
            from vllm.distributed.weight_transfer.ipc_engine import IPCTrainerInitInfo

            return IPCTrainerInitInfo(rank=self.rank)
        from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo
        from vllm.utils.network_utils import get_ip, get_open_port

        workers = 0 if self.engine is None else self.engine.world_size()
        return NCCLTrainerInitInfo(
            master_address=get_ip(), master_port=get_open_port(), world_size=workers + 1, rank=self.rank
        )

    def push(self, named_parameters: NamedParameters, version: int) -> None:
        self._source.named_parameters = named_parameters
        self._trainer.send_weights()
        if self.engine is not None:
            self.engine.update_weight_version(str(version))
            _verify(self.engine.weight_version(), version)

    def close(self) -> None:
        if self._trainer is not None:
            self._trainer.shutdown()


def resolve_transport(config: EngineConfig, *, lora: bool, cuda: bool) -> str:
    """The transport that `auto` stands for; any other choice is returned as it is.

    Args:
        config (`EngineConfig`):
            Settings.
        lora (`bool`):
            Whether the policy is a LoRA model.
        cuda (`bool`):
            Whether the trainer runs on CUDA.

    Raises:
        ConfigurationError: The transport asked for cannot work here.
    """
    if config.engine_transport == "adapter" and not lora:
        raise ConfigurationError("transport adapter needs a LoRA policy; set use_peft, or another transport.")
    if config.engine_transport in ("nccl", "ipc") and not cuda:
        raise ConfigurationError(f"transport {config.engine_transport} needs CUDA on the trainer; use transport file.")
    if config.engine_transport != "auto":
        return config.engine_transport
    if lora:
        return "adapter"
    if cuda and config.engine_mode == "colocate":
        return "ipc"
    # A server started here shares its first GPU with the trainer, which NCCL does not allow.
    return "nccl" if cuda and config.engine_url is not None else "file"


def _check_backend(engine: Engine, expected: str) -> None:
    backend = engine.weight_transfer_backend()
    if backend != expected:
        raise ConfigurationError(
            f"The engine's weight-transfer backend is {backend}, but this transport needs {expected}. Start the "
            "server with `edco-rl serve --transport file` (or nccl), and give the trainer the same transport."
        )


def _exchange_folder(engine: Engine | None, directory: str | None) -> Path | None:
    if directory is not None:
        if engine is not None and not Path(directory).is_dir():
            raise ConfigurationError(f"engine_transport_dir {directory!r} is not a folder.")
        return Path(directory)
    if engine is not None and not engine.shares_host:
        raise ConfigurationError(
            f"The engine at {engine.url} may run on another machine: name a folder both see as engine_transport_dir, or use "
            "transport nccl."
        )
    return _SHARED_MEMORY if _SHARED_MEMORY.is_dir() else None


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ConfigurationError(
            f"{folder.parent} has {free / 2**20:.0f} MiB free, but the weights take {needed / 2**20:.0f} MiB. Set "
            "engine_transport_dir to a folder with more room (Docker: --shm-size)."
        )
