"""Files that are written whole or not at all, and the settings a run is only continued with."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..config import ConfigurationError

_MANIFEST = "manifest.json"


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Let `write` make a file under another name, and give it its own once it is on disk."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    write(unfinished)
    with unfinished.open("rb") as file:
        os.fsync(file.fileno())
    unfinished.replace(path)


def keep_settings(folder: Path, settings: dict[str, Any]) -> None:
    """Note the settings of a run in its folder, or check that it was begun with the same.

    Raises:
        ConfigurationError: It was begun with others; the message names the first difference.
    """
    manifest = folder / _MANIFEST
    if manifest.exists():
        check_settings(json.loads(manifest.read_text()), settings, f"The parts in {folder} were", folder)
    else:
        text = json.dumps(settings, indent=1, sort_keys=True)
        write_whole(manifest, lambda path: path.write_text(text))


def check_settings(before: dict[str, Any], now: dict[str, Any], what: str, remove: Path, within: str = "") -> None:
    """Raise [`ConfigurationError`] for the first setting that differs, in mappings too. Both hold JSON values."""
    for name in sorted(before.keys() | now.keys()):
        was, is_now = before.get(name), now.get(name)
        if isinstance(was, dict) and isinstance(is_now, dict):
            check_settings(was, is_now, what, remove, f"{within}{name}.")
        elif was != is_now:
            raise ConfigurationError(
                f"{what} made with {within}{name} {was!r}; now it is {is_now!r}. Go on with the same settings, name "
                f"another output, or remove {remove}."
            )
