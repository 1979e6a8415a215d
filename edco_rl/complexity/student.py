"""The student at each of its stages: as it was given, and as each method left it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from ..config import EngineConfig
from ..engine.launch import EngineConnection, open_engine
from ..engine.protocol import GenerationBackend
from ..engine.transformers_backend import TransformersBackend


class Student:
    """One engine that answers with the weights of one model folder after the other. It is opened when first needed.

    Weights are pushed merged, through the file transport: an engine with LoRA enabled is slow on a CPU, and base and
    adapter would need two ways.

    Args:
        base (`str`):
            Model folder or hub id of the student before training.
        engine (`EngineConfig`):
            The engine; with `engine_mode` `"none"`, transformers answers.
        tokenizer (`PreTrainedTokenizerBase`):
            Its tokenizer.
        log_path (`Path`):
            Log of a started server.
    """

    def __init__(self, base: str, engine: EngineConfig, tokenizer: Any, log_path: Path) -> None:
        self.base = base
        self.config = engine
        self.tokenizer = tokenizer
        self.log_path = log_path
        self._connection: EngineConnection | None = None
        self._served: str | None = None
        self._version = 0

    def serving(self, folder: str | None = None) -> GenerationBackend:
        """What answers with the weights of a folder, of a model or a LoRA adapter; by default the base's.

        It does so until the next call.
        """
        folder = folder or self.base
        if self.config.engine_mode == "none":
            return TransformersBackend.of(load_merged(folder), self.tokenizer)
        if self._connection is None:
            self._open()
        assert self._connection is not None and self._connection.engine is not None
        engine = self._connection.engine
        if self._served != folder:
            self._version += 1
            self._connection.transport.push(load_merged(folder).named_parameters(), self._version)
            engine.reset_prefix_cache()  # keys and values of the weights before
            self._served = folder
        return engine

    def url(self) -> str | None:
        """Where a server answers with the base's weights; `None` where there is none."""
        if self.config.engine_mode != "server":
            return None
        self.serving()
        assert self._connection is not None
        return getattr(self._connection.engine, "url", None)

    def close(self) -> None:
        """Release the engine, and stop a server that was started here."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
            self._served = None

    def _open(self) -> None:
        self._connection = open_engine(
            replace(self.config, engine_transport="file"), self.base, log_path=self.log_path
        )
        self._connection.transport.connect()
        # Others may have pushed weights to a server that was running: only one started here is known to hold the base.
        self._served = self.base if self.config.engine_url is None else None


def load_merged(folder: str) -> Any:
    """A model as it was saved, or a LoRA adapter merged into its model, in float32."""
    if not (Path(folder) / "adapter_config.json").is_file():
        return AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    from peft import AutoPeftModelForCausalLM

    return AutoPeftModelForCausalLM.from_pretrained(folder, dtype=torch.float32).merge_and_unload()
