"""Options of multiple choice: a list, an object by label, or texts with labels; and which one is right."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from .rows import FieldError, Row, check_text

LABELS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
OPTIONS = ("options", "choices")


def option_labels(count: int, kind: str = "letters") -> list[str]:
    """Labels of so many options: `letters` from A, or `numbers` from 1."""
    return list(LABELS[:count]) if kind == "letters" else [str(number + 1) for number in range(count)]


def labels_of(row: Mapping[str, Any]) -> list[str]:
    """Labels of a row's `options`, as its prompt has them: numbers where its `answer` is one of these."""
    numbers = option_labels(len(row["options"]), "numbers")
    return numbers if row.get("answer") in numbers else option_labels(len(numbers))


def option_label(options: list[str], value: Any, field: str, names: Sequence[str] | None = None) -> str:
    """The label of the right option, from its index, its label or its text.

    Args:
        options (`list[str]`):
            The options.
        value (`Any`):
            What says which one is right.
        field (`str`):
            The column that says so.
        names (`Sequence[str]`, *optional*):
            What the data set itself calls the options. Then a value is one of these, never an index.

    Raises:
        FieldError: The value is none of these, or names two different options.
    """
    labels = LABELS[: len(options)]
    if names is not None:
        if str(value).strip() not in names:
            raise FieldError(field, f"expected one of {', '.join(names)}, got {value!r}")
        return labels[names.index(str(value).strip())]
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise FieldError(field, f"expected an index, a label or an option's text, got {type(value).__name__}")
    if isinstance(value, str):
        text = value.strip()
        found = {labels[i] for i, option in enumerate(options) if option.strip() == text}
        if len(text) == 1 and text.upper() in labels:
            found.add(text.upper())
        if len(found) > 1:
            raise FieldError(field, f"{value!r} names more than one option; give answer_index instead")
        if found:
            return found.pop()
        if not text.removeprefix("-").isdecimal():
            raise FieldError(field, f"expected one of {', '.join(labels)}, an option's text or its index: {value!r}")
        value = int(text)
    if not 0 <= value < len(options):
        raise FieldError(field, f"{value} is out of range: there are {len(options)} options, counted from 0")
    return labels[value]


def read_options(row: Row) -> tuple[list[str], list[str] | None]:
    """The options of a row, and what the data set calls them where that is not A, B, C, ...

    Raises:
        FieldError: They cannot be read.
    """
    column, value = row.value(*OPTIONS)
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):  # a CSV file holds them as JSON
        try:
            value = json.loads(value)
        except ValueError as error:
            raise FieldError(column, f"expected a list of options; this is not valid JSON ({error})") from None
    if isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
        value = {key: [one.get(key) for one in value] for key in ("text", "label")}
    names = None
    if isinstance(value, dict):
        if {"text", "label"} <= value.keys():  # as ARC, OpenBookQA and CommonsenseQA have them
            names, value = _names(column, value["label"], value["text"]), value["text"]
        else:
            given = {key: option for key, option in value.items() if option is not None}
            if sorted(given) != list(LABELS[: len(given)]):
                raise FieldError(column, f"expected options A, B, C, ... with none left out; got {', '.join(given)}")
            value = [given[label] for label in sorted(given)]
    if not isinstance(value, list):
        raise FieldError(column, f"expected a list of options, got {type(value).__name__}")
    if not 2 <= len(value) <= len(LABELS):
        raise FieldError(column, f"expected 2 to {len(LABELS)} options, got {len(value)}")
    options = [check_text(column, option, f"option {label}") for option, label in zip(value, LABELS, strict=False)]
    return options, names


def _names(column: str, labels: Any, texts: Any) -> list[str]:
    if not isinstance(labels, list) or not isinstance(texts, list) or len(labels) != len(texts):
        raise FieldError(column, "expected lists 'text' and 'label' of one length")
    names = [check_text(column, str(label), "a label").strip() for label in labels]
    if len(set(names)) < len(names):
        raise FieldError(column, f"expected a label of its own for each option, got {', '.join(names)}")
    return names
