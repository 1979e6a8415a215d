"""One run: evaluate, train, evaluate again, and say what came of it."""

import dataclasses
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from rich.console import Console
from rich.table import Table
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

from ..config import CurriculumConfig, DataConfig, EngineConfig, RunConfig
from ..rewards import RewardFunction, default_reward, get_reward, get_rewards
from ..trainers import (
    CurriculumDistillationConfig,
    CurriculumDistillationTrainer,
    CurriculumGRPOTrainer,
    CurriculumPPOTrainer,
    CurriculumSFTTrainer,
    PPOConfig,
)
from .accuracy import grade_answers
from .provenance import versions
from .setup import check_model, check_model_and_data, prepare, settings_parser

SUMMARY_FILE = "summary.json"
_PARTS = ("rollout", "sync", "scoring", "reward", "optimizer", "evaluation")
_METRICS = {"accuracy": "accuracy", "rouge_l": "ROUGE-L"}
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


def method_parser(method: str, *, prog: str, first: type | None = None) -> TrlParser:
    """TRL's parser over all settings of a method.

    Args:
        method (`str`):
            A key of `METHODS`.
        prog (`str`):
            Name in the help text.
        first (`type`, *optional*):
            A dataclass to parse before the others.
    """
    chosen = METHODS[method]
    ours = (CurriculumConfig, EngineConfig, DataConfig, RunConfig)
    classes = (chosen.script, chosen.training, ModelConfig, *ours)
    return settings_parser(classes if first is None else (first, *classes), prog)


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
    rewards = get_rewards(script.reward_funcs, run.reward_kwargs)
    train, held_out, described = prepare(script, training, model, curriculum, engine, data, run)
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
    return _train(trainer, held_out, accuracy, run.held_out_max_tokens or training.max_completion_length, described)


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
    train, held_out, described = prepare(script, training, model, curriculum, engine, data, run)
    trainer = CurriculumSFTTrainer(
        model.model_name_or_path,
        training,
        train_dataset=train,
        quantization_config=get_quantization_config(model),
        peft_config=get_peft_config(model),
        curriculum=curriculum,
        engine=engine,
    )
    name = None if held_out is None else default_reward(held_out.column_names)
    max_tokens = run.held_out_max_tokens
    if held_out is not None and name is not None and max_tokens is None:
        answers = trainer.processing_class(list(map(str, held_out["answer"])))["input_ids"]
        max_tokens = max(map(len, answers)) + _ROOM_FOR_ANSWERS
    return _train(trainer, held_out, get_reward(name) if name else None, max_tokens or 1, described)


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
    train, held_out, described = prepare(script, training, model, curriculum, engine, data, run)
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
    name = None if held_out is None else default_reward(held_out.column_names)
    free_text = name == "math"
    reward = get_reward("rouge_l" if free_text else name) if name else None
    max_tokens = run.held_out_max_tokens or training.max_completion_length
    return _train(trainer, held_out, reward, max_tokens, described, "rouge_l" if free_text else "accuracy")


METHODS = {
    "distill": Method(ScriptArguments, CurriculumDistillationConfig, run_distillation),
    "grpo": Method(GRPOScriptArguments, GRPOConfig, run_with_rewards),
    "ppo": Method(GRPOScriptArguments, PPOConfig, run_with_rewards),
    "sft": Method(ScriptArguments, SFTConfig, run_supervised),
}


def _train(
    trainer: Any,
    held_out: Dataset | None,
    reward: RewardFunction | None,
    max_tokens: int,
    described: dict[str, Any],
    metric: str = "accuracy",
) -> dict[str, Any]:
    """Train between two evaluations: `accuracy` is the share of full rewards, any other metric the mean reward."""
    args = trainer.args
    try:
        before = _evaluate(trainer, held_out, reward, max_tokens, metric)
        started = time.perf_counter()
        trainer.train(resume_from_checkpoint=args.resume_from_checkpoint)
        seconds = time.perf_counter() - started
        after = _evaluate(trainer, held_out, reward, max_tokens, metric)
        trainer.save_model(args.output_dir)
        trainer.save_state()
        summary = {
            f"{metric}_before": before,
            f"{metric}_after": after,
            "held_out_prompts": len(held_out) if held_out is not None else 0,
            "steps": trainer.state.global_step,
            "prompts_in_pool": len(trainer.curriculum.pool),
            "prompts_trained_on": trainer.curriculum.prompts_used(),
            "seconds": {"training": seconds} | {p: trainer.stopwatch.seconds.get(p, 0.0) for p in _PARTS},
            "versions": versions(),
            "config": described,
        }
        if isinstance(trainer, CurriculumDistillationTrainer):
            summary["seconds"]["difficulty"] = trainer.difficulty_seconds
        if trainer.accelerator.is_main_process:
            folder = Path(args.output_dir)
            trainer.save_curriculum(folder)
            (folder / SUMMARY_FILE).write_text(json.dumps(summary, indent=2, default=str) + "\n")
            print_summary(summary, folder)
        return summary
    finally:
        trainer.close()


def _evaluate(
    trainer: Any, held_out: Dataset | None, reward: RewardFunction | None, max_tokens: int, metric: str
) -> float | None:
    """A metric of held-out answers with the trainer's weights; `None` where there is nothing to measure it with."""
    if held_out is None or reward is None:
        return None
    with trainer.scoring_generator() as generator:
        if generator is None or not trainer.accelerator.is_main_process:
            return None
        with trainer.stopwatch("evaluation"):
            graded = grade_answers(
                generator,
                trainer.processing_class,
                held_out,
                reward,
                max_tokens=max_tokens,
                chat_template_kwargs=getattr(trainer, "chat_template_kwargs", None),
            )
            return float(np.nanmean(graded.right if metric == "accuracy" else graded.rewards))


def print_summary(summary: dict[str, Any], folder: Path) -> None:
    """Print the table a run ends with."""
    table = Table(title=f"{folder}", show_header=False)
    for name in [name for name in summary if name.endswith(("_before", "_after"))]:
        value = summary[name]
        metric, _, when = name.rpartition("_")
        label = f"held-out {_METRICS[metric]} {when} ({summary['held_out_prompts']} prompts, greedy)"
        table.add_row(label, "not measured" if value is None else f"{value:.3f}")
    table.add_row("optimizer steps", str(summary["steps"]))
    table.add_row("prompts trained on", f"{summary['prompts_trained_on']} of {summary['prompts_in_pool']}")
    seconds = summary["seconds"]
    table.add_row("training", f"{seconds['training']:.0f} s")
    for part in _PARTS[:-1]:
        table.add_row(f"  {part}", f"{seconds[part]:.0f} s ({seconds[part] / max(seconds['training'], 1e-9):.0%})")
    if "difficulty" in seconds:
        table.add_row("difficulty, before training", f"{seconds['difficulty']:.0f} s")
    table.add_row("evaluation, before and after", f"{seconds['evaluation']:.0f} s")
    Console().print(table)
