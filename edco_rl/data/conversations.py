"""TRL's own forms of a row: prompts, with a completion or a preference, and whole conversations."""

import json
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

from .messages import Messages, messages_problem, read_messages
from .prompts import Prompt, make_completion, make_prompt, prompt_problem
from .rows import FieldError, Row, check_storable, is_missing

_COLUMNS = {
    "prompt": ("prompt",),
    "completion": ("completion",),
    "messages": ("messages", "conversations"),
    "chosen": ("chosen",),
    "rejected": ("rejected",),
}


@dataclass
class Conversation:
    """A prompt and what follows it.

    Args:
        prompt (`str` or `list[dict]`):
            What the model is asked.
        column (`str`):
            The source's column it was read from.
        answers (`dict`, *optional*):
            What follows it, all of its kind: `completion`, or `chosen` and `rejected`.
    """

    prompt: Prompt
    column: str
    answers: dict[str, Prompt] = field(default_factory=dict)


def read_conversation(row: Row) -> Conversation:
    """The conversation of a row, from the first of these that it has: `prompt` and `completion`; `chosen` and
    `rejected`; `messages` or `conversations`, whose last turn by the assistant is the completion; `prompt`.

    Raises:
        FieldError: It cannot be used, or its columns contradict each other.
    """
    columns = {name: column for name, names in _COLUMNS.items() if (column := row.column(*names)) is not None}
    given = {
        name: _read(column, row.values[column])
        for name, column in columns.items()
        if not is_missing(row.values.get(column))
    }
    answered, preferred = {"prompt", "completion"} <= given.keys(), {"chosen", "rejected"}
    if not answered and (preferred & given.keys() or (preferred <= columns.keys() and "messages" not in given)):
        found = _preference(columns, given)
    elif not answered and "messages" in given:
        found = _messages(columns, given)
    elif "prompt" in given:
        found = Conversation(given["prompt"], columns["prompt"])
        if "completion" in given:
            found.prompt, found.answers["completion"] = _alike(found.prompt, given["completion"])
    else:
        column = columns.get("prompt", columns.get("messages", "prompt"))
        raise FieldError(column, "expected text or a list of messages, got NoneType")
    if problem := prompt_problem(found.prompt):
        ends = isinstance(found.prompt, list) and found.prompt and found.prompt[-1]["role"] == "assistant"
        advice = " (in a column 'messages', that turn is the completion)" if ends else ""
        raise FieldError(found.column, problem + advice)
    for name, answer in found.answers.items():
        if problem := _completion_problem(answer):
            raise FieldError(columns.get(name, found.column), problem)
    return found


def _read(column: str, value: Any) -> Prompt:
    if isinstance(value, str) and value.lstrip().startswith("[{"):  # a CSV file holds messages as JSON
        try:
            parsed = json.loads(value)
        except json.JSONDecodeError:
            parsed = None
        if isinstance(parsed, list) and {"role", "from"} & parsed[0].keys():
            value = parsed
    if isinstance(value, list):
        return read_messages(column, value)
    if not isinstance(value, str):
        raise FieldError(column, f"expected text or a list of messages, got {type(value).__name__}")
    check_storable(column, value)
    return value


def _messages(columns: dict[str, str], given: dict[str, Prompt]) -> Conversation:
    column, messages, prompt = columns["messages"], given["messages"], given.get("prompt")
    if isinstance(messages, str):
        raise FieldError(column, "expected a list of messages, got text")
    if prompt is not None and not _holds(messages, prompt):
        raise FieldError(
            column, f"does not hold the row's {columns['prompt']!r}; one of these columns has to be left out"
        )
    if messages and messages[-1]["role"] == "assistant":
        return Conversation(messages[:-1], column, {"completion": messages[-1:]})
    return Conversation(messages, column)


def _holds(messages: Messages, prompt: Prompt) -> bool:
    if isinstance(prompt, str):
        return any(message["content"].strip() == prompt.strip() for message in messages)
    return messages[: len(prompt)] == prompt


def _preference(columns: dict[str, str], given: dict[str, Prompt]) -> Conversation:
    for name in ("chosen", "rejected"):
        if name not in given:
            raise FieldError(columns.get(name, name), "is missing")
    prompt, chosen, rejected = given.get("prompt"), given["chosen"], given["rejected"]
    if isinstance(chosen, str) != isinstance(rejected, str):
        raise FieldError(columns["rejected"], f"expected {type(chosen).__name__}, as {columns['chosen']!r} is")
    if chosen == rejected:
        raise FieldError(columns["rejected"], f"is the same as {columns['chosen']!r}")
    if isinstance(chosen, list) and isinstance(rejected, list):
        # Whole conversations have the prompt in front.
        shared = [one for one, _ in takewhile(lambda pair: pair[0] == pair[1], zip(chosen, rejected, strict=False))]
        shared = shared[: min(len(chosen), len(rejected)) - 1]
        if shared and shared[0]["role"] != "assistant":
            if prompt is not None and not _holds(shared, prompt):
                raise FieldError(columns["chosen"], f"does not begin with the row's {columns['prompt']!r}")
            prompt, chosen, rejected = shared, chosen[len(shared) :], rejected[len(shared) :]
    if prompt is None:
        raise FieldError(
            columns["chosen"], "expected a column 'prompt', or conversations that begin with the same turns"
        )
    found = Conversation(prompt, columns.get("prompt", columns["chosen"]))
    for name, answer in (("chosen", chosen), ("rejected", rejected)):
        found.prompt, found.answers[name] = _alike(found.prompt, answer)
    return found


def _alike(prompt: Prompt, completion: Prompt) -> tuple[Prompt, Prompt]:
    """Both as messages where one is; a completion that repeats the prompt without it."""
    if isinstance(prompt, str) and isinstance(completion, str):
        return prompt, completion
    if isinstance(prompt, str):
        prompt = make_prompt(prompt, conversational=True)
    if isinstance(completion, str):
        return prompt, make_completion(prompt, completion)
    return prompt, completion[len(prompt) :] if completion[: len(prompt)] == prompt else completion


def _completion_problem(completion: Prompt) -> str | None:
    if isinstance(completion, str):
        return None if completion.strip() else "the completion is empty"
    problem = messages_problem(completion, ("assistant",)) if completion else "there are no messages"
    return problem and f"the completion: {problem}"
