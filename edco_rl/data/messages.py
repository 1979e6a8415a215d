"""Messages as data sets have them, read as chat templates take them: each with a role and text."""

import json
from collections.abc import Mapping
from typing import Any

from .rows import FieldError, check_storable, is_missing

Messages = list[dict[str, Any]]

ROLES = ("system", "developer", "user", "assistant", "tool")
_KEYS = ({"role", "content"}, {"role", "tool_calls"}, {"from", "value"})
# Arguments of a tokenizer's apply_chat_template that are no matter of a row.
_ARGUMENTS = {
    "conversation",
    "tools",
    "documents",
    "chat_template",
    "add_generation_prompt",
    "continue_final_message",
    "tokenize",
    "padding",
    "truncation",
    "max_length",
    "return_tensors",
    "return_dict",
    "return_assistant_tokens_mask",
    "tokenizer_kwargs",
    "tokenizer",
    "messages",
}
# Chat templates leave out turns of roles they do not know, without a word.
_OTHER_NAMES = {"human": "user", "gpt": "assistant"}


def read_messages(field: str, value: list[Any]) -> Messages:
    """Messages with text as content and without empty keys.

    Parts of text are joined; `from` and `value` are read as `role` and `content`, a tool call's arguments given as
    JSON as the object they are.

    Raises:
        FieldError: A message cannot be read so; it is named by its place, counted from 0.
    """
    return [_message(field, number, message) for number, message in enumerate(value)]


def _message(field: str, number: int, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or not any(keys <= value.keys() for keys in _KEYS):
        raise FieldError(field, f"expected messages with role and content, got {str(value)[:80]}")
    message = _without_empty(value)
    if "role" not in value:
        message["role"] = message.pop("from", None)
        message["content"] = message.pop("value", None)
    role = message.get("role")
    role = message["role"] = _OTHER_NAMES.get(role, role) if isinstance(role, str) else role
    if role not in ROLES:
        raise FieldError(field, _role_problem(number, role))
    calls = message.pop("tool_calls", None)
    if calls:
        message["tool_calls"] = _tool_calls(field, number, calls)
    message["content"] = _content(field, f"message {number} ({role})", value, bool(calls))
    check_storable(field, message)
    return message


def _content(field: str, place: str, message: Mapping[str, Any], may_be_empty: bool) -> str:
    content = message.get("content", message.get("value"))
    if isinstance(content, str):
        return content
    if content is None or is_missing(content) or content == []:
        if may_be_empty:
            return ""
        raise FieldError(field, f"{place} has no content: expected text, got {_shown(content)}")
    if not isinstance(content, list):
        raise FieldError(field, f"{place}: expected text as content, got {type(content).__name__}")
    texts = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else type(part).__name__
        if kind != "text" or not isinstance(part.get("text"), str):
            raise FieldError(
                field, f"{place} has a part of type {kind!r}; only parts of type 'text' with a text can be read"
            )
        texts.append(part["text"])
    return "".join(texts)  # as chat templates write them


def _tool_calls(field: str, number: int, calls: Any) -> list[Any]:
    read = []
    for call in calls if isinstance(calls, list) else [calls]:
        function = call.get("function", call) if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise FieldError(field, f"message {number}: expected tool calls with a function's name and arguments")
        arguments = function.get("arguments")
        if isinstance(arguments, str):
            try:
                arguments = json.loads(arguments)
            except json.JSONDecodeError as error:
                raise FieldError(field, f"message {number}: arguments of {function['name']!r}: {error}") from None
        function = {**function, "arguments": arguments or {}}
        read.append({**call, "function": function} if "function" in call else function)
    return read


def _without_empty(value: Any) -> Any:
    """Without keys of null, which Arrow fills in where another message has them."""
    if isinstance(value, dict):
        return {key: _without_empty(inner) for key, inner in value.items() if inner is not None}
    return [_without_empty(inner) for inner in value] if isinstance(value, list) else value


def _shown(value: Any) -> str:
    return "null" if value is None else repr(value)


def messages_problem(messages: list[Any], last: tuple[str, ...]) -> str | None:
    """What makes a list of messages unusable for TRL; `None` if nothing does.

    Args:
        messages (`list`):
            The messages, at least one.
        last (`tuple[str]`):
            Roles the last one can have.
    """
    for number, message in enumerate(messages):
        if not isinstance(message, dict) or not {"role", "content"} <= message.keys():
            return f"expected messages with role and content, got {message!r}"
        role, content, calls = message["role"], message["content"], message.get("tool_calls")
        if role not in ROLES:
            return _role_problem(number, role)
        if not isinstance(content, str) and not (content is None and calls):
            return f"message {number} ({role}): expected text as content, got {type(content).__name__}"
    end = messages[-1]
    if not (end["content"] or "").strip() and not end.get("tool_calls"):
        return "the last message is empty"
    if end["role"] not in last:
        return f"the last message is of role {end['role']!r}; expected {' or '.join(last)}"
    return None


def _role_problem(number: int, role: Any) -> str:
    return f"message {number}: expected a role of {', '.join(ROLES)}; got {_shown(role)}"


def check_template_column(field: str, value: Any) -> None:
    """Check what a row holds for the chat template beside its messages: `tools` and `chat_template_kwargs`.

    Raises:
        FieldError: It is no list of tools, or no arguments by name.
    """
    if is_missing(value) or field not in ("tools", "chat_template_kwargs"):
        return
    if field == "chat_template_kwargs":
        taken = value.keys() & _ARGUMENTS if isinstance(value, dict) else set()
        if not isinstance(value, dict) or taken:
            got = f"{', '.join(sorted(taken))}, which are set here" if taken else type(value).__name__
            raise FieldError(field, f"expected arguments by name, as {{enable_thinking: false}}; got {got}")
        return
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise FieldError(
                field, f"expected a list of tools, also as JSON; this is not valid JSON ({error})"
            ) from None
    if not isinstance(value, list) or not all(isinstance(tool, dict) for tool in value):
        raise FieldError(field, f"expected a list of tools, each an object; got {str(value)[:80]}")
