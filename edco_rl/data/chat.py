"""What the chat template makes of a data set's messages, before a trainer meets them one by one."""

from typing import Any

from datasets import Dataset

from ..errors import ConfigurationError
from .prompts import render_messages
from .tokens import RowTokenizer, template_arguments

# What is asked of the model; of the other turns templates may leave out parts, as earlier thoughts.
_SHOWN = ("system", "developer", "user")


def show_prompt(row: dict[str, Any], tokenizer: Any, chat_template_kwargs: dict[str, Any] | None = None) -> str:
    """The prompt of a row as the model will see it, special tokens included.

    Args:
        row (`dict[str, Any]`):
            A row with a `prompt`, as of [`~edco_rl.data.load.load_prompts`].
        tokenizer (`PreTrainedTokenizerBase`):
            The model's tokenizer.
        chat_template_kwargs (`dict`, *optional*):
            Arguments of the chat template, under those of the row.

    Raises:
        ConfigurationError: As [`~edco_rl.data.prompts.render_messages`].
    """
    [ids] = RowTokenizer(tokenizer, chat_template_kwargs).prompts([row])
    return tokenizer.decode(ids)


def check_chat_template(dataset: Dataset, tokenizer: Any, chat_template_kwargs: dict[str, Any] | None = None) -> None:
    """Check that the chat template takes the rows' messages.

    What templates refuse or leave out are roles and their order: one row of each order is tried.

    Args:
        dataset (`datasets.Dataset`):
            Rows with a `prompt`, and perhaps a `completion`.
        tokenizer (`PreTrainedTokenizerBase`), chat_template_kwargs (`dict`, *optional*):
            As in [`show_prompt`].

    Raises:
        ConfigurationError: It does not take those of a row, which is named.
    """
    tried, columns = set(), dataset.column_names
    completions = dataset["completion"] if "completion" in columns else [None] * len(dataset)
    for number, (prompt, completion) in enumerate(zip(dataset["prompt"], completions, strict=True)):
        if isinstance(prompt, str):
            continue
        whole = [*prompt, *(completion if isinstance(completion, list) else [])]
        roles = tuple((message["role"], bool(message.get("tool_calls"))) for message in whole)
        if roles in tried:
            continue
        tried.add(roles)
        settings = {"tokenize": False, **template_arguments(dataset[number], chat_template_kwargs)}
        try:
            text = render_messages(prompt, tokenizer, add_generation_prompt=True, **settings)
            render_messages(whole, tokenizer, **settings)
            for place, message in enumerate(prompt):
                if message["role"] in _SHOWN and (message["content"] or "").strip() not in text:
                    raise ConfigurationError(f"the chat template leaves out message {place} ({message['role']}).")
        except ConfigurationError as error:
            name = f" (id {dataset[number]['id']!r})" if "id" in columns else ""
            raise ConfigurationError(f"Row {number}{name}, column 'prompt': {error}") from error
