"""What every run does with its settings before a trainer is made."""

import logging
import os
from dataclasses import asdict, dataclass, fields, is_dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray
from transformers import AutoConfig, AutoTokenizer
from trl import ModelConfig, ScriptArguments, get_peft_config, get_quantization_config

from ..config import CurriculumConfig, DataConfig, EngineConfig, RunConfig, engine_of_trl
from ..data.chat import check_chat_template, show_prompt
from ..data.load import load_prompts
from ..data.rows import SKIPPED_ROWS_FILE
from ..engine.hardware import has_avx512, has_cuda, resolve_dtype
from ..engine.launch import check_installed
from ..engine.server import VLLMServer
from ..errors import ConfigurationError
from ..methods import Method
from ..models import check_model_path
from ..store import plain
from ..trainers.find_checkpoint import find_checkpoint

logger = logging.getLogger(__name__)
_SECRETS = {"api_key", "authorization", "password", "token", "hub_token", "use_auth_token"}


@dataclass(frozen=True)
class RunSettings:
    """A method and its parsed settings, in the order of its parser.

    Args:
        method (`Method`):
            What is run.
        script (`ScriptArguments`), training (`TrainingArguments`), model (`ModelConfig`):
            TRL's, of the method.
        curriculum (`CurriculumConfig`), engine (`EngineConfig`), data (`DataConfig`), run (`RunConfig`):
            Of this package.
        measured_at_start (`NDArray[np.float64]`, *optional*):
            What the start weights earn on each held-out prompt, where a run from the same start has measured it.
        server (`VLLMServer`, *optional*):
            The engine, where it was launched already.
    """

    method: Method
    script: Any
    training: Any
    model: ModelConfig
    curriculum: CurriculumConfig
    engine: EngineConfig
    data: DataConfig
    run: RunConfig
    measured_at_start: NDArray[np.float64] | None = None
    server: VLLMServer | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "curriculum", self.curriculum.for_prompts_with(self.data.system_prompt))
        object.__setattr__(self, "engine", engine_of_trl(self.training, self.engine))

    @cached_property
    def rows(self) -> tuple[Dataset, Dataset | None]:
        """The training pool and held-out rows, loaded once."""
        return load_data(self.script, self.training, self.data)

    @cached_property
    def tokenizer(self) -> Any:
        """The model's tokenizer, loaded once."""
        return AutoTokenizer.from_pretrained(self.model.model_name_or_path, revision=self.model.model_revision)

    def describe(self) -> dict[str, Any]:
        """All settings as plain values."""
        return {name: plain_values(part) for name, part in self.parts().items()}

    def parts(self) -> dict[str, Any]:
        """The dataclasses that settings are fields of, by name, in the order of the method's parser."""
        parts = {one.name: getattr(self, one.name) for one in fields(self)}
        return {name: part for name, part in parts.items() if is_dataclass(part) and name != "method"}

    def of_trainer(self) -> dict[str, Any]:
        """Arguments that every trainer with a curriculum takes by name."""
        return {
            "quantization_config": get_quantization_config(self.model),
            "peft_config": get_peft_config(self.model),
            "curriculum": self.curriculum,
            "engine": self.server or self.engine,
        }


def prepare(settings: RunSettings) -> tuple[Dataset, Dataset | None, dict[str, Any]]:
    """Check the model, find the checkpoint, load the rows, and complete the trainer's settings.

    Returns:
        `tuple[Dataset, Dataset | None, dict[str, Any]]`: training pool, held-out rows, and all settings as they were
        given, as plain values.

    Raises:
        ConfigurationError: A setting or row to be changed.
    """
    training = settings.training
    _show_log(training)
    check_installed(settings.engine)
    check_model_and_data(settings.script, settings.model)
    training.resume_from_checkpoint = find_checkpoint(training.resume_from_checkpoint, training.output_dir)
    rows = settings.rows
    if (shown := first_prompt(settings, *rows)) is not None:
        logger.info("The first prompt as the model will see it:\n%s", shown)
    described = settings.describe()
    set_model_arguments(training, settings.model)
    return *rows, described


def _show_log(training: Any) -> None:
    """Have the package's own log shown as `log_level` says; by default warnings are."""
    if training.log_level != "passive":
        logging.basicConfig(format="%(message)s")  # nothing where the program has set up its log
        logging.getLogger("edco_rl").setLevel(training.get_process_log_level())


def first_prompt(settings: RunSettings, train: Dataset, held_out: Dataset | None) -> str | None:
    """The first prompt as the model will see it, once the chat template was found to take the rows' messages.

    `None` where the trainer reads another template (`chat_template_path`).

    Raises:
        ConfigurationError: It does not take those of a row, which is named.
    """
    training = settings.training
    if getattr(training, "chat_template_path", None):
        return None
    tokenizer = settings.tokenizer
    template_kwargs = getattr(training, "chat_template_kwargs", None)
    held_out_name = settings.data.eval_dataset_name or settings.script.dataset_name
    for name, rows in ((settings.script.dataset_name, train), (held_out_name, held_out)):
        if rows is not None:
            try:
                check_chat_template(rows, tokenizer, template_kwargs)
            except ConfigurationError as error:
                raise ConfigurationError(f"{name}: {error}") from error
    return show_prompt(train[0], tokenizer, template_kwargs)


def load_data(script: ScriptArguments, training: Any, data: DataConfig) -> tuple[Dataset, Dataset | None]:
    """The training pool and held-out rows a run's settings describe."""
    skipped = data.skipped_rows_file or Path(training.output_dir) / SKIPPED_ROWS_FILE
    return load_prompts(
        script.dataset_name,
        config_name=script.dataset_config,
        train_split=script.dataset_train_split,
        test_split=script.dataset_test_split,
        seed=training.seed,
        **vars(data) | {"skipped_rows_file": skipped},
    )


def set_model_arguments(training: Any, model: ModelConfig) -> None:
    """Hand the model's settings to the trainer's own, with a data type that fits the machine."""
    training.model_init_kwargs = {
        "revision": model.model_revision,
        "attn_implementation": model.attn_implementation,
        "dtype": resolve_dtype(model.dtype, cuda=has_cuda(), avx512=has_avx512()),
        **(training.model_init_kwargs or {}),
    }


def check_model_and_data(script: ScriptArguments, model: ModelConfig) -> None:
    """Raise [`ConfigurationError`] when the model cannot be found or no data set is named."""
    if model.model_name_or_path:
        model.model_name_or_path = os.path.expanduser(model.model_name_or_path)
    check_model(model.model_name_or_path)
    if script.dataset_streaming:
        raise ConfigurationError(
            "dataset_streaming true: a curriculum chooses rows, so that it needs them all. Leave it out."
        )
    if not script.dataset_name:
        raise ConfigurationError("dataset_name is missing: a hub id, a local file or reasoning_gym:<task>.")


def check_model(name: str | None, setting: str = "model_name_or_path") -> None:
    """Raise [`ConfigurationError`] when no model can be found under that name, which a setting gives."""
    if not name:
        raise ConfigurationError(f"{setting} is missing.")
    check_model_path(name, setting)
    try:
        AutoConfig.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{setting} {name!r} cannot be loaded: {error}") from error


def plain_values(config: Any) -> dict[str, Any]:
    """A configuration as JSON has it, without secrets that a setting within a setting may hold."""
    return _without_secrets(plain(config.to_dict() if hasattr(config, "to_dict") else asdict(config)))


def _without_secrets(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_secrets(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    return {
        key: "<hidden>" if key.lower() in _SECRETS and isinstance(entry, str) else _without_secrets(entry)
        for key, entry in value.items()
    }
