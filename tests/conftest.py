"""Fixtures shared by all tests: a small real tokenizer and model, and one vLLM server for the whole session."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import settings

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
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    path = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=TINY_VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
    )
    LlamaForCausalLM(config).save_pretrained(path)
    save_short_tokenizer(model_path, path)
    return str(path)


def save_short_tokenizer(model_path: str, path: Path) -> None:
    """The tokenizer without the merges that make its later tokens; read in a tenth of the time."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_path)
    tokenizer.save_pretrained(path)
    whole = json.loads(tokenizer.backend_tokenizer.to_str())
    model = whole["model"]
    model["vocab"] = {token: number for token, number in model["vocab"].items() if number < TINY_VOCABULARY}
    model["merges"] = [pair for pair in model["merges"] if "".join(pair) in model["vocab"]]
    (path / "tokenizer.json").write_text(json.dumps(whole))


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
