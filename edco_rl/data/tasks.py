"""Generated tasks: reasoning-gym's generators as data sets with a training pool and disjoint held-out prompts."""

import json
from collections.abc import Iterator
from typing import Any

from datasets import Dataset

from ..errors import ConfigurationError
from .overlap import near_key
from .prompts import fill_template

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
    """Generate a training pool and held-out prompts; no prompt is twice in either, and none has a near-equal one in
    the other.

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
        # Held-out rows first: a larger pool leaves them as they are.
        train, held_out = _apart(list(rows.values()), held_out_prompts)
        if len(held_out) == held_out_prompts and len(train) >= train_prompts:
            break
    else:
        raise ConfigurationError(
            f"{dataset_name} with task_kwargs {task_kwargs} has only about {len(rows)} different prompts; "
            f"train_prompts and held_out_prompts ask for {wanted}."
        )
    return Dataset.from_list(train[:train_prompts]), Dataset.from_list(held_out) if held_out else None


def _apart(rows: list[dict[str, Any]], count: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The first rows that are not near-equal to each other, so many, as second; the first are near-equal to none."""
    held_out: dict[bytes, dict[str, Any]] = {}
    train = []
    for row in rows:
        key = near_key(row["prompt"])
        if key not in held_out and len(held_out) >= count:
            train.append(row)
        elif key not in held_out:
            held_out[key] = row
    return train, list(held_out.values())


def _rows(entries: Any, template: str, conversational: bool) -> Iterator[dict[str, Any]]:
    for entry in entries:
        fields = {**entry["metadata"], "question": entry["question"], "answer": entry["answer"]}
        text = fill_template(template, fields, "The task has")
        yield {
            "prompt": [{"role": "user", "content": text}] if conversational else text,
            "answer": str(entry["answer"]),
            "entry": json.dumps(entry, default=str),
        }
