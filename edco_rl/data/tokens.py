"""Rows to token ids: the prompts a policy continues, and the reference answers it is trained on."""

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from datasets import Dataset, Features, Json, concatenate_datasets

from ..errors import ConfigurationError
from .prompts import Prompt, render_messages

Row = Mapping[str, Any]

TEMPLATE_COLUMNS = ("chat_template_kwargs", "tools")
"""Columns of a row that TRL gives the chat template."""
# Stands for an answer, to see what a chat template writes after it.
_ANSWER = "answer"


class TokenizedRow(NamedTuple):
    """A row with its reference answer.

    Args:
        prompt (`list[int]`):
            Tokens before the reference.
        reference (`list[int]`):
            Tokens of the reference, the end of the turn included.
        end (`int`):
            How many of them end the turn.
    """

    prompt: list[int]
    reference: list[int]
    end: int


def template_arguments(row: Row, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Arguments of the chat template for a row: those given to all, under those of its column `chat_template_kwargs`.

    A null of the column, which Arrow fills in where another row has a value, takes the place of nothing given.

    Raises:
        ConfigurationError: The column holds something else than arguments; it names the row.
    """
    given, own = given or {}, row.get("chat_template_kwargs") or {}
    if not isinstance(own, Mapping):
        raise ConfigurationError(
            f"{name_row(row)}, column 'chat_template_kwargs': expected arguments by name, as "
            f"{{enable_thinking: false}}; got {own!r}."
        )
    return {**given, **{name: value for name, value in own.items() if value is not None or name not in given}}


def with_template_arguments(dataset: Any, given: Mapping[str, Any]) -> Any:
    """A data set whose column `chat_template_kwargs` holds the arguments of each row, as TRL's `SFTTrainer` reads it.

    Args:
        dataset (`datasets.Dataset` or `datasets.IterableDataset`):
            Rows with such a column or without.
        given (`Mapping[str, Any]`):
            Arguments for all rows.
    """
    name = TEMPLATE_COLUMNS[0]
    if not isinstance(dataset, Dataset):
        return dataset.map(lambda row: {name: template_arguments(row, given)})
    here = name in dataset.column_names
    own = dataset.select_columns([name]).to_list() if here else [{}] * len(dataset)
    # As JSON: Arrow would fill in nulls where another row has a value.
    column = {name: [template_arguments(row, given) for row in own]}
    rest = dataset.remove_columns(name) if here else dataset
    return concatenate_datasets([rest, Dataset.from_dict(column, features=Features({name: Json()}))], axis=1)


class RowTokenizer:
    """Makes token ids of rows, as TRL's trainers on rollouts do.

    A reference answer continues the prompt as the policy would have written it: with what the chat template writes
    before it, such as Qwen3's empty think block, and up to the token that ends the turn, without the line break some
    templates put after that.

    Args:
        tokenizer (`PreTrainedTokenizerBase`):
            The policy's tokenizer.
        chat_template_kwargs (`Mapping[str, Any]`, *optional*):
            Arguments of its chat template, for all rows. A row's own column `chat_template_kwargs` comes before them.
    """

    def __init__(self, tokenizer: Any, chat_template_kwargs: Mapping[str, Any] | None = None) -> None:
        self.tokenizer = tokenizer
        self.chat_template_kwargs = dict(chat_template_kwargs or {})

    @property
    def made_from(self) -> list[Any]:
        """What of it tokens depend on beside the vocabulary, as JSON values."""
        return [self.tokenizer.chat_template, self.chat_template_kwargs]

    def prompts(self, rows: Sequence[Row]) -> list[list[int]]:
        """Tokens of prompts, as a policy is given them to continue: messages through the chat template, text as it is.

        Raises:
            ConfigurationError: The chat template does not take the messages of a row.
        """
        return self._encode(
            [self._render(row, row["prompt"], add_generation_prompt=True) for row in rows],
            [isinstance(row["prompt"], str) for row in rows],
        )

    def trained_prompts(self, rows: Sequence[Row]) -> list[list[int]]:
        """Tokens of each row before those that are trained on."""
        return self.prompts(rows)

    def with_references(self, rows: Sequence[Row]) -> list[TokenizedRow]:
        """Tokens of rows and of their reference answers.

        Args:
            rows (`Sequence[Mapping]`):
                Rows with `prompt`, and `completion` or else `answer`: text or messages.

        Raises:
            ConfigurationError: A row has no reference, or the chat template does not take its messages.
        """
        texts, ends = [], []
        for row in rows:
            conversation = _conversation(row)
            if isinstance(conversation, str):
                texts.append(reference_text(row) + self._end_of_text)
                ends.append(self._end_of_text)
                continue
            prompt = self._render(row, row["prompt"], add_generation_prompt=True)
            whole = self._render(row, conversation).removesuffix(self._turn_end) + self._end
            texts.append(whole[common_prefix_length(prompt, whole) :])
            ends.append(self._end)
        references = self._encode(texts, [False] * len(rows))
        return list(map(TokenizedRow, self.prompts(rows), references, map(self._length, ends)))

    def _arguments(self, row: Row) -> dict[str, Any]:
        return template_arguments(row, self.chat_template_kwargs)

    def _render(self, row: Row, messages: Prompt, **settings: Any) -> str:
        """Text of a prompt or a whole conversation."""
        if isinstance(messages, str):
            return messages
        return render_messages(messages, self.tokenizer, tokenize=False, **settings, **self._arguments(row))

    @property
    def _end_of_text(self) -> str:
        return self.tokenizer.eos_token

    @cached_property
    def _turn_end(self) -> str:
        """What the chat template writes after an answer."""
        turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": _ANSWER}]
        return self._render({}, turns).rpartition(_ANSWER)[2]

    @property
    def _end(self) -> str:
        """What of it the policy writes."""
        return self._turn_end.rstrip() or self._end_of_text

    def _length(self, text: str) -> int:
        return len(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _encode(self, texts: Sequence[str], special: Sequence[bool]) -> list[list[int]]:
        """Tokens of texts, many at once; special tokens are added to plain ones, a chat template writes its own."""
        ids: list[list[int]] = [[]] * len(texts)
        for added in (True, False):
            chosen = [row for row, add in enumerate(special) if add == added]
            if chosen:
                encoded = self.tokenizer([texts[row] for row in chosen], add_special_tokens=added)["input_ids"]
                for row, tokens in zip(chosen, encoded, strict=True):
                    ids[row] = tokens
        return ids


class SupervisedRowTokenizer(RowTokenizer):
    """Makes token ids of rows, as TRL's `SFTTrainer` does.

    Prompt and completion are tokenized together, and the reference is what the loss counts: all tokens from where they
    part from those of the prompt alone.

    Args:
        tokenizer, chat_template_kwargs:
            As of [`RowTokenizer`].
        assistant_only (`bool`, *optional*, defaults to `False`):
            Whether the loss counts no tokens but those the chat template marks as the assistant's.
        kept (`slice`, *optional*):
            Which tokens of a row are left when it is cut.
    """

    def __init__(
        self,
        tokenizer: Any,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        *,
        assistant_only: bool = False,
        kept: slice = slice(None),
    ) -> None:
        super().__init__(tokenizer, chat_template_kwargs)
        self.assistant_only = assistant_only
        self.kept = kept

    def trained_prompts(self, rows: Sequence[Row]) -> list[list[int]]:
        return [row.prompt for row in self.with_references(rows)]

    def with_references(self, rows: Sequence[Row]) -> list[TokenizedRow]:
        return [self._split(row, prompt) for row, prompt in zip(rows, self.prompts(rows), strict=True)]

    def _arguments(self, row: Row) -> dict[str, Any]:
        tools = row.get("tools")
        return {"tools": json.loads(tools) if isinstance(tools, str) else tools, **super()._arguments(row)}

    def _split(self, row: Row, prompt: list[int]) -> TokenizedRow:
        conversation = _conversation(row)
        if isinstance(conversation, str):
            text = conversation.removesuffix(self._end_of_text) + self._end_of_text
            ids, counted, end = self.tokenizer(text=text)["input_ids"], None, self._length(self._end_of_text)
        else:
            made = render_messages(
                conversation,
                self.tokenizer,
                tokenize=True,
                return_dict=True,
                return_assistant_tokens_mask=self.assistant_only,
                **self._arguments(row),
            )
            ids, counted, end = made["input_ids"], made.get("assistant_masks"), self._length(self._turn_end)
        begin, stop, _ = self.kept.indices(len(ids))
        first, last = common_prefix_length(prompt, ids), len(ids)
        if counted is not None:
            trained = [place for place in range(first, len(ids)) if counted[place]]
            first, last = (trained[0], trained[-1] + 1) if trained else (first, last)
        first = max(first, begin + 1)  # a model predicts no token from nothing
        stop = min(stop, last)
        return TokenizedRow(ids[begin:first], ids[first:stop], max(0, stop - max(first, len(ids) - end)))


def _conversation(row: Row) -> Prompt:
    """Prompt and reference as one: text, or messages."""
    prompt, completion = row["prompt"], row.get("completion")
    if isinstance(prompt, str):
        return prompt + reference_text(row)
    if not isinstance(completion, list):
        completion = [{"role": "assistant", "content": reference_text(row)}]
    return [*prompt, *completion]


def common_prefix_length(ids: Sequence[Any], others: Sequence[Any]) -> int:
    """How many tokens, or characters, two sequences begin with alike."""
    pairs = zip(ids, others, strict=False)
    return next((place for place, (one, other) in enumerate(pairs) if one != other), min(len(ids), len(others)))


def reference_text(row: Row) -> str:
    """The reference answer of a row: its `completion`, or else its `answer`.

    Raises:
        ConfigurationError: There is none; it names the row.
    """
    reference = row.get("completion")
    if reference is None:
        reference = row.get("answer")
    text = reference if isinstance(reference, str) else reference[-1]["content"] if reference else None
    if not text:
        raise ConfigurationError(f"{name_row(row)} has no reference answer in column 'completion' or 'answer'.")
    return text


def name_row(row: Row) -> str:
    """How messages call a row."""
    return f"row {row['id']!r}" if row.get("id") is not None else f"the row with prompt {str(row['prompt'])[:60]!r}"
