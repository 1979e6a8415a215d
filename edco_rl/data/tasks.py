"""Generated tasks: reasoning-gym's generators as data sets with a training pool and disjoint held-out prompts."""

import json
from collections.abc import Iterator
from typing import Any

from datasets import Dataset

from ..errors import ConfigurationError

TASK_PREFIX = "reasoning_gym:"
DEFAULT_TRAIN_PROMPTS = 1000
_ATTEMPTS = 20
_SEED_STRIDE = 10_000_000


def is_generated(dataset_name: str) -> bool:
    """Whether a `dataset_name` names a generated task."""
    return dataset_name.startswith(TASK_PREFIX)


def generate_tasks(
    dataset_name: str,
    *,
    train_prompts: int,
    held_out_prompts: int,
    seed: int,
    task_kwargs: dict[str, Any] | None = None,
    prompt_template: str = "{question}",
    conversational: bool = True,
) -> tuple[Dataset, Dataset | None]:
    """Generate a training pool and held-out prompts; no prompt is in both, nor twice in either.

    Args:
        dataset_name (`str`):
            `reasoning_gym:` and the name of a task, for example `reasoning_gym:chain_sum`.
        train_prompts (`int`), held_out_prompts (`int`):
            Rows wanted.
        seed (`int`):
            Seed of the generator.
        task_kwargs (`dict`, *optional*):
            The task's settings.
        prompt_template (`str`, *optional*, defaults to `"{question}"`):
            Text of the prompt, with the fields of the task's entry and of its metadata.
        conversational (`bool`, *optional*, defaults to `True`):
            Whether prompts are messages, for the chat template, or plain text.

    Returns:
        `tuple[Dataset, Dataset or None]`: training and held-out rows (`None` where none are wanted), with
        columns `prompt`, `answer` and `entry` (the task's
        whole entry as JSON, for its grader).

    Raises:
        ConfigurationError: There is no such task or setting, or it has too few different prompts.
    """
    import reasoning_gym

    task = dataset_name.removeprefix(TASK_PREFIX)
    wanted = train_prompts + held_out_prompts
    rows: dict[str, dict[str, Any]] = {}
    for attempt in range(_ATTEMPTS):
        try:
            # A task draws its entry i with seed + i: these ranges of seeds do not overlap.
            entries = reasoning_gym.create_dataset(
                task, size=wanted, seed=seed * _SEED_STRIDE + attempt * wanted, **(task_kwargs or {})
            )
        except (ValueError, TypeError, AssertionError) as error:
            raise ConfigurationError(
                f"dataset_name {dataset_name!r} with task_kwargs {task_kwargs}: {error}."
            ) from error
        for row in _rows(entries, prompt_template, conversational):
            rows.setdefault(str(row["prompt"]), row)
        if len(rows) >= wanted:
            break
    else:
        raise ConfigurationError(
            f"{dataset_name} with task_kwargs {task_kwargs} has only about {len(rows)} different prompts; "
            f"train_prompts and held_out_prompts ask for {wanted}."
        )
    unique = list(rows.values())[:wanted]
    # Held-out rows first: a larger pool leaves them as they are.
    held_out = Dataset.from_list(unique[:held_out_prompts]) if held_out_prompts else None
    return Dataset.from_list(unique[held_out_prompts:]), held_out


def _rows(entries: Any, template: str, conversational: bool) -> Iterator[dict[str, Any]]:
    for entry in entries:
        fields = {**entry["metadata"], "question": entry["question"], "answer": entry["answer"]}
        try:
            text = template.format(**fields)
        except (KeyError, IndexError, ValueError) as error:
            raise ConfigurationError(
                f"prompt_template {template!r}: {error} cannot be filled in; the task has {', '.join(sorted(fields))}."
            ) from error
        yield {
            "prompt": [{"role": "user", "content": text}] if conversational else text,
            "answer": str(entry["answer"]),
            "entry": json.dumps(entry, default=str),
        }
