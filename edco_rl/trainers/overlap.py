"""What can go on while the optimizer works, and what that asks of engine, trainer and settings."""

from collections.abc import Sequence
from typing import Any

from ..config import CurriculumConfig, EngineConfig
from ..engine.launch import ENGINES
from ..errors import ConfigurationError


def check_overlap(trainer: type[Any], args: Any, config: CurriculumConfig, engine: EngineConfig | None) -> None:
    """Refuse settings that cannot work together, before a model is loaded.

    Args:
        trainer (`type`):
            Class of the trainer.
        args (`TrainingArguments`, *optional*):
            Its settings, where they were given.
        config (`CurriculumConfig`):
            Settings of the curriculum.
        engine (`EngineConfig`, *optional*):
            Settings of the engine, where there is one.

    Raises:
        ConfigurationError: It names the setting, and what it needs.
    """
    if config.curriculum_scoring_ahead:
        _check_engine("curriculum_scoring_ahead", engine)
    if engine is None:
        return
    older = [f"rollouts_ahead {engine.rollouts_ahead}"] if engine.rollouts_ahead else []
    older += [f"sync_interval {engine.sync_interval}"] if engine.sync_interval > 1 else []
    if older:
        _check_correction(older[0], trainer, args)
    if engine.rollouts_ahead:
        _check_engine("rollouts_ahead", engine)
        _check_batches(trainer, args, config.gates or ())


def _check_engine(setting: str, engine: EngineConfig | None) -> None:
    if engine is not None and isinstance(engine.engine_url, list):
        raise ConfigurationError(f"{setting} works with one server, and engine_url names {len(engine.engine_url)}.")
    if engine is None or not ENGINES.find(engine.engine_mode).answers_beside:
        mode = "none" if engine is None else engine.engine_mode
        raise ConfigurationError(
            f"{setting} needs an engine that works in a process of its own while the optimizer does: engine_mode "
            f"server; it is {mode}."
        )


def _check_correction(setting: str, trainer: type[Any], args: Any) -> None:
    if not trainer.corrects_older_rollouts:
        raise ConfigurationError(
            f"{setting} has rollouts made by older weights, and {trainer.__name__} does not correct its loss for "
            "that; GRPO and PPO do."
        )
    if not getattr(args, "vllm_importance_sampling_correction", True):
        raise ConfigurationError(
            f"{setting} has rollouts made by older weights: set vllm_importance_sampling_correction to true, which "
            "corrects the loss for that."
        )


def _check_batches(trainer: type[Any], args: Any, gates: Sequence[str]) -> None:
    if gates:
        raise ConfigurationError(
            f"rollouts_ahead 1 makes a batch before its turn, and gates {list(gates)} fill one up in its turn: leave "
            "one of the two out."
        )
    if args is not None and trainer.batch_layout(args).steps_per_batch % 1:
        raise ConfigurationError(
            "rollouts_ahead 1 needs generation batches that last whole optimizer steps: steps_per_generation "
            f"{args.steps_per_generation} times num_iterations {args.num_iterations} must be a multiple of "
            f"gradient_accumulation_steps {args.gradient_accumulation_steps}."
        )
