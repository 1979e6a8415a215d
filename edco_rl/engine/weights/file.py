"""Weights as one safetensors file in shared memory or a shared folder. Works on every device."""

from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..leftovers import push_folder
from ..protocol import EngineError, EngineLostError, VLLMEngine
from ..vllm_plugin import FILE_BACKEND
from .base import LOADING, WEIGHTS, NamedParameters, WeightTransport, agree

if TYPE_CHECKING:
    import torch


class FileTransport(WeightTransport[VLLMEngine]):
    """The file lies in a folder of the user's own, by default in shared memory, and is written over by each push."""

    backend = FILE_BACKEND
    engine_class = VLLMEngine

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._dtype: torch.dtype | None = None
        self._own: Path | None = None
        self._held = ExitStack()
        self._begun = False

    def connect(self) -> None:
        import torch

        self.close()
        if self.engine is not None:
            self._folder = agree(self.engine, self.config, self.model, weights=False)
            self._dtype = getattr(torch, self.engine.dtype())
            self._begun = False

    def send(self, named_parameters: NamedParameters, version: str) -> None:
        from ..weight_file import write_weights

        if self.engine is None:
            for _ in named_parameters:  # take part in the gathering
                pass
            return
        assert self._dtype is not None
        own, self._own = self._own, None
        with self._held as held:  # the engine may still read the file of a push that fails: it is not written to again
            if own is None or not own.is_dir():
                own = held.enter_context(push_folder(self._folder))
            # In the engine's data type: it would cast anyway, and the file is half as large where that is bfloat16.
            checksums = write_weights(own / WEIGHTS, named_parameters, self._dtype)
            self._start(self.engine)
            # The engine checks the whole file; up to here nothing has changed.
            self.engine.update_weights({"file": f"{own.name}/{WEIGHTS}", "checksums": checksums})
            self.engine.update_weight_version(LOADING)
            self.engine.finish_weight_update(version)
            self._own, self._held = own, held.pop_all()

    def _start(self, engine: VLLMEngine) -> None:
        """Begin an update; the first ends one that an earlier trainer has left open. A later one is another's."""
        try:
            engine.start_weight_update()
        except EngineLostError:
            raise
        except EngineError:
            if self._begun:
                raise
            with suppress(EngineError):  # it is refused, and that ends it
                engine.update_weights({"file": "", "checksums": {}})
            engine.start_weight_update()
        self._begun = True

    def close(self) -> None:
        """Remove the file."""
        self._own = None
        self._held.close()
