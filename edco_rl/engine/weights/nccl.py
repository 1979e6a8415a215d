"""vLLM's own `nccl` backend: a broadcast from the trainer's first GPU to those of a server."""

from typing import Any

from ...config import EngineConfig
from ...errors import ConfigurationError
from ..protocol import Engine
from .base import TrainerAPITransport


class NcclTransport(TrainerAPITransport):
    """Trainer and server have GPUs of their own: NCCL takes no two ranks on one."""

    backend = "nccl"

    @classmethod
    def check(cls, config: EngineConfig, engine: type[Engine], *, lora: bool, cuda: bool) -> None:
        if engine.one_per_rank:
            raise ConfigurationError(
                "engine_transport nccl needs engine_mode server; use ipc or file with an engine on each rank."
            )
        if isinstance(config.engine_url, list):
            raise ConfigurationError(
                f"engine_transport nccl pushes to one server, and engine_url names {len(config.engine_url)}: use "
                "file, with an engine_transport_dir that all see."
            )
        super().check(config, engine, lora=lora, cuda=cuda)

    def init_info(self) -> Any:
        from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo
        from vllm.utils.network_utils import get_ip, get_open_port

        workers = 0 if self.engine is None else self.engine.world_size()
        return NCCLTrainerInitInfo(
            master_address=get_ip(), master_port=get_open_port(), world_size=workers + 1, rank=self.rank
        )
