"""One vLLM server for all cells of a model, with the model's own weights again before each of them."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from ..config import EngineConfig
from ..engine.launch import reset_weights, scoring_engine, with_adapters
from ..engine.protocol import EngineError, Sampling
from ..engine.server import VLLMServer
from ..engine.supervisor import Supervisor, health_of
from .settings import RunSettings

# Seconds a working engine takes at most for one token.
_PATIENCE = 60.0


class SharedServer:
    """Starts a server for the first cell that needs one, and another when a cell needs another.

    A server that dies or hangs is started again. Servers that run already (`engine_url`) are used as they are. Use it
    as a context manager: the server is stopped at the end.

    Args:
        log_path (`Path`):
            Log of the servers started here, unless `engine_log` names one.
        launched (`VLLMServer`, *optional*):
            The server of the first cell, where it was launched already.
    """

    def __init__(self, log_path: Path, launched: VLLMServer | None = None) -> None:
        self.log_path = log_path
        self._launched = launched
        self._server: VLLMServer | None = None
        self._supervisor: Supervisor | None = None
        self._key: tuple[str, EngineConfig] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._stop()

    def prepare(self, settings: RunSettings, everyone: Sequence[RunSettings]) -> EngineConfig:
        """An engine for a cell, with the weights the cell starts from.

        Args:
            settings (`RunSettings`):
                The cell's.
            everyone (`Sequence[RunSettings]`):
                Those of all cells, for what a server must be able to do.

        Returns:
            `EngineConfig`: the cell's engine settings, with the server's URL.
        """
        engine = settings.engine
        if engine.engine_mode != "server":
            return engine
        if engine.engine_url is None:
            new = self._serve(_model(settings), _with_lora(settings, everyone))
            assert self._server is not None
            # A server started here has the file backend, and shares its GPU with the trainer.
            full = engine.engine_transport == "auto" and not settings.model.use_peft
            transport = "file" if full else engine.engine_transport
            engine = dataclasses.replace(engine, engine_url=self._server.url, engine_transport=transport)
            if new:
                return engine
        reset_weights(engine, _model(settings))
        return engine

    def _serve(self, model: str, engine: EngineConfig) -> bool:
        """Have a server of a model; whether it was started for this, so that it has the model's own weights."""
        if self._server is not None and self._key == (model, engine) and self._answers(model, engine):
            return False
        self._stop()
        launched, self._launched = self._launched, None
        self._server = launched or VLLMServer(model, engine, engine.engine_log or self.log_path)
        self._server.start()
        # The trainers on it wait for it where it is lost, and give it their weights when it is back.
        health = health_of(engine, patient=True)
        self._supervisor = Supervisor(self._server.url, health, lambda why: None, self._server)
        self._key = (model, engine)
        return True

    def _answers(self, model: str, engine: EngineConfig) -> bool:
        """Whether the engine still works: its HTTP server can outlive it."""
        assert self._server is not None
        reached = dataclasses.replace(engine, engine_url=self._server.url, engine_request_timeout=_PATIENCE)
        try:
            with scoring_engine(reached, model) as client:
                client.generate([[1, 2]], Sampling(1))
        except EngineError:
            return False
        return True

    def _stop(self) -> None:
        if self._supervisor is not None:
            self._supervisor.close()
        self._server = self._supervisor = None


def _model(settings: RunSettings) -> str:
    return settings.model.model_name_or_path


def _with_lora(settings: RunSettings, everyone: Sequence[RunSettings]) -> EngineConfig:
    """Engine settings with room for the adapters of all cells that can share the server."""
    engine = settings.engine
    ranks = [
        other.model.lora_r
        for other in everyone
        if other.model.use_peft and (other.engine, _model(other)) == (engine, _model(settings))
    ]
    return with_adapters(engine, max(ranks)) if ranks else engine
