"""From the configuration to a teacher that answers: a server started for it, or an endpoint."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..config import ComplexityConfig, EngineConfig
from ..engine.server import SERVED_MODEL_NAME, VLLMServer, check_model_path
from ..errors import ConfigurationError
from ..store import model_fingerprint
from .student import Student
from .teacher import Teacher
from .teacher_cache import TeacherCache

CACHE_FILE = "teacher.sqlite"


class TeacherConnection:
    """Opens the teacher of a configuration; a server is started when the first question has no reply in the cache.

    Where the teacher is the student itself, as it was before training, the student's own server answers.

    Args:
        config (`ComplexityConfig`), engine (`EngineConfig`):
            Settings.
        student (`Student`):
            The student; its engine is released before another server is started.
        folder (`Path`):
            Folder of the run, for the cache and the server's log.

    Raises:
        ConfigurationError: The teacher's model or key is missing.
    """

    def __init__(self, config: ComplexityConfig, engine: EngineConfig, student: Student, folder: Path) -> None:
        self.config = config
        self.engine = engine
        self.student = student
        self.folder = folder
        self._server: VLLMServer | None = None
        self._cache: TeacherCache | None = None
        self._key = "none"
        self.model = ""
        self.identity: dict[str, Any] = {}
        if config.teacher == "server":
            assert config.teacher_model
            path = os.path.expanduser(config.teacher_model)
            check_model_path(path, "teacher_model")
            self.model = path
            self.identity = {"model": path, "files": model_fingerprint(path)}
        elif config.teacher == "endpoint":
            assert config.teacher_model and config.teacher_url
            self._key = _key(config.teacher_key_variable, config.teacher_url)
            self.identity = {"url": config.teacher_url, "model": config.teacher_model}

    def open(self) -> Teacher:
        """The teacher."""
        if self._cache is None:
            path = self.config.teacher_cache
            self._cache = TeacherCache(Path(path).expanduser() if path else self.folder / CACHE_FILE)
        if self.config.teacher == "endpoint":
            assert self.config.teacher_model and self.config.teacher_url
            url, model = self.config.teacher_url, self.config.teacher_model
            return Teacher(lambda: url, model, self.identity, self.config, self._cache, self._key)
        return Teacher(self._serve, SERVED_MODEL_NAME, self.identity, self.config, self._cache)

    def _serve(self) -> str:
        own = self.student.url() if self.model == self.student.base else None
        if own is not None:
            return f"{own}/v1"
        if self._server is None:
            self.student.close()  # one engine at a time: they may have to share a device
            config = replace(
                self.engine, engine_mode="server", engine_url=None, engine_port=0, engine_transport="auto"
            )
            self._server = VLLMServer(self.model, config, self.folder / "teacher.log")
            self._server.start()
        return f"{self._server.url}/v1"

    def stop_server(self) -> None:
        """Stop a server that was started here; it is started again when it is needed."""
        server, self._server = self._server, None
        if server is not None:
            server.stop()

    def close(self) -> None:
        """Stop a server that was started here, and close the cache."""
        self.stop_server()
        if self._cache is not None:
            self._cache.close()
            self._cache = None


def _key(variable: str, url: str) -> str:
    key = os.environ.get(variable)
    if key:
        return key
    if url.startswith(("http://localhost", "http://127.0.0.1")):
        return "none"
    raise ConfigurationError(f"teacher_key_variable {variable}: the environment has no such variable, for {url}.")
