"""The methods that are compared: which rows get reasoning, and in what order they come."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from ..config import ComplexityConfig
from ..data.prompts import make_completion, with_instruction
from .reasoning import Chain
from .split import random_split

METHOD = "complexity_aware"
# Methods that ask a teacher.
_TEACHER_METHODS = (METHOD, "distillation", "random_split")


def with_teacher(method: str) -> bool:
    """Whether a method trains on chains of thought."""
    return method in _TEACHER_METHODS


def rows_for_teacher(method: str, classes: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Positions of the rows a method wants reasoning for.

    Args:
        method (`str`):
            `complexity_aware`: the hardest class. `distillation`: all. `random_split`: as many as the hardest class
            has, drawn at random. Others: none.
        classes (`NDArray[np.int64]`):
            Class of each row, 0 for the easiest, shape (N,).
        seed (`int`):
            Seed of the random split.
    """
    if not with_teacher(method):
        return np.empty(0, dtype=np.int64)
    if method == "distillation":
        return np.arange(len(classes))
    split = random_split(classes, seed) if method == "random_split" else classes
    return np.flatnonzero(split == classes.max())


def training_rows(
    method: str,
    rows: Dataset,
    scores: NDArray[np.float64],
    classes: NDArray[np.int64],
    chains: Mapping[str, Chain],
    config: ComplexityConfig,
    seed: int,
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """What a method trains on.

    Args:
        method (`str`):
            Name of the method.
        rows (`datasets.Dataset`):
            All rows, with `id`, `prompt` and `completion` (the plain answer).
        scores (`NDArray[np.float64]`), classes (`NDArray[np.int64]`):
            Their complexity and class.
        chains (`Mapping[str, Chain]`):
            Chains of thought by row id, for the rows that were to have one.
        config (`ComplexityConfig`):
            What becomes of rows without a usable chain, and the form of prompts.
        seed (`int`):
            Seed of the random split.

    Returns:
        `tuple[list[dict], dict[str, int]]`: rows with `id`, `prompt`, `completion`, `reasoning` (whether the
        completion is a chain of thought), `complexity` and `stage` (the class, of the random split its own); and how
        many rows are trained with `reasoning`, on a plain `answer`, on a plain answer `instead` of reasoning, and
        `dropped`.
    """
    stages = random_split(classes, seed) if method == "random_split" else classes
    counts = {"reasoning": 0, "answer": 0, "instead": 0, "dropped": 0}
    made = []
    for row, score, stage in zip(rows, scores.tolist(), stages.tolist(), strict=True):
        chain = chains.get(row["id"])
        prompt, completion = row["prompt"], row["completion"]
        if chain is None:
            counts["answer"] += 1
        elif chain.status == "right":
            counts["reasoning"] += 1
            prompt = with_instruction(prompt, config.reasoning_instruction)
            completion = make_completion(prompt, chain.text)
        elif _fallback(chain, config) == "drop":
            counts["dropped"] += 1
            continue
        else:
            counts["instead"] += 1
        new: dict[str, Any] = {"id": row["id"], "prompt": prompt, "completion": completion}
        new |= {"reasoning": chain is not None and chain.status == "right", "complexity": score, "stage": stage}
        if config.chat_template_kwargs:
            new["chat_template_kwargs"] = config.chat_template_kwargs
        made.append(new)
    return made, counts


def order(method: str, config: ComplexityConfig) -> dict[str, Any]:
    """Fields of [`~edco_rl.config.CurriculumConfig`] that make a method's order of rows."""
    if method == "curriculum":
        return {"strategy": "easy_to_hard", "strategy_kwargs": {"column": "complexity"}}
    if config.training_order == "stages" and method in (METHOD, "random_split"):
        return {"strategy": "easy_to_hard", "strategy_kwargs": {"column": "stage"}}
    return {"strategy": "random"}


def longest(rows: Dataset, tokenizer: Any) -> tuple[int, str]:
    """Tokens of the longest row, prompt and completion together, and its id."""
    lengths: Sequence[int] = [_length(row, tokenizer) for row in rows]
    row = int(np.argmax(lengths))
    return lengths[row], rows[row]["id"]


def _length(row: Mapping[str, Any], tokenizer: Any) -> int:
    if isinstance(row["prompt"], str):
        return len(tokenizer(row["prompt"] + row["completion"])["input_ids"]) + 1  # and the end of the sequence
    messages = [*row["prompt"], *row["completion"]]
    settings = row.get("chat_template_kwargs") or {}
    return len(tokenizer.apply_chat_template(messages, tokenize=True, return_dict=True, **settings)["input_ids"])


def _fallback(chain: Chain, config: ComplexityConfig) -> str:
    return config.pending_reasoning if chain.status == "pending" else config.unusable_reasoning
