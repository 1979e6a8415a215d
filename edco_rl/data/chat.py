"""What the chat template makes of a data set's messages, before a trainer meets them one by one."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

from ..errors import ConfigurationError
from .prompts import kinds_of_messages, render_messages
from .tokens import RowTokenizer, template_arguments

# What is asked of the model; of the other turns templates may leave out parts, as earlier thoughts.
_SHOWN = ("system", "developer", "user")
# Rows that are read at a time.
_BLOCK = 10_000


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
    columns = dataset.column_names
    for number in _one_of_each_order(dataset):
        row = dataset[number]
        prompt, completion = row["prompt"], row.get("completion")
        whole = [*prompt, *(completion if isinstance(completion, list) else [])]
        settings = {"tokenize": False, **template_arguments(row, chat_template_kwargs)}
        try:
            text = render_messages(prompt, tokenizer, add_generation_prompt=True, **settings)
            render_messages(whole, tokenizer, **settings)
            for place, message in enumerate(prompt):
                if message["role"] in _SHOWN and (message["content"] or "").strip() not in text:
                    raise ConfigurationError(f"the chat template leaves out message {place} ({message['role']}).")
        except ConfigurationError as error:
            name = f" (id {row['id']!r})" if "id" in columns else ""
            raise ConfigurationError(f"Row {number}{name}, column 'prompt': {error}") from error


def _one_of_each_order(dataset: Dataset) -> list[int]:
    """The first row of each order of roles, and of roles that call tools."""
    names = [name for name in ("prompt", "completion") if name in dataset.column_names]
    rows, first, found = dataset.select_columns(names), 0, dict[Any, int]()
    for block in rows.with_format("arrow").iter(_BLOCK):
        kinds = [kinds_of_messages(block[name].type) for name in names]
        if all(kind and "tool_calls" not in kind for kind in kinds):
            orders = pc.binary_join_element_wise(*(_roles(block[name]) for name in names), " ").to_pylist()
        else:
            some = rows[first : first + len(block)]
            orders = [_order(*messages) for messages in zip(*(some[name] for name in names), strict=True)]
        for place, order in enumerate(orders):
            if order is not None:
                found.setdefault(order, first + place)
        first += len(block)
    return list(found.values())


def _roles(column: pa.ChunkedArray) -> pa.Array:
    """The roles of each row's messages, one after the other."""
    lengths = pc.list_value_length(column).fill_null(0).to_numpy()
    roles = pc.struct_field(pc.list_flatten(column), "role").combine_chunks().fill_null("")
    return pc.binary_join(
        pa.ListArray.from_arrays(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32), roles), " "
    )


def _order(prompt: Any, completion: Any = None) -> tuple[tuple[str, bool], ...] | None:
    if isinstance(prompt, str):
        return None
    whole = [*prompt, *(completion if isinstance(completion, list) else [])]
    return tuple((message["role"], bool(message.get("tool_calls"))) for message in whole)
