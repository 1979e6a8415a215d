"""Where rows come from: a file, a folder, a data set saved to disk, or one of the hub."""

import dataclasses
import itertools
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow
import yaml
from datasets import Dataset, load_dataset, load_dataset_builder, load_from_disk
from datasets.data_files import DataFilesDict, get_data_patterns
from datasets.exceptions import DatasetsError
from huggingface_hub import DatasetCard

from ..errors import ConfigurationError
from .files import read_rows
from .kinds import data_kind, is_missing_file
from .rows import RawRow

_LIBRARY_ERRORS = (DatasetsError, pyarrow.ArrowException, yaml.YAMLError, ValueError, OSError)

logger = logging.getLogger(__name__)

# What the metadata of a folder can say that does not change how its files are read.
_HARMLESS = {"name", "version", "data_dir", "data_files", "description"}


@dataclass(frozen=True)
class Source:
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


def find_sources(name: str, config_name: str | None, split: str, streaming: bool) -> Iterator[Source]:
    """What a `dataset_name` names, one source for each configuration.

    Args:
        name (`str`):
            A local file or folder, or a hub id.
        config_name (`str`, *optional*):
            Configurations, separated by commas.
        split (`str`):
            The split that is read, of what has splits.
        streaming (`bool`):
            Whether a hub data set is streamed instead of downloaded as a whole.

    Raises:
        ConfigurationError: There is no such file, data set or split.
    """
    path = Path(name).expanduser()
    if path.is_file():
        yield Source(str(path), lambda: read_rows(path), lambda: read_rows(path), config_name)
        return
    if is_missing_file(name):
        raise ConfigurationError(f"dataset_name {name!r}: there is no such file.")
    for config in config_name.split(",") if config_name else [None]:
        stripped = config and config.strip()
        yield _of_splits(name, stripped, split, _splits(path if path.is_dir() else name, stripped, streaming))


def has_no_splits(name: str) -> bool:
    """Whether a `dataset_name` names rows without splits: a file, or a single data set saved to disk."""
    path = Path(name).expanduser()
    return path.is_file() or (path / "state.json").is_file()


def _of_splits(
    name: str, config_name: str | None, split: str, splits: Mapping[str, Callable[[], Iterator[RawRow]]]
) -> Source:
    if has_no_splits(name):
        [rows] = splits.values()
        return Source(name, rows, rows, config_name)
    if split not in splits:
        raise ConfigurationError(
            f"dataset_name {name!r} has no split {split!r}; it has {', '.join(splits)}. With dataset_train_split and "
            "dataset_test_split the same, rows of one split are held out."
        )
    title = f"{name} ({config_name})" if config_name else name
    return Source(
        f"{title}, split {split!r}",
        splits[split],
        lambda: itertools.chain.from_iterable(rows() for rows in splits.values()),
        config_name,
    )


def _splits(place: Path | str, config_name: str | None, streaming: bool) -> dict[str, Callable[[], Iterator[RawRow]]]:
    """Readers of the rows of each split."""
    try:
        if isinstance(place, Path):
            if any((place / file).is_file() for file in ("state.json", "dataset_dict.json")):
                saved = load_from_disk(place)
                return _loaded(place, {"all": saved} if isinstance(saved, Dataset) else saved)
            files = _files(place, config_name)
            if files is not None:
                return {split: _reader(paths) for split, paths in files.items()}
        return _loaded(place, load_dataset(str(place), name=config_name, streaming=streaming))
    except _LIBRARY_ERRORS as error:
        raise ConfigurationError(
            f"dataset_name {str(place)!r} cannot be loaded as files or from the hub: {error.__cause__ or error}"
        ) from error


def _loaded(
    place: Path | str, splits: Mapping[str, Iterable[dict[str, Any]]]
) -> dict[str, Callable[[], Iterator[RawRow]]]:
    def rows(split: str) -> Iterator[RawRow]:
        title, count = f"{place}, split {split!r}" if len(splits) > 1 else str(place), 0
        try:
            for values in splits[split]:
                yield RawRow(title, count, values)
                count += 1
        except _LIBRARY_ERRORS as error:
            raise ConfigurationError(
                f"{title} cannot be read after {count} rows: {error.__cause__ or error}"
            ) from error

    return {str(split): partial(rows, split) for split in splits}


def _reader(paths: list[Path]) -> Callable[[], Iterator[RawRow]]:
    return lambda: itertools.chain.from_iterable(map(read_rows, paths))


def _files(folder: Path, config_name: str | None) -> dict[str, list[Path]] | None:
    """Files of each split of a folder, as `datasets` finds them by their names or the metadata in its README; `None`
    where they need its own readers."""
    readme = folder / "README.md"
    if readme.is_file() and DatasetCard.load(readme).data.to_dict().get("configs"):
        config = load_dataset_builder(str(folder), name=config_name).config
        splits = {str(split): list(map(Path, files)) for split, files in (config.data_files or {}).items()}
        plain, given = type(config)(), dataclasses.fields(config)
        changed = {one.name for one in given if getattr(config, one.name) != getattr(plain, one.name)}
        readable = all(file.is_file() and data_kind(file.name) for files in splits.values() for file in files)
        return splits if readable and changed <= _HARMLESS else None
    found = DataFilesDict.from_patterns(get_data_patterns(str(folder)), base_path=str(folder))
    kinds = Counter(data_kind(file) for files in found.values() for file in files)
    del kinds[None]
    if not kinds:
        return None
    [(kind, _)] = kinds.most_common(1)
    splits = {str(split): [Path(file) for file in files if data_kind(file) == kind] for split, files in found.items()}
    read = {file for files in splits.values() for file in files}
    left_out = sorted(str(file) for file in folder.rglob("*") if data_kind(file.name) and file not in read)
    if left_out:
        logger.warning("%s: of its files these are not read: %s.", folder, ", ".join(left_out))
    return {split: files for split, files in splits.items() if files}
