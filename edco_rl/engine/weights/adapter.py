"""The LoRA adapter alone, under a name with its version; the base weights of both sides stay untouched."""

from contextlib import suppress

from ..leftovers import push_folder
from ..protocol import Engine, EngineError
from ..vllm_plugin import FILE_BACKEND
from .base import NamedParameters, WeightTransport, agree

_PREFIX = "policy-version-"


class AdapterTransport(WeightTransport[Engine]):
    """The adapter lies in a folder of the user's own, by default in shared memory, while the engine loads it."""

    backend = FILE_BACKEND  # so that others can give the base weights back
    adapter_only = True
    _name: str | None = None

    def connect(self) -> None:
        """Drop adapters that an earlier trainer has left on the server. One trainer at a time pushes to an engine."""
        if self.engine is not None:
            self._folder = agree(self.engine, self.config, self.model, weights=True)
        self._drop_served()

    def send(self, named_parameters: NamedParameters, version: str) -> None:
        from safetensors.torch import save_file

        tensors = {name: p.detach().cpu().contiguous() for name, p in named_parameters}
        if self.engine is None:
            return
        name = f"{_PREFIX}{version}"
        with push_folder(self._folder) as folder:
            save_file(tensors, folder / "adapter_model.safetensors")
            self.peft_config.save_pretrained(folder)
            for file in folder.iterdir():
                file.chmod(0o600)
            self.engine.load_adapter(name, str(folder))
        previous, self._name = self._name, name
        if previous is not None:
            self.engine.unload_adapter(previous)

    def served_version(self, engine: Engine) -> str:
        return ", ".join(name.removeprefix(_PREFIX) for name in _served(engine)) or "none"

    def close(self) -> None:
        """Drop the adapter from a server that goes on without this trainer."""
        with suppress(EngineError):  # a server that has died serves nothing
            self._drop_served()

    def _drop_served(self) -> None:
        if self.engine is not None and self.engine.outlives_trainer:
            for name in _served(self.engine):
                self.engine.unload_adapter(name)
        self._name = None


def _served(engine: Engine) -> list[str]:
    """Adapters of trainers that an engine answers with."""
    return [name for name in engine.adapters() if name.startswith(_PREFIX)]
