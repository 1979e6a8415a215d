"""A run of a method that learns from rewards."""

from typing import Any

from .held_out import HeldOut, training_rewards
from .settings import RunSettings, prepare
from .train import train_and_measure


def run_with_rewards(settings: RunSettings) -> dict[str, Any]:
    """Train on rewards with a curriculum, and measure held-out accuracy before and after.

    The model, the curriculum's state, TRL's metrics (`trainer_state.json`) and `summary.json` go to
    `training.output_dir`. An engine that is started here is stopped again, however the run ends.

    Returns:
        `dict[str, Any]`: what `summary.json` holds.

    Raises:
        ConfigurationError: A setting or row to be changed; raised before anything is loaded where possible.
    """
    run = settings.run
    rewards = training_rewards(settings.script, run)
    train, rows, described = prepare(settings)
    trainer = settings.method.load("trainer")(
        settings.model.model_name_or_path,
        rewards,
        settings.training,
        train,
        **settings.of_trainer(),
        share_prompts=run.share_prompts,
    )
    max_tokens = run.held_out_max_tokens or settings.training.max_completion_length
    accuracy = next((function for function in rewards if getattr(function, "is_accuracy", False)), None)
    held_out = HeldOut.judged_by(run.held_out_reward or accuracy, rows, max_tokens, run)
    return train_and_measure(trainer, settings, held_out, described)
