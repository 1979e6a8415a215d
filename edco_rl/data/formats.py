"""The forms a row can have, and how each becomes a prompt with its answer."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigurationError
from .prompts import content_id, make_completion, make_prompt, prompt_problem, with_system_prompt
from .rows import FieldError, Row, check_encoding, check_text

LABELS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

# Names of this package first; then what public data sets call the same thing.
_QUESTION = ("question", "problem")
_OPTIONS = ("options", "choices")
_CHOICE = ("answer_index", "answer_idx", "answer", "label")
_ANSWER = ("answer", "solution", "final_answer")
_RESPONSE = ("response", "output", "answer")
_CONTEXT = ("context", "input")
_SUBJECT = ("subject", "category")

# Conversational and plain text. A plain prompt ends so that the model goes on with the answer.
_TEMPLATES = {
    "multiple_choice": (
        "{context}{question}\n\n{options}\n\nAnswer with the letter of the right option: {labels}.",
        "{context}Question: {question}\n{options}\nAnswer:",
    ),
    "instruction": ("{context}{question}", "{context}Instruction: {question}\nResponse:"),
    "verifiable": ("{context}{question}", "{context}Question: {question}\nAnswer:"),
}


@dataclass(frozen=True)
class PromptSettings:
    """How prompts look; see [`~edco_rl.config.DataConfig`]."""

    conversational: bool
    prompt_template: str | None
    system_prompt: str | None
    max_prompt_characters: int


Convert = Callable[[Row, PromptSettings], dict[str, Any]]


def detect_format(columns: set[str], mapping: Mapping[str, str]) -> str | None:
    """The form of rows with these columns: the first whose columns are there.

    `prompt` (`prompt` or `messages`), `multiple_choice` (`options` or `choices`), `instruction` (`instruction`),
    `verifiable` (`question` or `problem`).
    """

    def has(*names: str) -> bool:
        return any(mapping.get(name, name) in columns for name in names)

    if has("prompt", "messages"):
        return "prompt"
    if has(*_OPTIONS):
        return "multiple_choice"
    if has("instruction"):
        return "instruction"
    return "verifiable" if has(*_QUESTION) else None


def option_label(options: list[str], value: Any, field: str) -> str:
    """The label of the right option, from its index, its label or its text.

    Raises:
        FieldError: The value is none of these, or names two different options.
    """
    labels = LABELS[: len(options)]
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


def _options(row: Row) -> list[str]:
    column, value = row.value(*_OPTIONS)
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):  # a CSV file holds them as JSON
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise FieldError(column, f"expected a list of options; this is not valid JSON ({error})") from None
    if isinstance(value, dict):
        given = {key: option for key, option in value.items() if option is not None}
        if sorted(given) != list(LABELS[: len(given)]):
            raise FieldError(column, f"expected options A, B, C, ... with none left out; got {', '.join(given)}")
        value = [given[label] for label in sorted(given)]
    if not isinstance(value, list):
        raise FieldError(column, f"expected a list of options, got {type(value).__name__}")
    if not 2 <= len(value) <= len(LABELS):
        raise FieldError(column, f"expected 2 to {len(LABELS)} options, got {len(value)}")
    return [check_text(column, option, f"option {label}") for option, label in zip(value, LABELS, strict=False)]


def _multiple_choice(row: Row, settings: PromptSettings) -> dict[str, Any]:
    question, context, options = row.text(*_QUESTION), row.optional_text(*_CONTEXT), _options(row)
    column, value = row.value(*_CHOICE)
    if column == row.mapping.get("answer_index", "answer_index") and isinstance(value, str) and value.isdecimal():
        value = int(value)  # as a CSV file has it
    answer = option_label(options, value, column)
    lines = "\n".join(f"{label}. {option}" for label, option in zip(LABELS, options, strict=False))
    labels = [*LABELS[: len(options)]]
    prompt = _prompt(
        "multiple_choice",
        settings,
        question,
        context,
        options=lines,
        labels=f"{', '.join(labels[:-1])} or {labels[-1]}",
    )
    return {
        "id": _identifier(row, question[1], context or "", options),
        "prompt": prompt,
        "answer": answer,
        "options": options,
        "completion": make_completion(prompt, answer),
    } | _notes(row)


def _instruction(row: Row, settings: PromptSettings) -> dict[str, Any]:
    return _open_ended("instruction", row, settings, ("instruction",), _RESPONSE)


def _verifiable(row: Row, settings: PromptSettings) -> dict[str, Any]:
    return _open_ended("verifiable", row, settings, _QUESTION, _ANSWER)


def _open_ended(
    kind: str, row: Row, settings: PromptSettings, questions: tuple[str, ...], answers: tuple[str, ...]
) -> dict[str, Any]:
    question, context, answer = row.text(*questions), row.optional_text(*_CONTEXT), _answer(row, *answers)
    prompt = _prompt(kind, settings, question, context)
    converted = {"id": _identifier(row, question[1], context or ""), "prompt": prompt}
    if answer is not None:
        converted |= {"answer": answer, "completion": make_completion(prompt, answer)}
        if kind == "instruction":
            converted["response"] = answer
    return converted | _notes(row)


def _answer(row: Row, *names: str) -> str | None:
    """An answer as text; `None` where the source has no such column at all."""
    if row.column(*names) is None:
        return None
    column, value = row.value(*names)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return check_text(column, value, "the answer")


def _trl(row: Row, settings: PromptSettings) -> dict[str, Any]:
    """TRL's own forms: `prompt`, `prompt` and `completion`, or `messages` that end with the assistant's."""
    column = row.column("prompt") or row.column("messages") or "prompt"
    prompt: Any = row.values.get(column)
    completion_column = row.column("completion")
    completion = row.values.get(completion_column) if completion_column else None
    _check_prompt(column, prompt)
    if column == row.mapping.get("messages", "messages") and prompt[-1]["role"] == "assistant":
        prompt, completion = prompt[:-1], prompt[-1:]
        _check_prompt(column, prompt)
    identifier = _identifier(row, prompt)
    prompt = with_system_prompt(prompt, settings.system_prompt)
    _check_length(column, prompt, settings)
    converted = {"id": identifier, "prompt": prompt}
    if row.column("answer") is not None:
        answer = _answer(row, "answer")
        assert answer is not None
        converted["answer"] = answer
        converted["completion"] = make_completion(prompt, answer)
    if completion is not None:
        problem = prompt_problem(completion)
        if problem:
            raise FieldError(completion_column or column, problem.replace("prompt", "completion"))
        check_encoding(completion_column or column, completion)
        converted["completion"] = completion
        text = completion if isinstance(completion, str) else completion[-1]["content"]
        converted.setdefault("answer", text.strip())
    return converted | _notes(row)


def _check_prompt(column: str, prompt: Any) -> None:
    problem = prompt_problem(prompt)
    if problem:
        raise FieldError(column, problem)
    check_encoding(column, prompt)


def _prompt(
    kind: str, settings: PromptSettings, question: tuple[str, str], context: str | None, **fields: str
) -> str | list[dict[str, Any]]:
    conversational, plain = _TEMPLATES[kind]
    template = settings.prompt_template or (conversational if settings.conversational else plain)
    column, text = question
    known = {"question": text, "context": f"Context: {context}\n\n" if context else "", **fields}
    try:
        filled = template.format(**known)
    except (KeyError, IndexError, ValueError) as error:
        raise ConfigurationError(
            f"prompt_template {template!r}: {error} cannot be filled in; rows of the form {kind} have "
            f"{', '.join(known)}."
        ) from error
    prompt = with_system_prompt(make_prompt(filled, settings.conversational), settings.system_prompt)
    _check_length("context" if len(context or "") > len(text) else column, prompt, settings)
    return prompt


def _check_length(column: str, prompt: Any, settings: PromptSettings) -> None:
    length = len(prompt) if isinstance(prompt, str) else sum(len(str(message["content"])) for message in prompt)
    if length > settings.max_prompt_characters:
        raise FieldError(
            column,
            f"the prompt has {length} characters; at most {settings.max_prompt_characters} "
            "(max_prompt_characters) are taken",
        )


def _identifier(row: Row, *content: Any) -> str:
    """The row's own id where the source has one, else a hash of what the prompt is made from."""
    if row.column("id") is None:
        return content_id(content[0] if len(content) == 1 else content)
    column, value = row.value("id")
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise FieldError(column, f"expected text or a whole number, got {type(value).__name__}")
    text = str(value)
    return check_text(column, text, "the id")


def _notes(row: Row) -> dict[str, Any]:
    notes = {"explanation": row.optional_text("explanation"), "subject": row.optional_text(*_SUBJECT)}
    return {name: text for name, text in notes.items() if text is not None}


FORMATS: dict[str, Convert] = {
    "prompt": _trl,
    "multiple_choice": _multiple_choice,
    "instruction": _instruction,
    "verifiable": _verifiable,
}
