"""The weight-transfer engine behind `edco_rl.engine.vllm_plugin`, imported inside vLLM's workers only."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import safe_open
from vllm.distributed.weight_transfer.base import (
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead
from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload


@dataclass
class FileInitInfo(WeightTransferInitInfo):
    """Nothing has to be agreed on: each update names its file."""


@dataclass
class FileUpdateInfo(WeightTransferUpdateInfo):
    """One update.

    Args:
        path (`str`):
            A safetensors file the worker can read, with parameters under the names of the model's checkpoint.
    """

    path: str


class FileWeightTransferEngine(WeightTransferEngine[FileInitInfo, FileUpdateInfo]):
    """Loads whole checkpoints through vLLM's layerwise reload, which repacks weights as a first load does.

    Works on any device, and where weights are repacked after loading (vLLM's CPU kernels), so that writing into the
    live parameters is not possible.
    """

    init_info_cls = FileInitInfo
    update_info_cls = FileUpdateInfo

    def init_transfer_engine(self, init_info: FileInitInfo) -> None:
        """Called once by the trainer; a file needs no rendezvous."""

    def start_weight_update(self) -> None:
        initialize_layerwise_reload(self.model)

    def update_weights(self, update_info: dict[str, Any]) -> None:
        # The base class ends with a device synchronization that raises where there is no accelerator.
        self.receive_weights(self.parse_update_info(update_info))
        if torch.accelerator.is_available():
            torch.accelerator.synchronize()

    def receive_weights(self, update_info: FileUpdateInfo) -> None:
        self.model.load_weights(self._read(update_info.path))

    @staticmethod
    def _read(path: str) -> Iterator[tuple[str, torch.Tensor]]:
        with safe_open(path, framework="pt", device="cpu") as file:
            for name in file.keys():  # noqa: SIM118 (a safetensors handle is not a dict)
                yield name, file.get_tensor(name)

    def finish_weight_update(self) -> None:
        finalize_layerwise_reload(self.model, self.model_config)
        for module in self.model.modules():
            # On a CPU the head multiplies with a packed copy of its weight. A head tied to the embeddings is not
            # loaded itself, so the reload leaves that copy as it was: pack it again.
            if isinstance(module, ParallelLMHead) and hasattr(module, "cpu_linear"):
                module.quant_method.process_weights_after_loading(module)

    def shutdown(self) -> None:
        """Nothing is held between updates."""
