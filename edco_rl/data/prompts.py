"""Prompts: checked before anything is loaded, and their forms."""

from collections.abc import Mapping
from string import Formatter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset
from numpy.typing import NDArray

from ..errors import ConfigurationError
from .messages import ROLES, messages_problem

Prompt = str | list[dict[str, Any]]

# How plain prompts end that are built from a row: what comes next is the answer.
_CUES = ("Answer:", "Response:")
_KEYS, _LAST_ROLES = ("role", "content"), ("user", "tool")
# Rows that are checked at a time.
_BLOCK = 10_000


def make_prompt(text: str, conversational: bool) -> Prompt:
    """A prompt of one message of the user, or plain text."""
    return [{"role": "user", "content": text}] if conversational else text


def fill_template(template: str, fields: Mapping[str, Any], have: str) -> str:
    """A prompt template with its fields filled in.

    Args:
        template (`str`):
            Text with fields in braces.
        fields (`Mapping[str, Any]`):
            The fields there are.
        have (`str`):
            Beginning of the sentence that lists them.

    Raises:
        ConfigurationError: The template names another field, or none.
    """
    known = ", ".join(f"{{{name}}}" for name in sorted(fields))
    problem = "no field is named, so that all prompts would be the same"
    try:
        if any(name is not None for _, name, _, _ in Formatter().parse(template)):
            return template.format(**fields)
    except (KeyError, IndexError, ValueError, AttributeError, TypeError) as error:
        problem = f"{error} cannot be filled in"
    raise ConfigurationError(
        f"prompt_template {template!r}: {problem}. {have} {known}; braces that stand for themselves are written "
        "twice: {{ and }}."
    )


def with_system_prompt(prompt: Prompt, system_prompt: str | None) -> Prompt:
    """The prompt behind a system message, or behind its text and a blank line. A system message of its own stays."""
    if system_prompt is None:
        return prompt
    if isinstance(prompt, str):
        return f"{system_prompt}\n\n{prompt}"
    if prompt[0]["role"] == "system":
        return prompt
    return [{"role": "system", "content": system_prompt}, *prompt]


def without_system_prompt(prompt: Prompt, system_prompt: str | None) -> Prompt:
    """The prompt as it was before [`with_system_prompt`]; one that does not begin with this text stays as it is."""
    if not system_prompt:
        return prompt
    if isinstance(prompt, str):
        return prompt.removeprefix(f"{system_prompt}\n\n")
    begins = prompt[0]["role"] == "system" and prompt[0]["content"] == system_prompt
    return prompt[1:] if begins and len(prompt) > 1 else prompt


def make_completion(prompt: Prompt, text: str) -> Prompt:
    """What the model should continue a prompt with, in TRL's prompt-completion form.

    After plain text it begins with the space that tokenizers put into the first token of the next word.
    """
    if not isinstance(prompt, str):
        return [{"role": "assistant", "content": text}]
    return text if prompt[-1:].isspace() else f" {text}"


def check_prompts(dataset: Any) -> None:
    """Check that every row has a prompt TRL can use.

    Args:
        dataset (`datasets.Dataset`):
            Rows with a column `prompt`: text, or a list of messages with `role` and `content`.

    Raises:
        ConfigurationError: Names the column or the first bad row.
    """
    if not isinstance(dataset, Dataset):
        raise ConfigurationError(
            f"A curriculum chooses rows, so train_dataset must be a datasets.Dataset; got {type(dataset).__name__}. "
            "Load a streaming data set without streaming=True."
        )
    if "prompt" not in dataset.column_names:
        raise ConfigurationError(f"The data set has no column 'prompt'; its columns are {dataset.column_names}.")
    prompts, first = dataset.select_columns(["prompt"]), 0
    for block in prompts.with_format("arrow").iter(_BLOCK):
        suspects = ~_usable(block["prompt"])
        values = prompts[first : first + len(suspects)]["prompt"] if suspects.any() else []
        for row in np.flatnonzero(suspects):
            problem = prompt_problem(values[row])
            if problem:
                raise ConfigurationError(f"Row {first + row}, column 'prompt': {problem}.")
        first += len(suspects)


def _usable(prompts: pa.ChunkedArray) -> NDArray[np.bool_]:
    """Which prompts surely have no problem, shape (N,); the others have to be looked at."""
    if _is_text(prompts.type):
        return _has_text(prompts)
    if not all(_is_text(kinds_of_messages(prompts.type).get(key)) for key in _KEYS):
        return np.zeros(len(prompts), dtype=bool)
    role, content = (pc.struct_field(pc.list_flatten(prompts), key) for key in _KEYS)
    lengths = pc.list_value_length(prompts).fill_null(0).to_numpy()
    ends = np.cumsum(lengths)
    wrong = ~(_is_in(role, ROLES) & content.is_valid().to_numpy())
    wrong_before = np.concatenate([[0], np.cumsum(wrong)])
    usable = (lengths > 0) & (wrong_before[ends] == wrong_before[ends - lengths])
    last = ends[usable] - 1
    usable[usable] = _is_in(role.take(last), _LAST_ROLES) & _has_text(content.take(last))
    return usable


def kinds_of_messages(kind: pa.DataType) -> dict[str, pa.DataType]:
    """The Arrow type of each key of messages; nothing where it is not one of messages."""
    messages = kind.value_type if pa.types.is_list(kind) else None
    return {} if messages is None or not pa.types.is_struct(messages) else {one.name: one.type for one in messages}


def _is_text(kind: pa.DataType | None) -> bool:
    return kind is not None and (pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _has_text(values: pa.ChunkedArray) -> NDArray[np.bool_]:
    """Which texts begin, after white space, with a letter, a digit, a mark or a symbol."""
    return pc.match_substring_regex(values, r"^\s*[\pL\pN\pP\pS]").fill_null(False).to_numpy()


def _is_in(values: pa.ChunkedArray, names: tuple[str, ...]) -> NDArray[np.bool_]:
    return pc.is_in(values, pa.array(names, values.type)).to_numpy()


def prompt_problem(prompt: Any) -> str | None:
    """What makes a prompt unusable for TRL; `None` if nothing does."""
    if isinstance(prompt, str):
        return None if prompt.strip() else "the prompt is empty"
    if not isinstance(prompt, list):
        return f"expected text or a list of messages, got {type(prompt).__name__}"
    if not prompt:
        return "the prompt is empty"
    return messages_problem(prompt, _LAST_ROLES)


def with_instruction(prompt: Prompt, instruction: str, place: str = "after") -> Prompt:
    """A prompt with an instruction added: one that asks for the answer at once makes EDCO's quick-answer form.

    Args:
        prompt (`str` or `list[dict]`):
            Text, or messages; it is not changed.
        instruction (`str`):
            Added to the text, or to the last message of the user.
        place (`str`, *optional*, defaults to `"after"`):
            `"after"` what is there, but before a last line of `Answer:` or `Response:`; or `"before"` it.
    """
    if isinstance(prompt, str):
        if place == "before":
            return f"{instruction}\n\n{prompt}"
        text, _, last_line = prompt.rpartition("\n")
        if last_line in _CUES:
            return f"{text}\n{instruction}\n{last_line}"
        return f"{prompt}\n{instruction}\n"
    last_user = _last_of_user(prompt)
    content = prompt[last_user]["content"]
    parts = (instruction, content) if place == "before" else (content, instruction)
    messages = list(prompt)
    messages[last_user] = {**prompt[last_user], "content": "\n\n".join(parts)}
    return messages


def plain_text(prompt: Prompt) -> str:
    """The text of a prompt, of messages that of the user's last one."""
    return prompt if isinstance(prompt, str) else prompt[_last_of_user(prompt)]["content"]


def _last_of_user(messages: list[dict[str, Any]]) -> int:
    return max((i for i, message in enumerate(messages) if message["role"] == "user"), default=len(messages) - 1)


def render_messages(messages: list[dict[str, Any]], tokenizer: Any, **settings: Any) -> Any:
    """Messages through the tokenizer's chat template.

    Args:
        messages (`list[dict]`):
            A prompt, or a whole conversation.
        tokenizer (`PreTrainedTokenizerBase`):
            The model's tokenizer.
        settings:
            Arguments of its `apply_chat_template`.

    Raises:
        ConfigurationError: There is no template, or it does not take these messages.
    """
    try:
        return tokenizer.apply_chat_template(messages, **settings)
    except Exception as error:  # a template is a program, and raises what it likes where it meets the unexpected
        if tokenizer.chat_template is None:
            problem = "the tokenizer has no chat template; with conversational: false prompts are plain text"
        else:
            problem = f"the chat template does not take these messages: {error}"
        raise ConfigurationError(f"{problem}.") from error
