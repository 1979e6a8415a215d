"""Fixtures shared by all tests: a small real tokenizer and model, and one vLLM server for the whole session."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import settings

from tests.tiny_model import make_tiny_model

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
os.environ["COLUMNS"] = "200"  # tables are not to break their headings
# A busy machine is no reason to fail.
settings.register_profile("repository", deadline=None)
settings.load_profile("repository")
TINY_VOCABULARY = 4096
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "edco_rl"


@pytest.fixture(scope="session")
def model_path() -> str:
    """SmolLM2-135M-Instruct, as `make` prepares it."""
    path = CACHE / "SmolLM2-135M-Instruct"
    assert (path / "config.json").is_file(), f"{path} is missing: run `make model`"
    return str(path)


@pytest.fixture(scope="session")
def tiny_model_path(model_path: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Llama of two layers and random weights with the first tokens of the real tokenizer: trains in milliseconds."""
    return make_tiny_model(tmp_path_factory.mktemp("tiny"), model_path, vocabulary=TINY_VOCABULARY)


@pytest.fixture(scope="session")
def tiny_served_path(model_path: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same, with heads that vLLM has kernels for on a CPU."""
    folder = tmp_path_factory.mktemp("tiny-served")
    return make_tiny_model(folder, model_path, hidden_size=128, vocabulary=TINY_VOCABULARY)


@pytest.fixture
def new_children() -> Callable[[], list[psutil.Process]]:
    """Returns the processes started since the test began that still run; those of the session's server are older."""

    def running() -> set[psutil.Process]:
        children = psutil.Process().children(recursive=True)
        return {process for process in children if process.status() != psutil.STATUS_ZOMBIE}

    before = running()
    return lambda: sorted(running() - before, key=lambda process: process.pid)


@pytest.fixture(scope="session")
def server_url(model_path: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The one vLLM server of the test session, with LoRA enabled; in float32, so that it is as exact on any CPU."""
    from edco_rl import EngineConfig
    from edco_rl.engine.server import VLLMServer

    config = EngineConfig(engine_max_model_len=512, engine_max_lora_rank=16, engine_dtype="float32")
    with VLLMServer(model_path, config, tmp_path_factory.mktemp("engine") / "engine.log") as server:
        yield server.url


@pytest.fixture(scope="session")
def ray_of_two() -> Iterator[None]:
    """A Ray cluster on this machine with room for two workers, which runs in this process then use."""
    ray = pytest.importorskip("ray")
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()
