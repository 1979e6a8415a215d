"""From a `dataset_name` to prompts: all at once as a training pool and held-out rows, or one after the other."""

import bisect
import itertools
import logging
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pyarrow
from datasets import Dataset, Features, Json, List

from ..config import DataConfig
from ..errors import ConfigurationError
from .formats import FORMATS, PromptSettings, detect_format
from .hub import ADAPTERS, HUB_DATASETS, Adapter
from .ids import prompt_ids
from .messages import check_template_column
from .overlap import count_overlaps, split_rows
from .prompts import make_completion, with_system_prompt
from .rows import FieldError, InvalidRows, RawRow, Row, SeenIds, check_storable
from .sources import Source, find_sources, has_no_splits
from .tasks import DEFAULT_TRAIN_PROMPTS, generate_tasks, is_generated

logger = logging.getLogger(__name__)

# Rows whose columns tell the form of a data set: a column that a few rows lack does not change it.
_ROWS_LOOKED_AT = 100
_MESSAGES = ("prompt", "completion", "chosen", "rejected")


def load_prompts(
    dataset_name: str,
    *,
    config_name: str | None = None,
    train_split: str = "train",
    test_split: str = "test",
    seed: int = 0,
    **settings: Any,
) -> tuple[Dataset, Dataset | None]:
    """Load or generate prompts.

    Args:
        dataset_name (`str`):
            A generated task (`reasoning_gym:<task>`), a local JSONL, JSON, CSV, TSV, Parquet or Arrow file (text also
            compressed), a folder of them, a data set saved to disk, or a hub id.
        config_name (`str`, *optional*):
            Configuration of a hub data set; several, separated by commas, are read one after the other.
        train_split (`str`), test_split (`str`):
            Splits of a hub data set or folder. Where both are the same, rows of it are held out by a hash of what
            their prompts say, as of a local file: whatever the order of the rows, the same ones, and near-equal
            prompts stay on one side.
        seed (`int`, *optional*, defaults to `0`):
            Seed of a generated task.
        settings:
            Fields of [`~edco_rl.config.DataConfig`]; `held_out_prompts` is 0 by default.

    Returns:
        `tuple[Dataset, Dataset or None]`: training and held-out rows (`None` where none are wanted), with the columns

        - `id` (`str`): the row's own, or a hash of its content; the same wherever the row stands;
        - `prompt` (`str` or `list[dict]`): plain text or messages;
        - `answer` (`str`): the right answer, of multiple choice the label of the right option (`"B"`, or `"2"`);
        - `completion` (`str` or `list[dict]`): the answer as the model should write it, as TRL's SFT takes it;
        - `options` (`list[str]`), `response`, `explanation`, `subject` (`str`): where the data set has them;
        - of data sets without an adapter, all columns that are none of these.

    Raises:
        ConfigurationError: Nothing is found under that name, or a row is invalid: it names file, row and field.
    """
    data = DataConfig(**{"held_out_prompts": 0, **settings})
    if is_generated(dataset_name):
        return _generate(dataset_name, data, seed)
    wanted, held_out_name = data.held_out_prompts, data.eval_dataset_name or dataset_name
    with closing(InvalidRows(data.skip_invalid, data.skipped_rows_file)) as invalid:
        rows = list(_read(dataset_name, config_name, train_split, data, invalid))
        if not wanted:
            return to_dataset(dataset_name, rows[: data.train_prompts]), None
        if data.eval_dataset_name is None and (has_no_splits(dataset_name) or train_split == test_split):
            rows, held_out = _split(dataset_name, rows, wanted)
            rows = rows[: data.train_prompts]
        else:
            rows = rows[: data.train_prompts]
            held_out = list(_read(held_out_name, config_name, test_split, data, invalid))[:wanted]
            _warn_of_overlap(held_out_name, held_out, rows)
    return to_dataset(dataset_name, rows), to_dataset(held_out_name, held_out)


def iter_rows(
    dataset_name: str, *, config_name: str | None = None, split: str = "train", seed: int = 0, **settings: Any
) -> Iterator[dict[str, Any]]:
    """The rows of [`load_prompts`], one after the other, in memory that does not grow with their number.

    A hub data set is streamed. Row after row is the same as in [`load_prompts`], in the same order.

    Args:
        dataset_name (`str`), config_name (`str`, *optional*), seed (`int`), settings:
            See [`load_prompts`].
        split (`str`, *optional*, defaults to `"train"`):
            Split of a hub data set.

    Raises:
        ConfigurationError: As [`load_prompts`]; a row's error when it is reached.
    """
    data = DataConfig(**{"held_out_prompts": 0, **settings})
    if is_generated(dataset_name):
        yield from _generate(dataset_name, data, seed)[0]
        return
    with closing(InvalidRows(data.skip_invalid, data.skipped_rows_file)) as invalid:
        rows = _read(dataset_name, config_name, split, data, invalid, streaming=True)
        yield from itertools.islice(rows, data.train_prompts)


def _split(name: str, rows: list[dict[str, Any]], wanted: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    train, held_out = split_rows(rows, wanted)
    if not train:
        different = f", {len(held_out)} of them different" if len(held_out) < len(rows) else ""
        raise ConfigurationError(f"{name} has {len(rows)} rows{different}; held_out_prompts is {wanted}.")
    if left_out := len(rows) - len(train) - len(held_out):
        logger.warning("%s: %d near-equal copies of held-out prompts are left out of training.", name, left_out)
    return train, held_out


def _warn_of_overlap(name: str, held_out: list[dict[str, Any]], rows: list[dict[str, Any]]) -> None:
    found = count_overlaps((row["prompt"] for row in held_out), (row["prompt"] for row in rows))
    if found.share:
        logger.warning("%s: %s", name, found.describe("held-out prompts", "the training set"))


def _read(
    name: str, config_name: str | None, split: str, data: DataConfig, invalid: InvalidRows, streaming: bool = False
) -> Iterator[dict[str, Any]]:
    """Converted rows of a file or hub data set; invalid ones go to `invalid`."""
    with closing(SeenIds()) as seen:
        count, skipped = 0, invalid.count
        for source in find_sources(name, config_name, split, streaming):
            for converted in _convert(source, _adapter(name, source, data), data, invalid, seen):
                count += 1
                yield converted
        skipped = invalid.count - skipped
        invalid.report(name, skipped, count + skipped)
        if not count:
            raise ConfigurationError(f"dataset_name {name!r} has no valid rows.")


def _adapter(name: str, source: Source, data: DataConfig) -> Adapter | None:
    key = HUB_DATASETS.get(name.lower()) if data.dataset_format == "auto" else data.dataset_format
    if key not in ADAPTERS:
        return None
    adapter = ADAPTERS[key]
    if adapter.learn is not None:
        adapter = adapter.learn((row.values for row in source.all_rows() if row.error is None), source.config_name)
    return adapter


def _convert(
    source: Source, adapter: Adapter | None, data: DataConfig, invalid: InvalidRows, seen: SeenIds
) -> Iterator[dict[str, Any]]:
    assert not isinstance(data.column_mapping, str)  # the configuration has parsed it
    mapping = {**(adapter.columns if adapter else {}), **(data.column_mapping or {})}
    rows = source.rows() if adapter is None else (_adapt(row, adapter) for row in source.rows())
    first = list(itertools.islice(rows, _ROWS_LOOKED_AT))
    columns = {name for row in first for name in row.values}
    for ours, theirs in (data.column_mapping or {}).items():
        if theirs not in columns:
            raise ConfigurationError(f"column_mapping {ours}: {source.name} has no column {theirs!r}.")
    kind = adapter.format if adapter else _format(source, columns, mapping, data)
    settings = PromptSettings(
        data.conversational,
        data.prompt_template,
        data.system_prompt,
        data.max_prompt_characters,
        data.option_labels,
    )
    for raw in itertools.chain(first, rows):
        columns.update(raw.values)
        try:
            if raw.error is not None:
                raise raw.error
            row = Row(raw.values, columns, mapping)
            converted = FORMATS[kind](row, settings)
            converted["id"] = _unique(converted["id"], row, raw, seen)
            if adapter is None:
                for name, value in row.rest().items():
                    check_storable(name, value)
                    check_template_column(name, value)
                    converted.setdefault(name, value)
        except FieldError as error:
            invalid.add(raw.source, raw.number, error)
            continue
        yield converted


def _format(source: Source, columns: set[str], mapping: dict[str, str], data: DataConfig) -> str:
    if data.dataset_format != "auto":
        return data.dataset_format
    kind = detect_format(columns, mapping)
    if kind is not None:
        return kind
    if not columns:  # no row could be read: let the first one say why
        return "prompt"
    raise ConfigurationError(
        f"{source.name} has no column 'prompt'; its columns are {sorted(columns)}. Rows need prompt or messages, "
        "question and options, question and answer, or instruction and response; column_mapping renames."
    )


def _adapt(row: RawRow, adapter: Adapter) -> RawRow:
    if row.error is not None:
        return row
    try:
        return replace(row, values=adapter.adapt(row.values))
    except FieldError as error:
        return replace(row, values={}, error=error)


def _unique(identifier: str, row: Row, raw: RawRow, seen: SeenIds) -> str:
    count, first = seen.add(identifier, raw)
    if count == 1:
        return identifier
    column = row.column("id")
    if column is not None:
        raise FieldError(column, f"{identifier!r} is also the id of {first}")
    return f"{identifier}-{count}"


def to_dataset(name: str, rows: list[dict[str, Any]]) -> Dataset:
    """Rows of [`iter_rows`] as a data set; a column is `None` where a row lacks it.

    Raises:
        ConfigurationError: A column holds values of different types.
    """
    columns = {
        column: [row.get(column) for row in rows] for column in dict.fromkeys(key for row in rows for key in row)
    }
    features: dict[str, Any] = {}
    for column, values in columns.items():
        if column == "tools" or (column in _MESSAGES and _has_more_than_text(values)):
            features[column] = Json() if column == "tools" else List(Json())
            continue
        try:
            found = pyarrow.array(values)
        except (pyarrow.ArrowException, TypeError, OverflowError) as error:
            row = rows[_first_unlike(values)]
            raise ConfigurationError(
                f"{name}, field {column!r}: values of different types; that of the row with id {row.get('id')!r} is "
                f"the first unlike those before ({error})."
            ) from error
        features |= Features.from_arrow_schema(pyarrow.schema({column: found.type}))
    return Dataset.from_dict(columns, features=Features(features))


def _has_more_than_text(values: list[Any]) -> bool:
    """Whether messages have keys of their own, which Arrow would fill in with nulls in all others."""
    given = [value for value in values if value is not None]
    messages = [message for value in given if isinstance(value, list) for message in value]
    return all(isinstance(one, list) for one in given) and any(
        isinstance(message, dict) and message.keys() != {"role", "content"} for message in messages
    )


def _first_unlike(values: list[Any]) -> int:
    def fails(count: int) -> bool:
        try:
            pyarrow.array(values[:count])
        except (pyarrow.ArrowException, TypeError, OverflowError):
            return True
        return False

    return bisect.bisect_left(range(1, len(values) + 1), True, key=fails)


def _generate(dataset_name: str, data: DataConfig, seed: int) -> tuple[Dataset, Dataset | None]:
    assert not isinstance(data.task_kwargs, str)  # the configuration has parsed it
    train, held_out = generate_tasks(
        dataset_name,
        train_prompts=data.train_prompts or DEFAULT_TRAIN_PROMPTS,
        held_out_prompts=data.held_out_prompts,
        seed=seed,
        task_kwargs=data.task_kwargs,
        prompt_template=data.prompt_template or "{question}",
        conversational=data.conversational,
    )
    return _complete(train, data), None if held_out is None else _complete(held_out, data)


def _complete(tasks: Dataset, data: DataConfig) -> Dataset:
    """Generated tasks with the columns that rows of files have."""
    prompts = [with_system_prompt(prompt, data.system_prompt) for prompt in tasks["prompt"]]
    completions = [make_completion(prompt, answer) for prompt, answer in zip(prompts, tasks["answer"], strict=True)]
    columns = {"id": prompt_ids(tasks), "prompt": prompts, "completion": completions}
    return Dataset.from_dict({**columns, **{name: tasks[name] for name in tasks.column_names if name != "prompt"}})
