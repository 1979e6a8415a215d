"""From a `dataset_name` to prompts: all at once as a training pool and held-out rows, or one after the other."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow
from datasets import Dataset, load_dataset
from datasets.exceptions import DatasetNotFoundError

from ..config import DataConfig
from ..errors import ConfigurationError
from .files import is_data_file, read_rows
from .formats import FORMATS, PromptSettings, detect_format
from .hub import ADAPTERS, HUB_DATASETS, Adapter
from .prompts import content_id, make_completion, prompt_ids, with_system_prompt
from .rows import FieldError, InvalidRows, RawRow, Row, SeenIds, check_encoding
from .tasks import DEFAULT_TRAIN_PROMPTS, generate_tasks, is_generated

# Rows whose columns tell the form of a data set: a column that a few rows lack does not change it.
_ROWS_LOOKED_AT = 100


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
            A generated task (`reasoning_gym:<task>`), a local JSONL, JSON, Parquet or CSV file (text also gzipped), or
            a hub id.
        config_name (`str`, *optional*):
            Configuration of a hub data set; several, separated by commas, are read one after the other.
        train_split (`str`), test_split (`str`):
            Splits of a hub data set. Where both are the same, rows of it are held out by a hash of their ids, as of a
            local file: whatever the order of the rows, the same ones.
        seed (`int`, *optional*, defaults to `0`):
            Seed of a generated task.
        settings:
            Fields of [`~edco_rl.config.DataConfig`]; `held_out_prompts` is 0 by default.

    Returns:
        `tuple[Dataset, Dataset or None]`: training and held-out rows (`None` where none are wanted), with the columns

        - `id` (`str`): the row's own, or a hash of its content; the same wherever the row stands;
        - `prompt` (`str` or `list[dict]`): plain text or messages;
        - `answer` (`str`): the right answer, of multiple choice the label of the right option (`"B"`);
        - `completion` (`str` or `list[dict]`): the answer as the model should write it, as TRL's SFT takes it;
        - `options` (`list[str]`), `response`, `explanation`, `subject` (`str`): where the data set has them;
        - of data sets without an adapter, all columns that are none of these.

    Raises:
        ConfigurationError: Nothing is found under that name, or a row is invalid: it names file, row and field.
    """
    data = DataConfig(**{"held_out_prompts": 0, **settings})
    if is_generated(dataset_name):
        return _generate(dataset_name, data, seed)
    with closing(InvalidRows(data.skip_invalid, data.skipped_rows_file)) as invalid:
        rows = list(_read(dataset_name, config_name, train_split, data, invalid))
        wanted, held_out = data.held_out_prompts, None
        if wanted and data.eval_dataset_name is not None:
            held_out = list(_read(data.eval_dataset_name, config_name, test_split, data, invalid))
        elif wanted and not _is_local(dataset_name) and train_split != test_split:
            held_out = list(_read(dataset_name, config_name, test_split, data, invalid))
        elif wanted:
            if wanted >= len(rows):
                raise ConfigurationError(f"{dataset_name} has {len(rows)} rows; held_out_prompts is {wanted}.")
            rows, held_out = _split(rows, wanted)
    train = to_dataset(dataset_name, rows[: data.train_prompts])
    if held_out is None:
        return train, None
    return train, to_dataset(data.eval_dataset_name or dataset_name, held_out[:wanted])


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


def _split(rows: list[dict[str, Any]], held_out: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Hold rows out by a hash of their ids: whatever the order of the rows, and as good as at random."""
    chosen = {row["id"] for row in sorted(rows, key=lambda row: content_id(row["id"]))[:held_out]}
    return [row for row in rows if row["id"] not in chosen], [row for row in rows if row["id"] in chosen]


def _is_local(name: str) -> bool:
    return Path(name).expanduser().is_file()


@dataclass(frozen=True)
class _Source:
    """Rows that are read in one go.

    Args:
        name (`str`):
            What messages call it.
        rows (`Callable`):
            Iterates over its rows, from the beginning each time.
        all_rows (`Callable`):
            The same for all splits.
        config_name (`str`, *optional*):
            Configuration of the data set.
    """

    name: str
    rows: Callable[[], Iterator[RawRow]]
    all_rows: Callable[[], Iterator[RawRow]]
    config_name: str | None


def _sources(name: str, config_name: str | None, split: str, streaming: bool) -> Iterator[_Source]:
    path = Path(name).expanduser()
    if path.is_file():
        yield _Source(str(path), lambda: read_rows(path), lambda: read_rows(path), config_name)
        return
    if (name.startswith(("/", ".", "~")) or is_data_file(name)) and not path.is_dir():
        raise ConfigurationError(f"dataset_name {name!r}: there is no such file.")
    for config in config_name.split(",") if config_name else [None]:
        yield _hub_source(name, config and config.strip(), split, streaming)


def _hub_source(name: str, config_name: str | None, split: str, streaming: bool) -> _Source:
    try:
        splits = load_dataset(str(Path(name).expanduser()), name=config_name, streaming=streaming)
    except (DatasetNotFoundError, ValueError, OSError) as error:
        raise ConfigurationError(
            f"dataset_name {name!r} is neither a file nor a data set of the hub: {error}"
        ) from error
    if split not in splits:
        raise ConfigurationError(
            f"dataset_name {name!r} has no split {split!r}; it has {', '.join(splits)}. With dataset_train_split and "
            "dataset_test_split the same, rows of one split are held out."
        )

    def rows(*names: str) -> Iterator[RawRow]:
        for number, values in enumerate(itertools.chain.from_iterable(splits[name] for name in names)):
            yield RawRow(number, values)

    title = f"{name} ({config_name})" if config_name else name
    return _Source(f"{title}, split {split!r}", lambda: rows(split), lambda: rows(*splits), config_name)


def _read(
    name: str, config_name: str | None, split: str, data: DataConfig, invalid: InvalidRows, streaming: bool = False
) -> Iterator[dict[str, Any]]:
    """Converted rows of a file or hub data set; invalid ones go to `invalid`."""
    with closing(SeenIds()) as seen:
        count, skipped = 0, invalid.count
        for source in _sources(name, config_name, split, streaming):
            for converted in _convert(source, _adapter(name, source, data), data, invalid, seen):
                count += 1
                yield converted
        skipped = invalid.count - skipped
        invalid.report(name, skipped, count + skipped)
        if not count:
            raise ConfigurationError(f"dataset_name {name!r} has no valid rows.")


def _adapter(name: str, source: _Source, data: DataConfig) -> Adapter | None:
    key = HUB_DATASETS.get(name.lower()) if data.dataset_format == "auto" else data.dataset_format
    if key not in ADAPTERS:
        return None
    adapter = ADAPTERS[key]
    if adapter.learn is not None:
        adapter = adapter.learn((row.values for row in source.all_rows() if row.error is None), source.config_name)
    return adapter


def _convert(
    source: _Source, adapter: Adapter | None, data: DataConfig, invalid: InvalidRows, seen: SeenIds
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
        data.conversational, data.prompt_template, data.system_prompt, data.max_prompt_characters
    )
    for raw in itertools.chain(first, rows):
        columns.update(raw.values)
        try:
            if raw.error is not None:
                raise raw.error
            row = Row(raw.values, columns, mapping)
            converted = FORMATS[kind](row, settings)
            converted["id"] = _unique(converted["id"], row, raw.number, seen)
            if adapter is None:
                for name, value in row.rest().items():
                    check_encoding(name, value)
                    converted.setdefault(name, value)
        except FieldError as error:
            invalid.add(source.name, raw.number, error)
            continue
        yield converted


def _format(source: _Source, columns: set[str], mapping: dict[str, str], data: DataConfig) -> str:
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
        return RawRow(row.number, {}, error)


def _unique(identifier: str, row: Row, number: int, seen: SeenIds) -> str:
    count, first = seen.add(identifier, number)
    if count == 1:
        return identifier
    column = row.column("id")
    if column is not None:
        raise FieldError(column, f"{identifier!r} is also the id of row {first}")
    return f"{identifier}-{count}"


def to_dataset(name: str, rows: list[dict[str, Any]]) -> Dataset:
    """Rows of [`iter_rows`] as a data set; a column is `None` where a row lacks it.

    Raises:
        ConfigurationError: A column holds values of different types.
    """
    columns = {
        column: [row.get(column) for row in rows] for column in dict.fromkeys(key for row in rows for key in row)
    }
    for column, values in columns.items():
        try:
            pyarrow.array(values)
        except (pyarrow.ArrowException, TypeError, OverflowError) as error:
            raise ConfigurationError(f"{name}, field {column!r}: values of different types ({error}).") from error
    return Dataset.from_dict(columns)


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
    return Dataset.from_dict({**columns, **{name: tasks[name] for name in ("answer", "entry")}})
