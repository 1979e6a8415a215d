"""A run of distillation."""

import os
from collections import Counter
from typing import Any

from ..rewards import default_reward
from ..trainers.distillation_config import BEST_ROUGE_L
from .held_out import HeldOut
from .recorder import Spent
from .settings import RunSettings, check_model, prepare
from .train import train_and_measure


def run_distillation(settings: RunSettings) -> dict[str, Any]:
    """Distil a teacher into a student with a curriculum, and measure the student's held-out answers before and after.

    As [`~edco_rl.runs.reinforcement.run_with_rewards`] otherwise. Answers in free text are measured by ROUGE-L against
    the reference responses (`rouge_l_before` and `rouge_l_after`), those to multiple choice and generated tasks by
    their accuracy. What measuring the prompts' difficulty took counts as time of the training, also where an earlier
    run has measured it.
    """
    training, run = settings.training, settings.run
    teacher = training.teacher_model_name_or_path = os.path.expanduser(training.teacher_model_name_or_path or "")
    check_model(teacher, "teacher_model_name_or_path")
    train, rows, described = prepare(settings)
    training.teacher_model_init_kwargs = {
        "attn_implementation": settings.model.attn_implementation,
        "dtype": training.model_init_kwargs["dtype"],
        **(training.teacher_model_init_kwargs or {}),
    }
    evaluated = training.eval_strategy != "no" or training.stage_checkpoint == BEST_ROUGE_L
    trainer = settings.method.load("trainer")(
        settings.model.model_name_or_path,
        teacher,
        training,
        train,
        rows if evaluated else None,
        **settings.of_trainer(),
    )
    name = run.held_out_reward
    if name is None and rows is not None:
        default = default_reward(rows.column_names)
        name = "rouge_l" if default == "math" else default  # of answers in free text
    held_out = HeldOut.judged_by(name, rows, run.held_out_max_tokens or training.max_completion_length, run)
    measured = {"difficulty": trainer.difficulty_seconds} if trainer.difficulty_seconds else {}
    return train_and_measure(trainer, settings, held_out, described, Spent(Counter(), measured))
