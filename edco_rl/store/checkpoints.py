"""Checkpoints: folders that are written whole or not at all, each with a manifest of every file in it.

A checkpoint is written in a folder beside the others, `checkpoint.unfinished`. Once all its files are on disk its
manifest is written, an artefact that holds size and checksum of each: from then on it is complete, and it is moved to
its own name. Whatever moment a process is killed at, a checkpoint is complete and unaltered, or is known not to be.
"""

import logging
import re
import shutil
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError
from .artefact import Artefact, load, manifest_of, save_value
from .files import sync
from .fingerprint import file_checksum

logger = logging.getLogger(__name__)

UNFINISHED_FOLDER = "checkpoint.unfinished"
"""Where checkpoints of a run are written, and removed; transformers looks for `checkpoint-*`, and passes it over."""
_NAME = re.compile(r"checkpoint-(\d+)")
_MANIFEST = "manifest"
_REMEDY = "Resume from another checkpoint."


def begin_checkpoint(run: Path) -> None:
    """Make room for a checkpoint of a run: remove what killed processes left of others."""
    _clear(run / UNFINISHED_FOLDER)
    (run / UNFINISHED_FOLDER).mkdir(parents=True)


def finish_checkpoint(folder: Path, made_from: dict[str, Any]) -> None:
    """Make a complete checkpoint of what was written for it, in place of one of the same name that may be there.

    Args:
        folder (`Path`):
            Where it is to be; its files are in the folder of its name in the run's `checkpoint.unfinished`.
        made_from (`dict`):
            The settings it was made with.
    """
    draft = folder.parent / UNFINISHED_FOLDER / folder.name
    files: dict[str, list[int | str]] = {}
    for path in sorted(draft.rglob("*"), reverse=True):  # what a folder holds comes before the folder
        sync(path)
        if path.is_file():
            files[path.relative_to(draft).as_posix()] = [path.stat().st_size, file_checksum(path)]
    save_value(draft / _MANIFEST, made_from, files)
    sync(draft)
    if folder.exists():
        folder.rename(draft.with_name(f"replaced-{folder.name}"))
    draft.rename(folder)
    sync(folder.parent)
    _clear(draft.parent)


def remove_checkpoint(folder: Path) -> None:
    """Remove a checkpoint, so that none is left of which a part is gone."""
    (folder.parent / UNFINISHED_FOLDER).mkdir(exist_ok=True)
    folder.rename(folder.parent / UNFINISHED_FOLDER / f"removed-{folder.name}")
    _clear(folder.parent / UNFINISHED_FOLDER)


def _clear(folder: Path) -> None:
    """Remove a folder, where there is one."""
    if folder.exists():
        shutil.rmtree(folder)


def check_checkpoint(folder: Path) -> dict[str, Any]:
    """Check that a checkpoint is complete, and none of its files was altered since it was made.

    Returns:
        `dict`: the settings it was made with.

    Raises:
        ConfigurationError: It names the file, and what is wrong with it.
    """
    manifest = load(folder / _MANIFEST, _REMEDY)
    if manifest is None:
        raise ConfigurationError(
            f"{manifest_of(folder / _MANIFEST)} is missing: the checkpoint was not written to its end, or not by "
            "edco_rl."
        )
    files = _files(manifest, folder)
    for name, (size, _) in files.items():
        path = folder / name
        if not path.is_file():
            raise ConfigurationError(f"{path} is missing. {_REMEDY}")
        if path.stat().st_size != size:
            raise ConfigurationError(f"{path} has {path.stat().st_size} bytes instead of {size}. {_REMEDY}")
    for name, (_, checksum) in files.items():
        if file_checksum(folder / name) != checksum:
            raise ConfigurationError(f"{folder / name} was altered since it was made. {_REMEDY}")
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    added = found - files.keys() - {manifest_of(folder / _MANIFEST).name}
    if added:
        logger.warning("%s holds files that were added to it later: %s.", folder, ", ".join(sorted(added)))
    return manifest.made_from


def _files(manifest: Artefact, folder: Path) -> dict[str, tuple[int, str]]:
    try:
        return {str(name): (int(size), str(checksum)) for name, (size, checksum) in manifest.value.items()}
    except (AttributeError, TypeError, ValueError):
        raise ConfigurationError(f"{manifest_of(manifest.path)} does not list the files of {folder}.") from None


def newest_checkpoint(run: Path) -> tuple[Path | None, list[str]]:
    """The newest complete checkpoint of a run, and what is wrong with those that were passed over.

    One that is complete but was not moved to its name yet is moved there.
    """
    passed_over = []
    for draft in sorted((run / UNFINISHED_FOLDER).glob("*")):
        folder = run / draft.name
        if _NAME.fullmatch(draft.name) and not manifest_of(draft / _MANIFEST).is_file():
            passed_over.append(f"{draft} was not written to its end.")
        elif _NAME.fullmatch(draft.name) and not folder.exists():
            draft.rename(folder)
    named = {path: found for path in run.glob("checkpoint-*") if (found := _NAME.fullmatch(path.name))}
    for folder in sorted(named, key=lambda path: int(named[path][1]), reverse=True):
        try:
            check_checkpoint(folder)
        except ConfigurationError as error:
            passed_over.append(str(error))
        else:
            return folder, passed_over
    return None, passed_over
