"""The forms a row can have, and how each becomes a prompt with its answer."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .choices import LABELS, OPTIONS, option_label, option_labels, read_options
from .conversations import read_conversation
from .ids import content_id
from .prompts import Prompt, fill_template, make_completion, make_prompt, with_system_prompt
from .rows import FieldError, Row, check_text, is_missing

# Names of this package first; then what public data sets call the same thing.
_QUESTION = ("question", "problem")
_CHOICE = ("answer_index", "answer_idx", "answer", "label", "answerKey")
_ANSWER = ("answer", "solution", "final_answer")
_RESPONSE = ("response", "output", "answer")
_CONTEXT = ("context", "input")
_SUBJECT = ("subject", "category")

# Conversational and plain text. A plain prompt ends so that the model goes on with the answer.
_TEMPLATES = {
    "multiple_choice": (
        "{context}{question}\n\n{options}\n\nAnswer with the {label_kind} of the right option: {labels}.",
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
    option_labels: str = "letters"


Convert = Callable[[Row, PromptSettings], dict[str, Any]]


def detect_format(columns: set[str], mapping: Mapping[str, str]) -> str | None:
    """The form of rows with these columns: the first whose columns are there.

    `prompt` (`prompt`, `messages` or `conversations`), `multiple_choice` (`options` or `choices`), `instruction`
    (`instruction`), `verifiable` (`question` or `problem`), `prompt` again (`chosen` and `rejected`).
    """

    def has(*names: str) -> bool:
        return any(mapping.get(name, name) in columns for name in names)

    if has("prompt", "messages", "conversations"):
        return "prompt"
    if has(*OPTIONS):
        return "multiple_choice"
    if has("instruction"):
        return "instruction"
    if has(*_QUESTION):
        return "verifiable"
    return "prompt" if has("chosen") and has("rejected") else None


def _multiple_choice(row: Row, settings: PromptSettings) -> dict[str, Any]:
    question, context, (options, names) = row.text(*_QUESTION), row.optional_text(*_CONTEXT), read_options(row)
    column, value = row.value(*_CHOICE)
    if column == row.mapping.get("answer_index", "answer_index") and isinstance(value, str) and value.isdecimal():
        value = int(value)  # as a CSV file has it
    labels = option_labels(len(options), settings.option_labels)
    answer = labels[LABELS.index(option_label(options, value, column, names))]
    lines = "\n".join(f"{label}. {option}" for label, option in zip(labels, options, strict=True))
    prompt = _prompt(
        "multiple_choice",
        settings,
        question,
        context,
        options=lines,
        label_kind=settings.option_labels.removesuffix("s"),
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
    """TRL's own forms; see [`~edco_rl.data.conversations.read_conversation`]."""
    found = read_conversation(row)
    prompt = with_system_prompt(found.prompt, settings.system_prompt)
    _check_length(found.column, prompt, settings)
    converted = {"id": _identifier(row, found.prompt), "prompt": prompt, **found.answers}
    if "chosen" in found.answers:
        converted["completion"] = found.answers["chosen"]
    elif "completion" in found.answers and (text := _text_of(found.answers["completion"])):
        converted["answer"] = text
    column = row.column("answer")
    if column is not None and not (found.answers and is_missing(row.values.get(column))):
        answer = _answer(row, "answer")
        assert answer is not None
        converted["answer"] = answer
        converted.setdefault("completion", make_completion(prompt, answer))
    return converted | _notes(row)


def _text_of(completion: Prompt) -> str:
    return (completion if isinstance(completion, str) else completion[-1]["content"]).strip()


def _prompt(
    kind: str, settings: PromptSettings, question: tuple[str, str], context: str | None, **fields: str
) -> str | list[dict[str, Any]]:
    conversational, plain = _TEMPLATES[kind]
    template = settings.prompt_template or (conversational if settings.conversational else plain)
    column, text = question
    known = {"question": text, "context": f"Context: {context}\n\n" if context else "", **fields}
    filled = fill_template(template, known, f"Rows of the form {kind} have")
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
