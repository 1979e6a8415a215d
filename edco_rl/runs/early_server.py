"""The vLLM server of a run, launched before anything heavy is imported: its start takes as long as all the rest."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..config import ComplexityConfig
from ..engine.hardware import has_cuda
from ..engine.launch import resolve_engine, with_adapters
from ..engine.server import VLLMServer
from ..parsing import Parser
from ..yaml_file import Settings


@contextmanager
def early_server(parser: Parser, settings: Settings) -> Iterator[VLLMServer | None]:
    """A server that starts while TRL, model and data are loaded, and is stopped at the end, whatever happens.

    Args:
        parser (`Parser`):
            That of the method.
        settings (`Settings`):
            The run's, read by it.

    Yields:
        `VLLMServer` or `None`: for [`~edco_rl.runs.settings.RunSettings`]; `None` where this process starts none.

    Raises:
        ConfigurationError: A setting to be changed, told before anything is started.
    """

    def given(name: str) -> Any:
        return settings.values.get(name, parser.fields[name].default)

    curriculum, engine, _, run = parser.make_own(settings)
    model, lora = given("model_name_or_path"), bool(given("use_peft"))
    if (
        engine.engine_mode != "server"
        or engine.engine_url is not None
        or settings.values.get("use_vllm")  # TRL's settings name another engine
        or isinstance(curriculum, ComplexityConfig)  # its stages start those that have something left to do
        or run.dry_run
        or not (model and given("dataset_name"))  # a run says what is missing
        or int(os.environ.get("RANK", "0")) != 0
    ):
        yield None
        return
    resolve_engine(engine, lora=lora, cuda=has_cuda())
    if lora and not given("lora_modules_to_save"):  # such an adapter is merged
        engine = with_adapters(engine, given("lora_r"))
    folder = Path(given("output_dir") or "trainer_output").expanduser()  # transformers' default
    server = VLLMServer(os.path.expanduser(model), engine, engine.engine_log or folder / "engine.log")
    try:
        server.launch()
        yield server
    finally:
        server.stop()
