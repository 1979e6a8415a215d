"""From the configuration to a teacher that answers: a server started for it, or an endpoint."""

import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ..config import ComplexityConfig, EngineConfig
from ..engine.client import EngineClient
from ..engine.http import KEY_VARIABLE, is_loopback
from ..engine.server_arguments import SERVED_MODEL_NAME
from ..errors import ConfigurationError
from ..models import check_model_path
from ..store import model_fingerprint
from .replies import KeptReplies
from .student import Student
from .teacher import Teacher

REPLIES_FOLDER = "teacher_answers"

# How the teacher is asked, not what it answers.
_NO_EFFECT_ON_ANSWERS = (
    "teacher_cache",
    "teacher_key_variable",
    "teacher_concurrency",
    "teacher_requests_per_minute",
    "teacher_attempts",
    "teacher_backoff",
    "teacher_timeout",
    "teacher_max_failures",
)


class TeacherConnection:
    """Opens the teacher of a configuration; a server is started when the first question has no reply yet.

    It is looked after as a trainer's: one that dies or hangs is started again, and waited for.

    Where the teacher is the student itself, as it was before training, the student's own server answers.

    Args:
        config (`ComplexityConfig`), engine (`EngineConfig`):
            Settings.
        student (`Student`):
            The student; its engine is released before another server is started.
        folder (`Path`):
            Folder of the run, for the replies and the server's log.

    Raises:
        ConfigurationError: The teacher's model or key is missing, or its replies cannot be kept.
    """

    def __init__(self, config: ComplexityConfig, engine: EngineConfig, student: Student, folder: Path) -> None:
        self.config = config
        self.engine = engine
        self.student = student
        self.log_path = folder / "teacher.log"
        self.kept = KeptReplies(Path(config.teacher_cache or folder / REPLIES_FOLDER).expanduser())
        self._server: EngineClient | None = None
        self._key = "none"
        self.model = config.teacher_model or ""
        self.identity: dict[str, Any] = {}
        if config.teacher == "server":
            self.model = os.path.expanduser(self.model)
            check_model_path(self.model, "teacher_model")
            self.identity = {"model": self.model, "files": model_fingerprint(self.model)}
        elif config.teacher == "endpoint":
            assert config.teacher_url
            self._key = _key(config.teacher_key_variable, config.teacher_url)
            self.identity = {"url": config.teacher_url, "model": self.model}

    def made_from(self) -> dict[str, Any]:
        """All that the teacher's answers depend on beside the questions."""
        settings = {name: value for name, value in asdict(self.config).items() if name.startswith("teacher")}
        for name in _NO_EFFECT_ON_ANSWERS:
            settings.pop(name)
        return {"teacher": settings, "identity": self.identity}

    def open(self) -> Teacher:
        """The teacher."""
        url = self.config.teacher_url
        if self.config.teacher == "endpoint" and url is not None:
            return Teacher(lambda: url, self.model, self.identity, self.config, self.kept, self._key)
        key = os.environ.get(KEY_VARIABLE, "none")
        return Teacher(self._serve, SERVED_MODEL_NAME, self.identity, self.config, self.kept, key)

    def _serve(self) -> str:
        own = self.student.url() if self.model == self.student.base else None
        if own is not None:
            return f"{own}/v1"
        if self._server is None:
            self.student.close()  # one engine at a time: they may have to share a device
            config = replace(
                self.engine, engine_mode="server", engine_url=None, engine_port=0, engine_transport="auto"
            )
            self._server = EngineClient.open(self.model, config, rank=0, log_path=self.log_path)
            assert self._server is not None
        self._server.again_if_lost(self._server.weight_version)
        return f"{self._server.url}/v1"

    def close(self) -> None:
        """Stop a server that was started here; it is started again when it is needed."""
        server, self._server = self._server, None
        if server is not None:
            server.close()


def _key(variable: str, url: str) -> str:
    key = os.environ.get(variable)
    if key:
        return key
    if is_loopback(url):
        return "none"
    raise ConfigurationError(f"teacher_key_variable {variable}: the environment has no such variable, for {url}.")
