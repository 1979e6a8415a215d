"""A run of supervised fine-tuning."""

from typing import Any

from datasets import Dataset

from ..rewards import default_reward
from .held_out import HeldOut
from .recorder import Spent
from .settings import RunSettings, prepare
from .train import train_and_measure

# Tokens an answer may be longer than the longest reference.
_ROOM_FOR_ANSWERS = 8


def run_supervised(settings: RunSettings) -> dict[str, Any]:
    """Fine-tune on reference answers with a curriculum, and measure held-out accuracy before and after.

    As [`~edco_rl.runs.reinforcement.run_with_rewards`] otherwise. The reward that says which answers are right follows
    from the data set's columns.
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
    trainer = settings.method.load("trainer")(
        settings.model.model_name_or_path, settings.training, train_dataset=train, **settings.of_trainer()
    )
    name = None if held_out is None else run.held_out_reward or default_reward(held_out.column_names)
    max_tokens = run.held_out_max_tokens
    if held_out is not None and name is not None and max_tokens is None:
        answered = [row for row in held_out.to_list() if row["answer"] is not None]
        references = [row.reference for row in trainer.row_tokenizer.with_references(answered)]
        max_tokens = max(map(len, references), default=0) + _ROOM_FOR_ANSWERS
    judged = HeldOut.judged_by(name, held_out, max_tokens or 1, run)
    return train_and_measure(trainer, settings, judged, described, spent)
