"""One run of a method: from its settings to a trainer."""

import dataclasses
import os
from collections.abc import Callable
from typing import Any

from datasets import Dataset
from trl import (
    GRPOConfig,
    ModelConfig,
    ScriptArguments,
    SFTConfig,
    TrlParser,
)
from trl.scripts.grpo import GRPOScriptArguments

from ..config import CurriculumConfig, DataConfig, EngineConfig, RunConfig
from ..rewards import RewardFunction, default_reward, get_reward, get_rewards
from ..trainers import (
    CurriculumDistillationConfig,
    CurriculumDistillationTrainer,
    CurriculumGRPOTrainer,
    CurriculumPPOTrainer,
    CurriculumSFTTrainer,
    CurriculumPPOConfig,
)
from .settings import RunSettings, check_model, prepare, settings_parser
from .train import Spent, train_and_measure

# Tokens an answer may be longer than the longest reference.
_ROOM_FOR_ANSWERS = 8


@dataclasses.dataclass(frozen=True)
class Method:
    """A training method: TRL's settings of it, and what runs it.

    Args:
        script (`type`), training (`type`):
            TRL's dataclasses of the script's and the trainer's arguments.
        run (`Callable`):
            Trains as [`RunSettings`] say, and returns what `summary.json` holds.
    """

    script: type
    training: type
    run: Callable[[RunSettings], dict[str, Any]]


def method_parser(method: Method, prog: str) -> TrlParser:
    """TRL's parser over all settings of a method.

    Args:
        method (`Method`):
            The method.
        prog (`str`):
            Name in the help text.
    """
    ours = (CurriculumConfig, EngineConfig, DataConfig, RunConfig)
    return settings_parser((method.script, method.training, ModelConfig, *ours), prog)


def run_with_rewards(settings: RunSettings) -> dict[str, Any]:
    """Train with PPO (given a [`CurriculumPPOConfig`]) or GRPO and a curriculum, and measure accuracy before and after.

    The model, the curriculum's state, TRL's metrics (`trainer_state.json`) and `summary.json` go to
    `training.output_dir`. An engine that is started here is stopped again, however the run ends.

    Returns:
        `dict[str, Any]`: what `summary.json` holds.

    Raises:
        ConfigurationError: A setting or row to be changed; raised before anything is loaded where possible.
    """
    training, run = settings.training, settings.run
    names = settings.script.reward_funcs or []
    kwargs = _reward_kwargs(run)
    if run.held_out_reward not in names:
        kwargs = {name: values for name, values in kwargs.items() if name != run.held_out_reward}
    rewards = get_rewards(names, kwargs)
    train, held_out, described = prepare(settings)
    trainer_class = CurriculumPPOTrainer if isinstance(training, CurriculumPPOConfig) else CurriculumGRPOTrainer
    trainer = trainer_class(
        settings.model.model_name_or_path,
        rewards,
        training,
        train,
        **settings.of_trainer(),
        share_prompts=run.share_prompts,
    )
    accuracy = next((function for function in rewards if getattr(function, "is_accuracy", False)), None)
    if run.held_out_reward is not None:
        accuracy = _held_out_reward(run, run.held_out_reward)
    max_tokens = run.held_out_max_tokens or training.max_completion_length
    return train_and_measure(trainer, held_out, accuracy, max_tokens, run, described)


def run_supervised(settings: RunSettings) -> dict[str, Any]:
    """Fine-tune on reference answers with a curriculum, and measure held-out accuracy before and after.

    As [`run_with_rewards`] otherwise. The reward that says which answers are right follows from the data set's
    columns.
    """
    return fine_tune(settings, *prepare(settings))


def fine_tune(
    settings: RunSettings,
    train: Dataset,
    held_out: Dataset | None,
    described: dict[str, Any],
    spent: Spent | None = None,
) -> dict[str, Any]:
    """Fine-tune on rows with a curriculum, as [`run_supervised`] does.

    Args:
        settings (`RunSettings`):
            The run's.
        train (`datasets.Dataset`), held_out (`datasets.Dataset`, *optional*), described (`dict[str, Any]`):
            As of [`~edco_rl.runs.settings.prepare`].
        spent (`Spent`, *optional*):
            What making the rows has cost.

    Returns:
        `dict[str, Any]`: what `summary.json` holds.
    """
    run = settings.run
    trainer = CurriculumSFTTrainer(
        settings.model.model_name_or_path,
        settings.training,
        train_dataset=train,
        **settings.of_trainer(),
    )
    name = None if held_out is None else run.held_out_reward or default_reward(held_out.column_names)
    max_tokens = run.held_out_max_tokens
    if held_out is not None and name is not None and max_tokens is None:
        answers = trainer.processing_class(list(map(str, held_out["answer"])))["input_ids"]
        max_tokens = max(map(len, answers)) + _ROOM_FOR_ANSWERS
    reward = _held_out_reward(run, name) if name else None
    return train_and_measure(trainer, held_out, reward, max_tokens or 1, run, described, spent=spent)


def run_distillation(settings: RunSettings) -> dict[str, Any]:
    """Distil a teacher into a student with a curriculum, and measure the student's held-out answers before and after.

    As [`run_with_rewards`] otherwise. Answers in free text are measured by ROUGE-L against the reference responses
    (`rouge_l_before` and `rouge_l_after`), those to multiple choice and generated tasks by their accuracy.
    """
    training, run = settings.training, settings.run
    teacher = training.teacher_model_name_or_path = os.path.expanduser(training.teacher_model_name_or_path or "")
    check_model(teacher, "teacher_model_name_or_path")
    train, held_out, described = prepare(settings)
    training.teacher_model_init_kwargs = {
        "attn_implementation": settings.model.attn_implementation,
        "dtype": training.model_init_kwargs["dtype"],
        **(training.teacher_model_init_kwargs or {}),
    }
    trainer = CurriculumDistillationTrainer(
        settings.model.model_name_or_path,
        teacher,
        training,
        train,
        held_out if training.eval_strategy != "no" else None,
        **settings.of_trainer(),
    )
    name = None if held_out is None else run.held_out_reward or default_reward(held_out.column_names)
    free_text = name == "math" and run.held_out_reward is None
    reward = _held_out_reward(run, "rouge_l" if free_text else name) if name else None
    max_tokens = run.held_out_max_tokens or training.max_completion_length
    metric = "rouge_l" if free_text else "accuracy"
    return train_and_measure(trainer, held_out, reward, max_tokens, run, described, metric)


def _held_out_reward(run: RunConfig, name: str) -> RewardFunction:
    return get_reward(name, **_reward_kwargs(run).get(name, {}))


def _reward_kwargs(run: RunConfig) -> dict[str, dict[str, Any]]:
    assert not isinstance(run.reward_kwargs, str)  # the configuration has parsed it
    return run.reward_kwargs or {}


METHODS = {
    "distill": Method(ScriptArguments, CurriculumDistillationConfig, run_distillation),
    "grpo": Method(GRPOScriptArguments, GRPOConfig, run_with_rewards),
    "ppo": Method(GRPOScriptArguments, CurriculumPPOConfig, run_with_rewards),
    "sft": Method(ScriptArguments, SFTConfig, run_supervised),
}
