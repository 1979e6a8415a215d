"""From a `dataset_name` to a training pool and held-out rows."""

from pathlib import Path
from typing import Any

from datasets import Dataset, load_dataset
from datasets.exceptions import DatasetNotFoundError

from ..config import ConfigurationError
from .prompts import check_prompts
from .tasks import DEFAULT_TRAIN_PROMPTS, generate_tasks, is_generated

_FORMATS = {".jsonl": "json", ".json": "json", ".parquet": "parquet", ".csv": "csv"}


def load_prompts(
    dataset_name: str,
    *,
    config_name: str | None = None,
    train_split: str = "train",
    test_split: str = "test",
    train_prompts: int | None = None,
    held_out_prompts: int = 0,
    task_kwargs: dict[str, Any] | None = None,
    prompt_template: str = "{question}",
    conversational: bool = True,
    seed: int = 0,
) -> tuple[Dataset, Dataset | None]:
    """Load or generate prompts.

    Args:
        dataset_name (`str`):
            A generated task (`reasoning_gym:<task>`), a local JSONL, JSON, Parquet or CSV file (also gzipped), or a
            hub id.
        config_name (`str`, *optional*):
            Configuration of a hub data set.
        train_split (`str`), test_split (`str`):
            Splits of a hub data set. A local file is one split: its last rows are held out.
        train_prompts (`int`, *optional*):
            Rows of the pool; by default all, or 1,000 of a generated task.
        held_out_prompts (`int`):
            Rows held out; none gives `None`.
        task_kwargs (`dict`), prompt_template (`str`), conversational (`bool`):
            See [`generate_tasks`].
        seed (`int`, *optional*, defaults to `0`):
            Seed of a generated task.

    Raises:
        ConfigurationError: Nothing is found under that name, or a row has no usable prompt.
    """
    if is_generated(dataset_name):
        return generate_tasks(
            dataset_name,
            train_prompts=train_prompts or DEFAULT_TRAIN_PROMPTS,
            held_out_prompts=held_out_prompts,
            seed=seed,
            task_kwargs=task_kwargs,
            prompt_template=prompt_template,
            conversational=conversational,
        )
    rows, held_out_rows = _load_rows(dataset_name, config_name, train_split, test_split, held_out_prompts)
    check_prompts(rows)
    if train_prompts is not None:
        rows = rows.select(range(min(train_prompts, len(rows))))
    if held_out_rows is not None:
        check_prompts(held_out_rows)
        held_out_rows = held_out_rows.select(range(min(held_out_prompts, len(held_out_rows))))
    return rows, held_out_rows


def _load_rows(
    name: str, config_name: str | None, train_split: str, test_split: str, held_out: int
) -> tuple[Dataset, Dataset | None]:
    path = Path(name).expanduser()
    if path.is_file():
        suffix = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
        if suffix not in _FORMATS:
            raise ConfigurationError(
                f"dataset_name {name!r}: expected a file of {', '.join(_FORMATS)}; got {suffix!r}."
            )
        rows = load_dataset(_FORMATS[suffix], data_files=str(path), split="train")
        if held_out >= len(rows):
            raise ConfigurationError(f"{name} has {len(rows)} rows; held_out_prompts is {held_out}.")
        kept = len(rows) - held_out
        return rows.select(range(kept)), rows.select(range(kept, len(rows))) if held_out else None
    if name.startswith(("/", ".", "~")) or path.suffix in _FORMATS:
        raise ConfigurationError(f"dataset_name {name!r}: there is no such file.")
    try:
        splits = load_dataset(name, name=config_name)
    except (DatasetNotFoundError, ValueError, ConnectionError) as error:
        raise ConfigurationError(
            f"dataset_name {name!r} is neither a file nor a data set of the hub: {error}"
        ) from error
    for split in (train_split, test_split) if held_out else (train_split,):
        if split not in splits:
            raise ConfigurationError(f"dataset_name {name!r} has no split {split!r}; it has {', '.join(splits)}.")
    return splits[train_split], splits[test_split] if held_out else None
