"""Weights as one safetensors file in shared memory or a shared folder. Works on every device."""

import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

from ...errors import ConfigurationError
from ..leftovers import push_folder
from ..protocol import VLLMEngine
from ..vllm_plugin import FILE_BACKEND
from .base import NamedParameters, WeightTransport, check_backend, exchange_folder


class FileTransport(WeightTransport[VLLMEngine]):
    """The file lies in `engine_transport_dir`, by default in shared memory, and is removed after each push."""

    backend = FILE_BACKEND
    engine_class = VLLMEngine
    _dtype: torch.dtype | None = None

    def connect(self) -> None:
        self._folder = exchange_folder(self.engine, self.config)
        if self.engine is not None:
            check_backend(self.engine, FILE_BACKEND)
            self.engine.init_weight_transfer_engine({})
            self._dtype = getattr(torch, self.engine.dtype())

    def send(self, named_parameters: NamedParameters, version: int) -> None:
        if self.engine is None:
            for _ in named_parameters:  # take part in the gathering
                pass
            return
        # In the engine's data type: it would cast anyway, and the file is half as large where that is bfloat16.
        tensors = {name: p.detach().to("cpu", self._dtype).contiguous() for name, p in named_parameters}
        with push_folder(self._folder) as folder:
            _check_space(folder, sum(t.nbytes for t in tensors.values()))
            path = folder / "weights.safetensors"
            save_file(tensors, path)
            self.engine.start_weight_update()
            self.engine.update_weights({"path": str(path)})
            self.engine.finish_weight_update(str(version))


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ConfigurationError(
            f"{folder.parent} has {free / 2**20:.0f} MiB free, but the weights take {needed / 2**20:.0f} MiB. Set "
            "engine_transport_dir to a folder with more room (Docker: --shm-size)."
        )
