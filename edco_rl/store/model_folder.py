"""A model among other files of a folder: whole or absent."""

import shutil
from pathlib import Path

from .files import sync

UNFINISHED_MODEL = "model.unfinished"
"""Folder beside the model's files that they are written to."""
# Without one of these no library finds a model in a folder.
_MARKS = ("config.json", "adapter_config.json")


def begin_model(draft: Path) -> None:
    """Make room for a model: remove what a killed process left of one. PEFT adds to the model card that is there."""
    if draft.exists():
        shutil.rmtree(draft)
    draft.mkdir(parents=True)
    card = draft.parent / "README.md"
    if card.is_file():
        shutil.copyfile(card, draft / card.name)


def put_model_in_place(draft: Path, folder: Path) -> None:
    """Move the files of a model to the folder it is to be in; what makes a model of them is moved last.

    Args:
        draft (`Path`):
            The folder they were written to, within `folder`.
        folder (`Path`):
            Where they are to be. A model that is there is gone once this begins.
    """
    for path in draft.rglob("*"):
        sync(path)
    for name in _MARKS:
        (folder / name).unlink(missing_ok=True)
    for path in sorted(draft.iterdir(), key=lambda path: path.name in _MARKS):
        target = folder / path.name
        if target.is_dir():
            shutil.rmtree(target)
        path.replace(target)
    sync(folder)
    draft.rmdir()
