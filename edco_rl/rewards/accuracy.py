"""Rewards of right answers: multiple choice, numbers and mathematics, generated tasks."""

import itertools
import json
import re
import unicodedata
from collections.abc import Callable
from functools import cache
from typing import Any

from .mathematics import is_right, read_reference
from .numbered import find_numbered_option
from .text import ANSWER_IS, NOT_DENIED, answer_text, ascii_numbers, completion_text, reference_text

_ALL_LABELS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_BOXED = re.compile(r"\\boxed\s*\{\s*(?:\\(?:text|textbf|mathrm|mathbf)\s*\{)?\s*([^{}]*?)\s*\}")
# "A" and "I" can be words: "A router is ..." is no decision, "A because ..." is one.
_NO_WORD = r"(?![AI]\s+(?!(?:because|since|as|and|or|which|but|so|given|due|for|is)\b)[a-z])"
_LABEL = rf"{_NO_WORD}([A-Z])(?![A-Za-z0-9'])"
_LAST_WORD = r"([a-z])(?=[\s*_)\]\"'`]*(?:[.,;]|$))"
# "The answer is (B)", "Answer: **b**", "correct option: B"; what stands between is only decoration.
_STATEMENT = re.compile(
    rf"{ANSWER_IS}(?i:\s+(?:option|choice|letter))?\s*[:=]?[\s*_(\[\"'`]*(?:{_LABEL}|{_LAST_WORD}){NOT_DENIED}"
)
_HEDGE = re.compile(rf"[\s*_)\].\"'`]*(?:,|/|&|\bor\b|\band\b)[\s*_(\[\"'`]*(?:option\s+)?{_LABEL}")
_LABEL_ONLY = re.compile(r"[\W_]*([A-Za-z])[\W_]*")
_LISTED = re.compile(r"[\s*_(\[]*([A-Z])[*_]*[.):\]]")
_STANDING_ALONE = re.compile(rf"(?<![A-Za-z0-9']){_LABEL}")
_REFERENCE_LABEL = re.compile(r"(?:\\(?:text|math)\w*\s*\{)?\s*\(?([A-J])\)?\s*\}?")
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?")
_NEGATION = re.compile(
    r"\b(?:not|never|neither|nor|none|wrong|incorrect|false|except|nicht|kein|pas|no\s+es|não|не|δεν)\b|n't\b"
    + unicodedata.normalize("NFKC", "|不|没|沒|ない|ません|아니|아닙|ليس|नहीं|לא|ไม่|নয়"),
    re.IGNORECASE,
)


def find_option(text: str, options: list[str] | None = None) -> str | None:
    """The label of the option a text decides for; `None` where it decides for none, or for more than one.

    In this order: what is boxed; first lines of nothing but a label; the last statement such as "the answer is B";
    lines that begin with a label, as in "B. two", from the first on; a text that is an option's; labels anywhere in a
    text that denies nothing. Two different labels are no decision.

    Args:
        text (`str`):
            The answer.
        options (`list[str]`, *optional*):
            Texts of the options, labelled A, B, C, ... Without them any letter can be a label.
    """
    text = unicodedata.normalize("NFKC", text).strip()
    labels = _ALL_LABELS[: len(options)] if options else _ALL_LABELS
    boxed = _BOXED.findall(text)
    if boxed:
        text = boxed[-1]
    lines = text.splitlines() or [""]
    alone = [match[1].upper() for match in itertools.takewhile(bool, map(_LABEL_ONLY.fullmatch, lines)) if match]
    if alone:
        return _only(alone, labels)
    statements = [match for match in _STATEMENT.finditer(text) if (match[1] or match[2]).upper() in labels]
    if statements:
        other = _HEDGE.match(text, statements[-1].end())
        hedged = other is not None and other[1] in labels
        return None if hedged else (statements[-1][1] or statements[-1][2]).upper()
    listed = [match[1] for match in map(_LISTED.match, lines) if match]
    if listed and _LISTED.match(lines[0]):
        return _only(listed, labels)
    same = [label for label, option in zip(labels, options or [], strict=False) if _plain(option) == _plain(text)]
    if same:
        return _only(same, labels)
    return None if _NEGATION.search(text) else _only(_STANDING_ALONE.findall(text), labels)


def _only(found: list[str], labels: str) -> str | None:
    known = {label for label in found if label in labels}
    return known.pop() if len(known) == 1 else None


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split()).strip(" .。।")


def multiple_choice_reward(
    completions: list[Any], answer: list[str], options: list[list[str] | None] | None = None, **kwargs: Any
) -> list[float | None]:
    """1 where a completion decides for the right option of a multiple-choice question, else 0.

    What counts as a decision is said at [`find_option`], and where options have numbers at
    [`~edco_rl.rewards.numbered.find_numbered_option`]; two labels are none.

    Args:
        completions (`list[str]` or `list[list[dict]]`):
            Completions. Of one with `<answer>` tags the last tag counts, else all that follows `</think>`.
        answer (`list[str]`):
            Labels of the right options, a column of the data set: letters from A, or numbers from 1. A row whose
            answer is no label gets no reward (`None`).
        options (`list[list[str]]`, *optional*):
            Texts of the options, a column of the data set.
    """
    scores: list[float | None] = []
    for row, (completion, expected) in enumerate(zip(completions, answer, strict=True)):
        row_options = options[row] if options is not None else None
        label = unicodedata.normalize("NFKC", str(expected)).strip().upper()
        if row_options and label.isdecimal() and 1 <= int(label) <= len(row_options):
            scores.append(float(find_numbered_option(answer_text(completion), row_options) == str(int(label))))
        elif len(label) != 1 or label not in _ALL_LABELS[: len(row_options) if row_options else None]:
            scores.append(None)
        else:
            scores.append(float(find_option(answer_text(completion), row_options) == label))
    return scores


def math_reward(
    completions: list[Any], answer: list[Any], first_number: bool = False, **kwargs: Any
) -> list[float | None]:
    """1 where the last number or expression of a completion equals the answer, as math-verify compares them, else 0.

    What is boxed counts, else what follows "the answer is", else what stands last. Digits and signs of other scripts,
    decimal commas and thousands separators are read as people write them, and units are left out.

    Args:
        completions (`list[str]` or `list[list[dict]]`):
            Completions. Of one with `<answer>` tags the last tag counts, else all that follows `</think>`.
        answer (`list[str]`, `list[int]` or `list[float]`):
            Right answers, a column of the data set: LaTeX with or without delimiters, numbers, tuples, intervals,
            sets, or a few words. A row whose answer is missing, or a longer text that is no mathematics, gets no
            reward (`None`).
        first_number (`bool`, *optional*, defaults to `False`):
            Whether the first number of a completion counts instead: for prompts that a model continues past its
            answer, as a sequence of numbers.
    """
    scores: list[float | None] = []
    for completion, expected in zip(completions, answer, strict=True):
        reference = None if (right := reference_text(expected)) is None else read_reference(right)
        if reference is None:
            scores.append(None)
            continue
        text = answer_text(completion)
        if first_number and (number := _NUMBER.search(ascii_numbers(text))):
            text = number[0]
        label = _REFERENCE_LABEL.fullmatch(reference.written)
        scores.append(float(is_right(reference, text) or (label is not None and find_option(text) == label[1])))
    return scores


@cache
def _grader(task: str) -> Callable[[str | None, dict[str, Any]], float]:
    import reasoning_gym

    return reasoning_gym.get_score_answer_fn(task)


def _score(grade: Callable[[str | None, dict[str, Any]], float], answer: str, entry: dict[str, Any]) -> float:
    """What a grader says of an answer; 0 where it cannot read it, though it can read the right one."""
    try:
        return float(grade(answer, entry))
    except Exception:
        grade(str(entry["answer"]), entry)  # raises where the entry is at fault
        return 0.0


def reasoning_gym_reward(completions: list[Any], entry: list[str], **kwargs: Any) -> list[float | None]:
    """The score of reasoning-gym's own grader, 0 to 1.

    The answer is what stands in the last `<answer>` tag, or the whole completion without one.

    Args:
        completions (`list[str]` or `list[list[dict]]`):
            Completions.
        entry (`list[str]`):
            The task's entries as JSON, a column of generated tasks.
    """
    from reasoning_gym.utils import extract_answer

    scores: list[float | None] = []
    for completion, text in zip(completions, entry, strict=True):
        answer = completion_text(completion)
        tagged = extract_answer(answer)
        task_entry = json.loads(text)
        grade = _grader(task_entry["metadata"]["source_dataset"])
        given = answer.strip() if tagged is None else tagged
        # A grader compares characters: digits of other scripts are those of ASCII as well.
        scores.append(max(_score(grade, form, task_entry) for form in {given, ascii_numbers(given)}))
    return scores


# Marks a reward of 1 as a right answer: the share of those is logged as accuracy, and measured on held-out prompts.
multiple_choice_reward.is_accuracy = True  # type: ignore[attr-defined]
math_reward.is_accuracy = True  # type: ignore[attr-defined]
reasoning_gym_reward.is_accuracy = True  # type: ignore[attr-defined]
