"""vLLM's own `ipc` backend: handles to the trainer's CUDA memory, for an engine on the same GPU."""

from typing import Any

from ...config import EngineConfig
from ...errors import ConfigurationError
from ..protocol import Engine
from .base import TrainerAPITransport


class IpcTransport(TrainerAPITransport):
    """Nothing is copied on the way."""

    backend = "ipc"

    @classmethod
    def check(cls, config: EngineConfig, engine: type[Engine], *, lora: bool, cuda: bool) -> None:
        if not engine.one_per_rank:
            raise ConfigurationError(
                "engine_transport ipc needs engine_mode colocate; use nccl or file with a server."
            )
        super().check(config, engine, lora=lora, cuda=cuda)

    def init_info(self) -> Any:
        from vllm.distributed.weight_transfer.ipc_engine import IPCTrainerInitInfo

        return IPCTrainerInitInfo(rank=self.rank)
