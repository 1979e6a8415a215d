"""Artefacts: what is kept between runs, each with a manifest that says what made it and whether it is whole.

An artefact is a value, or a file and a value beside it. Its manifest is a JSON file with the suffix `.json` added to
the artefact's own name: format version, what made it, the XXH3 of the file, the value, the seconds it took, and a
checksum of all that. The manifest is written first, and says nothing where its file is missing: a file without a
manifest is never an artefact that a killed process left unfinished.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..errors import ConfigurationError
from .files import locked, put_in_place, unfinished, write_json
from .fingerprint import file_checksum, fingerprint, plain

FORMAT = 2
MANIFEST_SUFFIX = ".json"
_NOTED = {"format", "made_from", "value", "checksum", "seconds"}
Changed = Literal["refuse", "remake"]


@dataclass(frozen=True)
class Artefact:
    """Something that was made once and kept.

    Args:
        path (`Path`):
            The file; of an artefact that is only a value there is none.
        made_from (`dict`):
            All it depends on, as JSON values.
        value (JSON value):
            What was noted when it was made.
        checksum (`str`, *optional*):
            XXH3 of the file, see [`~edco_rl.store.file_checksum`].
        seconds (`float`):
            Seconds it took to make.
    """

    path: Path
    made_from: dict[str, Any]
    value: Any
    checksum: str | None
    seconds: float

    @property
    def fingerprint(self) -> str:
        """The same for artefacts that hold the same."""
        return fingerprint([self.checksum, self.value])


def load(path: Path, remedy: str | None = None) -> Artefact | None:
    """The artefact at a path; `None` where there is none that is whole.

    Args:
        path (`Path`):
            Where it is kept.
        remedy (`str`, *optional*):
            What the message advises where it was altered; by default to remove it, so that it is made again.

    Raises:
        ConfigurationError: It is of another format, or it, or its manifest, was altered.
    """
    if not path.parent.is_dir():
        return None
    manifest = manifest_of(path)
    remedy = remedy or f"Remove it to make {path.name} again."
    with locked(path.parent):  # nobody replaces the file between one look and the other
        if not manifest.is_file():
            return None
        try:
            noted = json.loads(manifest.read_text(encoding="utf-8"))
        except (ValueError, RecursionError):
            noted = None
        if not isinstance(noted, dict) or "format" not in noted:
            raise ConfigurationError(f"{manifest} is no manifest of an artefact. {remedy}")
        if noted["format"] != FORMAT:
            raise ConfigurationError(
                f"{manifest} has format {noted['format']!r}; this version reads {FORMAT}. {remedy}"
            )
        if noted.pop("manifest_checksum", None) != fingerprint(noted) or noted.keys() != _NOTED:
            raise ConfigurationError(f"{manifest} was altered since it was made. {remedy}")
        del noted["format"]
        if noted["checksum"] is not None:
            if not path.is_file():
                return None
            if file_checksum(path) != noted["checksum"]:
                raise ConfigurationError(f"{path} was altered since it was made. {remedy}")
    return Artefact(path, **noted)


def save_value(path: Path, made_from: dict[str, Any], value: Any, seconds: float = 0.0) -> Artefact:
    """Write an artefact that is a value, whole or not at all.

    Args:
        path (`Path`):
            Where to; the manifest is all there is.
        made_from (`dict`):
            All it depends on.
        value (JSON value):
            The value.
        seconds (`float`, *optional*):
            Seconds it took to make.
    """
    return _note(Artefact(path, plain(made_from), plain(value), None, seconds))


def save_file(
    path: Path, made_from: dict[str, Any], write: Callable[[Path], Any], seconds: float | None = None
) -> Artefact:
    """Write an artefact that is a file, whole or not at all: what is there before stays until the new one is whole.

    Args:
        path (`Path`):
            Where to.
        made_from (`dict`):
            All it depends on.
        write (`Callable`):
            Writes the file to the path it is given, and returns the value to note beside it.
        seconds (`float`, *optional*):
            Seconds it took to make; by default those `write` takes.
    """
    started = time.perf_counter()
    with unfinished(path) as draft:
        value = write(draft)
        seconds = time.perf_counter() - started if seconds is None else seconds
        checksum = file_checksum(draft)
        with locked(path.parent):
            path.unlink(missing_ok=True)
            made = _note(Artefact(path, plain(made_from), plain(value), checksum, seconds))
            put_in_place(draft, path)
    return made


def _note(made: Artefact) -> Artefact:
    noted = {name: value for name, value in vars(made).items() if name != "path"}
    manifest = {"format": FORMAT, **noted}
    write_json(manifest_of(made.path), {**manifest, "manifest_checksum": fingerprint(manifest)})
    return made


def load_same(path: Path, made_from: dict[str, Any], changed: Changed = "refuse") -> Artefact | None:
    """The artefact at a path, where there is one that was made from the same.

    Args:
        path (`Path`):
            Where it is kept.
        made_from (`dict`):
            All it depends on.
        changed (`str`, *optional*, defaults to `"refuse"`):
            What becomes of an artefact that was made from something else: `"refuse"` raises, `"remake"` gives `None`.

    Raises:
        ConfigurationError: It was made from something else; the message names the first difference. Or as [`load`].
    """
    found, made_from = load(path), plain(made_from)
    if found is None or found.made_from == made_from:
        return found
    if changed == "refuse":
        where = path if found.checksum else manifest_of(path)
        check_same(found.made_from, made_from, f"{where} was", where)
    return None


def once(path: Path, made_from: dict[str, Any], make: Callable[[Path], Any], changed: Changed = "refuse") -> Artefact:
    """The artefact at a path, made where there is none: see [`save_file`] for `make`, [`load_same`] for the rest."""
    return load_same(path, made_from, changed) or save_file(path, made_from, make)


def once_value(
    path: Path, made_from: dict[str, Any], make: Callable[[], Any], changed: Changed = "refuse"
) -> Artefact:
    """As [`once`], of an artefact that is the value `make` returns."""
    found = load_same(path, made_from, changed)
    if found is not None:
        return found
    started = time.perf_counter()
    value = make()
    return save_value(path, made_from, value, time.perf_counter() - started)


def remove(path: Path) -> None:
    """Remove an artefact, its manifest last."""
    if path.is_file():
        path.unlink()
    manifest_of(path).unlink(missing_ok=True)


def manifest_of(path: Path) -> Path:
    """The manifest of the artefact at a path."""
    return path.with_name(path.name + MANIFEST_SUFFIX)


def check_same(before: dict[str, Any], now: dict[str, Any], what: str, remove: Path, within: str = "") -> None:
    """Raise [`ConfigurationError`] for the first entry that differs, in mappings too. Both hold JSON values."""
    for name in sorted(before.keys() | now.keys()):
        was, is_now = before.get(name), now.get(name)
        if isinstance(was, dict) and isinstance(is_now, dict):
            check_same(was, is_now, what, remove, f"{within}{name}.")
        elif was != is_now:
            raise ConfigurationError(
                f"{what} made with {within}{name} {was!r}; now it is {is_now!r}. Go on with the same settings, name "
                f"another output, or remove {remove}."
            )
