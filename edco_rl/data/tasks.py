"""Generated tasks: reasoning-gym's generators, and mixtures, as a training pool and disjoint held-out prompts."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from datasets import Dataset

from ..errors import ConfigurationError
from .overlap import near_key
from .prompts import fill_template

TASK_PREFIX = "reasoning_gym:"
MIXTURE = "mixture"
DEFAULT_TRAIN_PROMPTS = 1000
_ATTEMPTS = 20
_SEED_STRIDE = 10_000_000
_SUBJECT_STRIDE = 1000


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
            `reasoning_gym:` and the name of a task, for example `reasoning_gym:chain_sum`; or `reasoning_gym:mixture`,
            with the tasks in `task_kwargs`.
        train_prompts (`int`), held_out_prompts (`int`):
            Rows wanted.
        seed (`int`):
            Seed of the generator.
        task_kwargs (`dict`, *optional*):
            The task's settings; of a mixture `tasks`, which gives for each subject the `task` it is of, and the task's
            settings: `{"tasks": {"sums": {"task": "chain_sum", "max_terms": 2}}}`. All have the same share, and no
            held-out rows where `held_out` is false; one may have a `prompt_template` of its own.
        prompt_template (`str`, *optional*, defaults to `"{question}"`):
            Text of the prompt, with the fields of the task's entry and of its metadata.
        conversational (`bool`, *optional*, defaults to `True`):
            Whether prompts are messages, for the chat template, or plain text.

    Returns:
        `tuple[Dataset, Dataset or None]`: training and held-out rows (`None` where none are wanted), with
        columns `prompt`, `answer`, `entry` (the task's whole entry as JSON, for its grader), and of a mixture
        `subject`.

    Raises:
        ConfigurationError: There is no such task or setting, or it has too few different prompts.
    """
    name, settings = dataset_name.removeprefix(TASK_PREFIX), task_kwargs or {}
    tasks = _tasks_of(settings, prompt_template) if name == MIXTURE else {"": (name, settings, prompt_template, True)}
    measured = [subject for subject, (*_, held) in tasks.items() if held]
    train: list[dict[str, Any]] = []
    held_out: list[dict[str, Any]] = []
    for number, (subject, (task, its_settings, template, _)) in enumerate(tasks.items()):
        wanted = [_share(train_prompts, number, len(tasks)), 0]
        if subject in measured:
            wanted[1] = _share(held_out_prompts, measured.index(subject), len(measured))
        # A prompt that several tasks can ask is asked by the first.
        known = {near_key(row["prompt"]) for row in (*train, *held_out)}
        rows: dict[str, dict[str, Any]] = {}
        for attempt in range(_ATTEMPTS):
            for entry in _entries(task, its_settings, sum(wanted), seed + _SUBJECT_STRIDE * number, attempt):
                row = _row(entry, subject, template, conversational)
                if not known or near_key(row["prompt"]) not in known:
                    rows.setdefault(str(row["prompt"]), row)
            # Held-out rows first: a larger pool leaves them as they are.
            its_train, its_held_out = _apart(list(rows.values()), wanted[1])
            if len(its_held_out) == wanted[1] and len(its_train) >= wanted[0]:
                break
        else:
            raise ConfigurationError(
                f"{TASK_PREFIX}{task} with task_kwargs {its_settings} has only about {len(rows)} different prompts; "
                f"train_prompts and held_out_prompts ask for {sum(wanted)}."
            )
        train += its_train[: wanted[0]]
        held_out += its_held_out
    if len(tasks) > 1:
        for rows_of_all in (train, held_out):
            np.random.default_rng(seed).shuffle(rows_of_all)
    return Dataset.from_list(train), Dataset.from_list(held_out) if held_out else None


def _share(count: int, number: int, of: int) -> int:
    """How many of so many fall to one of several, the first ones getting what is left over."""
    return -(-(count - number) // of)


def _tasks_of(settings: Mapping[str, Any], prompt_template: str) -> dict[str, tuple[str, dict[str, Any], str, bool]]:
    """Task, its settings and template of each subject of a mixture, and whether held-out rows are of it."""
    tasks = settings.get("tasks")
    if not isinstance(tasks, Mapping) or not tasks or settings.keys() != {"tasks"}:
        raise ConfigurationError(
            f"{TASK_PREFIX}{MIXTURE} needs task_kwargs with tasks alone, which name tasks by their subjects, as "
            f'{{"tasks": {{"sums": {{"task": "chain_sum", "max_terms": 2}}}}}}; got {dict(settings)}.'
        )
    for subject, one in tasks.items():
        if not isinstance(one, Mapping) or not isinstance(one.get("task"), str):
            raise ConfigurationError(f"task_kwargs, tasks, {subject!r}: expected a mapping with a task; got {one!r}.")
    found = {
        str(subject): (
            one["task"],
            {key: value for key, value in one.items() if key not in ("task", "prompt_template", "held_out")},
            str(one.get("prompt_template", prompt_template)),
            bool(one.get("held_out", True)),
        )
        for subject, one in tasks.items()
    }
    if not any(held for *_, held in found.values()):
        raise ConfigurationError("task_kwargs, tasks: held_out is false for all of them.")
    return found


def _entries(task: str, settings: dict[str, Any], count: int, seed: int, attempt: int) -> Any:
    import reasoning_gym

    try:
        # A task draws its entry i with seed + i: these ranges of seeds do not overlap.
        return reasoning_gym.create_dataset(task, size=count, seed=seed * _SEED_STRIDE + attempt * count, **settings)
    except (ValueError, TypeError, AssertionError) as error:
        raise ConfigurationError(f"{TASK_PREFIX}{task} with task_kwargs {settings}: {error}.") from error


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


def _row(entry: dict[str, Any], subject: str, template: str, conversational: bool) -> dict[str, Any]:
    fields = {**entry["metadata"], "question": entry["question"], "answer": entry["answer"]}
    text = fill_template(template, fields, "The task has")
    return {
        "prompt": [{"role": "user", "content": text}] if conversational else text,
        "answer": str(entry["answer"]),
        "entry": json.dumps(entry, default=str),
    } | ({"subject": subject} if subject else {})
