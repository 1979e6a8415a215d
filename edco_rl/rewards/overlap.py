"""Rewards for free text: overlap with a reference."""

import functools
from collections.abc import Sequence
from typing import Any

from rouge_score.rouge_scorer import RougeScorer

from .text import completion_text


@functools.cache
def _scorer() -> RougeScorer:
    return RougeScorer(["rougeL"], use_stemmer=True)


def rouge_l(reference: str, text: str) -> float:
    """ROUGE-L of a text: F1 of the longest common subsequence of stemmed words, 0 to 1."""
    return _scorer().score(reference, text)["rougeL"].fmeasure


def rouge_l_reward(completions: Sequence[Any], answer: Sequence[str | None], **kwargs: Any) -> list[float | None]:
    """ROUGE-L of completions against the column `answer`; `None` for a row without one."""
    return [
        None if reference is None else rouge_l(reference, completion_text(completion))
        for completion, reference in zip(completions, answer, strict=True)
    ]
