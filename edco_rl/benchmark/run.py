"""One run of a method: from its settings to a trainer."""

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from datasets import Dataset
from transformers import AutoConfig
from transformers.trainer_utils import get_last_checkpoint
from trl import (
    GRPOConfig,
    ModelConfig,
    ScriptArguments,
    SFTConfig,
    TrlParser,
    get_peft_config,
    get_quantization_config,
)
from trl.scripts.grpo import GRPOScriptArguments

from ..config import ConfigurationError, CurriculumConfig, DataConfig, EngineConfig, RunConfig
from ..data.load import load_prompts
from ..data.rows import SKIPPED_ROWS_FILE
from ..engine.hardware import has_avx512, has_cuda, resolve_dtype
from ..engine.server import check_model_path
from ..rewards import default_reward, get_reward, get_rewards
from ..trainers import (
    CurriculumDistillationConfig,
    CurriculumDistillationTrainer,
    CurriculumGRPOTrainer,
    CurriculumPPOTrainer,
    CurriculumSFTTrainer,
    PPOConfig,
)
from .training import train_and_measure

# Tokens an answer may be longer than the longest reference.
_ROOM_FOR_ANSWERS = 8


@dataclasses.dataclass(frozen=True)
class Method:
    """A training method: TRL's settings of it, and what runs it.

    Args:
        script (`type`), training (`type`):
            TRL's dataclasses of the script's and the trainer's arguments.
        run (`Callable`):
            Takes one of each, then `ModelConfig`, `CurriculumConfig`, `EngineConfig`, `DataConfig` and `RunConfig`.
    """

    script: type
    training: type
    run: Callable[..., dict[str, Any]]


def method_parser(method: str, *, prog: str) -> TrlParser:
    """TRL's parser over all settings of a method.

    Args:
        method (`str`):
            A key of `METHODS`.
        prog (`str`):
            Name in the help text.
    """
    chosen = METHODS[method]
    ours = (CurriculumConfig, EngineConfig, DataConfig, RunConfig)
    parser = TrlParser((chosen.script, chosen.training, ModelConfig, *ours), prog=prog)
    if not has_cuda():
        parser.set_defaults(bf16=False)  # TRL's default would be refused
    return parser


def run_with_rewards(
    script: GRPOScriptArguments,
    training: GRPOConfig,
    model: ModelConfig,
    curriculum: CurriculumConfig,
    engine: EngineConfig,
    data: DataConfig,
    run: RunConfig,
) -> dict[str, Any]:
    """Train with PPO (given a [`PPOConfig`]) or GRPO and a curriculum, and measure accuracy before and after.

    The model, the curriculum's state, TRL's metrics (`trainer_state.json`) and `summary.json` go to
    `training.output_dir`. An engine that is started here is stopped again, however the run ends.

    Returns:
        `dict[str, Any]`: what `summary.json` holds.

    Raises:
        ConfigurationError: A setting or row to be changed; raised before anything is loaded where possible.
    """
    assert not isinstance(run.reward_kwargs, str)  # the configuration has parsed it
    check_model_and_data(script, model)
    training.resume_from_checkpoint = _checkpoint(training)
    rewards = get_rewards(script.reward_funcs, run.reward_kwargs)
    train, held_out = load_data(script, training, data)
    described = _describe_all(script, training, model, curriculum, engine, data, run)
    set_model_arguments(training, model)
    trainer_class = CurriculumPPOTrainer if isinstance(training, PPOConfig) else CurriculumGRPOTrainer
    trainer = trainer_class(
        model.model_name_or_path,
        rewards,
        training,
        train,
        quantization_config=get_quantization_config(model),
        peft_config=get_peft_config(model),
        curriculum=curriculum,
        engine=engine,
        share_prompts=run.share_prompts,
    )
    accuracy = next((function for function in rewards if getattr(function, "is_accuracy", False)), None)
    if run.held_out_reward is not None:
        accuracy = get_reward(run.held_out_reward)
    max_tokens = run.held_out_max_tokens or training.max_completion_length
    return train_and_measure(trainer, held_out, accuracy, max_tokens, run, described)


def run_supervised(
    script: ScriptArguments,
    training: SFTConfig,
    model: ModelConfig,
    curriculum: CurriculumConfig,
    engine: EngineConfig,
    data: DataConfig,
    run: RunConfig,
) -> dict[str, Any]:
    """Fine-tune on reference answers with a curriculum, and measure held-out accuracy before and after.

    As [`run_with_rewards`] otherwise. The reward that says which answers are right follows from the data set's
    columns.
    """
    check_model_and_data(script, model)
    training.resume_from_checkpoint = _checkpoint(training)
    train, held_out = load_data(script, training, data)
    described = _describe_all(script, training, model, curriculum, engine, data, run)
    set_model_arguments(training, model)
    trainer = CurriculumSFTTrainer(
        model.model_name_or_path,
        training,
        train_dataset=train,
        quantization_config=get_quantization_config(model),
        peft_config=get_peft_config(model),
        curriculum=curriculum,
        engine=engine,
    )
    name = None if held_out is None else run.held_out_reward or default_reward(held_out.column_names)
    max_tokens = run.held_out_max_tokens
    if held_out is not None and name is not None and max_tokens is None:
        answers = trainer.processing_class(list(map(str, held_out["answer"])))["input_ids"]
        max_tokens = max(map(len, answers)) + _ROOM_FOR_ANSWERS
    reward = get_reward(name) if name else None
    return train_and_measure(trainer, held_out, reward, max_tokens or 1, run, described)


def run_distillation(
    script: ScriptArguments,
    training: CurriculumDistillationConfig,
    model: ModelConfig,
    curriculum: CurriculumConfig,
    engine: EngineConfig,
    data: DataConfig,
    run: RunConfig,
) -> dict[str, Any]:
    """Distil a teacher into a student with a curriculum, and measure the student's held-out answers before and after.

    As [`run_with_rewards`] otherwise. Answers in free text are measured by ROUGE-L against the reference responses
    (`rouge_l_before` and `rouge_l_after`), those to multiple choice and generated tasks by their accuracy.
    """
    teacher = training.teacher_model_name_or_path = os.path.expanduser(training.teacher_model_name_or_path or "")
    check_model_and_data(script, model)
    check_model(teacher, "teacher_model_name_or_path")
    training.resume_from_checkpoint = _checkpoint(training)
    train, held_out = load_data(script, training, data)
    described = _describe_all(script, training, model, curriculum, engine, data, run)
    set_model_arguments(training, model)
    training.teacher_model_init_kwargs = {
        "attn_implementation": model.attn_implementation,
        "dtype": training.model_init_kwargs["dtype"],
        **(training.teacher_model_init_kwargs or {}),
    }
    trainer = CurriculumDistillationTrainer(
        model.model_name_or_path,
        teacher,
        training,
        train,
        held_out if training.eval_strategy != "no" else None,
        quantization_config=get_quantization_config(model),
        peft_config=get_peft_config(model),
        curriculum=curriculum,
        engine=engine,
    )
    name = None if held_out is None else run.held_out_reward or default_reward(held_out.column_names)
    free_text = name == "math" and run.held_out_reward is None
    reward = get_reward("rouge_l" if free_text else name) if name else None
    max_tokens = run.held_out_max_tokens or training.max_completion_length
    metric = "rouge_l" if free_text else "accuracy"
    return train_and_measure(trainer, held_out, reward, max_tokens, run, described, metric)


METHODS = {
    "distill": Method(ScriptArguments, CurriculumDistillationConfig, run_distillation),
    "grpo": Method(GRPOScriptArguments, GRPOConfig, run_with_rewards),
    "ppo": Method(GRPOScriptArguments, PPOConfig, run_with_rewards),
    "sft": Method(ScriptArguments, SFTConfig, run_supervised),
}


def _checkpoint(args: Any) -> str | None:
    """The checkpoint to resume from: a folder, or with `true` the last one of the run's folder."""
    asked = args.resume_from_checkpoint
    if asked is None or str(asked).lower() == "false":
        return None
    if str(asked).lower() != "true":
        if not Path(asked).is_dir():
            raise ConfigurationError(f"resume_from_checkpoint {asked!r}: there is no such folder.")
        return asked
    found = get_last_checkpoint(args.output_dir) if Path(args.output_dir).is_dir() else None
    if found is None:
        raise ConfigurationError(f"resume_from_checkpoint true: {args.output_dir} holds no checkpoint.")
    return found


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
    if not script.dataset_name:
        raise ConfigurationError("dataset_name is missing: a hub id, a local file or reasoning_gym:<task>.")


def check_model(name: str | None, setting: str = "model_name_or_path") -> None:
    """Raise [`ConfigurationError`] when no model can be found under that name, which a setting gives."""
    if not name:
        raise ConfigurationError(f"{setting} is missing.")
    check_model_path(name)
    try:
        AutoConfig.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{setting} {name!r} cannot be loaded: {error}") from error


def without_nan(value: Any) -> Any:
    """JSON has no NaN: what the data do not determine is null."""
    if isinstance(value, dict):
        return {key: without_nan(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(entry) for entry in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _describe_all(
    script: Any, training: Any, model: Any, curriculum: Any, engine: Any, data: Any, run: Any
) -> dict[str, Any]:
    settings = {"script": script, "training": training, "model": model, "curriculum": curriculum}
    settings |= {"engine": engine, "data": data, "run": run}
    return {name: _describe(config) for name, config in settings.items()}


def _describe(config: Any) -> dict[str, Any]:
    """A configuration as plain values."""
    values = config.to_dict() if hasattr(config, "to_dict") else dataclasses.asdict(config)
    return yaml.safe_load(json.dumps(values, default=str))
