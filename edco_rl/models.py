"""Model folders and hub ids."""

from pathlib import Path

from .errors import ConfigurationError


def check_model_path(model: str, setting: str = "model_name_or_path") -> None:
    """Raise [`ConfigurationError`], naming the setting, for a path without a model; a hub id passes."""
    path = Path(model).expanduser()
    looks_local = model.startswith(("/", ".", "~")) or model.count("/") > 1 or path.exists()
    if looks_local and not (path / "config.json").is_file():
        reason = "it has no config.json" if path.is_dir() else "there is no such folder"
        raise ConfigurationError(f"{setting} {model!r} is not a model folder: {reason}.")
