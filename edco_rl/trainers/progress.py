"""The progress bar of a training run."""

from typing import Any

from transformers import ProgressCallback

from .stopwatch import PARTS


def format_postfix(logs: dict[str, Any]) -> str | None:
    """One line from the metrics of a step: reward, accuracy, entropy of the curriculum, seconds and their split.

    Returns `None` for logs that are not a training step's.
    """
    if "time/step" not in logs:
        return None
    named = (("reward", "reward"), ("accuracy", "accuracy"), ("loss", "loss"), ("entropy", "curriculum/entropy"))
    words = [f"{name} {logs[key]:.3f}" for name, key in named if logs.get(key) is not None]
    split = " + ".join(f"{part} {logs[f'time/{part}']:.1f}" for part in PARTS if logs.get(f"time/{part}"))
    return ", ".join([*words, f"{logs['time/step']:.1f} s/step = {split}"])


class CurriculumProgressCallback(ProgressCallback):
    """transformers' progress bar, with the state of the curriculum and of the clock behind it."""

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if state.is_world_process_zero and self.training_bar is not None:
            postfix = format_postfix(logs or {})
            if postfix:
                self.training_bar.set_postfix_str(postfix)


def show_progress(trainer: Any) -> None:
    """Put this bar in the place of transformers', unless that was switched off."""
    if trainer.pop_callback(ProgressCallback) is not None:
        trainer.add_callback(CurriculumProgressCallback)
