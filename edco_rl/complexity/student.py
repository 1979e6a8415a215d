"""The student at each of its stages: as it was given, and as each method left it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from ..config import EngineConfig
from ..data.tokens import RowTokenizer
from ..engine.launch import EngineConnection, open_engine
from ..engine.protocol import Engine, GenerationBackend
from ..engine.transformers_backend import TransformersBackend
from ..store import fingerprint, model_fingerprint

# Transports with which a trainer can push to a server that was started here.
_LENT = ("auto", "file")


class Student:
    """One engine that answers with the weights of one model folder after the other. It is opened when first needed.

    Weights are pushed merged, through the file transport: an engine with LoRA enabled is slow on a CPU, and base and
    adapter would need two ways.

    Args:
        base (`str`):
            Model folder or hub id of the student before training.
        engine (`EngineConfig`):
            The engine; with `engine_mode` `"none"`, transformers answers.
        tokenizer ([`~edco_rl.data.tokens.RowTokenizer`]):
            Makes token ids of rows for it.
        log_path (`Path`):
            Log of a started server.
    """

    def __init__(self, base: str, engine: EngineConfig, tokenizer: RowTokenizer, log_path: Path) -> None:
        self.base = base
        self.config = engine
        self.tokenizer = tokenizer
        self.log_path = log_path
        self._connection: EngineConnection | None = None
        self._backend: TransformersBackend | None = None
        self._served: str | None = None
        self._version = 0

    @property
    def identity(self) -> dict[str, Any]:
        """What its answers depend on."""
        return {
            "model": self.base,
            "files": model_fingerprint(self.base),
            "engine": self.config.engine_mode,
            "dtype": self.config.engine_dtype,
            "chat_template": fingerprint(self.tokenizer.made_from),
        }

    def serving(self, folder: str | Path | None = None) -> GenerationBackend:
        """What answers with the weights of a folder, of a model or a LoRA adapter; by default the base's.

        It does so until the next call.
        """
        folder = str(folder or self.base)
        if self.config.engine_mode == "none":
            if self._backend is None or self._served != folder:
                self._backend = TransformersBackend.of(load_merged(folder), self.tokenizer.tokenizer)
                self._served = folder
            return self._backend
        connection, engine = self._open()
        if self._served != folder:
            self._version += 1
            version = self._version

            def push() -> None:
                connection.transport.push(load_merged(folder).named_parameters(), version)

            def restore() -> None:
                connection.transport.connect()
                push()

            engine.restore = restore
            engine.again_if_lost(push)
            self._served = folder
        return engine

    def url(self) -> str | None:
        """Where a server answers with the base's weights, once one that was lost does so again; `None` without one."""
        if self.config.engine_mode != "server":
            return None
        self.serving()
        engine = self._open()[1]
        engine.again_if_lost(engine.weight_version)
        return engine.url

    def lend(self) -> EngineConfig:
        """Engine settings for a trainer: a server started here is lent, any other engine released before.

        The weights it then has are the trainer's.
        """
        config = self.config
        if config.engine_mode != "server" or config.engine_url is not None or config.engine_transport not in _LENT:
            self.close()  # its memory is the trainer's now
            return config
        url = self._open()[1].url
        self._served = None
        return replace(config, engine_url=url, engine_transport="file")

    def close(self) -> None:
        """Release the engine or model, and stop a server that was started here."""
        connection, self._connection, self._backend, self._served = self._connection, None, None, None
        if connection is not None:
            connection.close()

    def _open(self) -> tuple[EngineConnection, Engine]:
        if self._connection is None:
            self._connection = open_engine(
                replace(self.config, engine_transport="file"), self.base, log_path=self.log_path
            )
            self._connection.transport.connect()
            if self._connection.engine is not None:
                self._connection.engine.restore = self._connection.transport.connect
            # Others may have pushed weights to a server that was running: only one started here is known to hold the
            # base.
            self._served = self.base if self.config.engine_url is None else None
        assert self._connection.engine is not None
        return self._connection, self._connection.engine


def load_merged(folder: str) -> Any:
    """A model as it was saved, or a LoRA adapter merged into its model, in float32."""
    if not (Path(folder) / "adapter_config.json").is_file():
        return AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    from peft import AutoPeftModelForCausalLM

    return AutoPeftModelForCausalLM.from_pretrained(folder, dtype=torch.float32).merge_and_unload()
