"""Weights as one safetensors file in shared memory or a shared folder. Works on every device."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from ..leftovers import NoRoomError, push_folder
from ..protocol import VLLMEngine
from ..vllm_plugin import FILE_BACKEND
from .base import LOADING, WEIGHTS, NamedParameters, WeightTransport, agree

if TYPE_CHECKING:
    import torch


class FileTransport(WeightTransport[VLLMEngine]):
    """The file lies in a folder of the user's own, by default in shared memory, and is removed after each push."""

    backend = FILE_BACKEND
    engine_class = VLLMEngine
    _dtype: "torch.dtype | None" = None

    def connect(self) -> None:
        import torch

        if self.engine is not None:
            self._folder = agree(self.engine, self.config, self.model, weights=False)
            self._dtype = getattr(torch, self.engine.dtype())

    def send(self, named_parameters: NamedParameters, version: str) -> None:
        from safetensors.torch import save_file

        from ..weight_file import checksums

        if self.engine is None:
            for _ in named_parameters:  # take part in the gathering
                pass
            return
        # In the engine's data type: it would cast anyway, and the file is half as large where that is bfloat16.
        tensors = {name: p.detach().to("cpu", self._dtype).contiguous() for name, p in named_parameters}
        with push_folder(self._folder) as folder:
            _check_space(folder, sum(t.nbytes for t in tensors.values()))
            with checksums(tensors) as made:
                save_file(tensors, folder / WEIGHTS)
            self.engine.start_weight_update()
            # The engine checks the whole file; up to here nothing has changed.
            self.engine.update_weights({"file": f"{folder.name}/{WEIGHTS}", "checksums": made})
            self.engine.update_weight_version(LOADING)
            self.engine.finish_weight_update(version)


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise NoRoomError(
            f"{folder.parent} has {free / 2**20:.0f} MiB free, but the weights take {needed / 2**20:.0f} MiB. Set "
            "engine_transport_dir to a folder with more room (Docker: --shm-size)."
        )
