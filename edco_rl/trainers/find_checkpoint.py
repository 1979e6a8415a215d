"""Which checkpoint a run resumes from."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from ..errors import ConfigurationError, EdcoRLError
from ..store import check_checkpoint, newest_checkpoint

logger = logging.getLogger(__name__)


def find_checkpoint(asked: str | bool | None, output_dir: str) -> str | None:
    """The checkpoint to resume from, complete and unaltered; the same on every process.

    Those that are passed over, and why, are logged as a warning.

    Args:
        asked (`str` or `bool`, *optional*):
            A folder; `true` for the newest complete checkpoint of the run; `None` or `false` for none.
        output_dir (`str`):
            The run's folder.

    Raises:
        ConfigurationError: There is none, or the one that is asked for is not complete or was altered.
    """
    if asked is None or str(asked).lower() == "false":
        return None
    said: list[tuple[str | None, str]] = [(None, "")]
    state = PartialState()
    if state.is_main_process:
        try:
            said = [(_newest(Path(output_dir)) if str(asked).lower() == "true" else _named(Path(str(asked))), "")]
        except ConfigurationError as error:
            said = [(None, str(error))]
    if state.num_processes > 1:
        broadcast_object_list(said)
    [(found, problem)] = said
    if found is None:
        raise ConfigurationError(problem)
    return found


def _named(folder: Path) -> str:
    if not folder.is_dir():
        raise ConfigurationError(f"resume_from_checkpoint {str(folder)!r}: there is no such folder.")
    check_checkpoint(folder)
    return str(folder)


def _newest(run: Path) -> str:
    found, passed_over = newest_checkpoint(run)
    told = "".join(f"\n- {reason}" for reason in passed_over)
    if found is None:
        raise ConfigurationError(
            f"resume_from_checkpoint true: {run} holds no checkpoint."
            if not passed_over
            else f"resume_from_checkpoint true: {run} holds no complete checkpoint:{told}"
        )
    if passed_over:
        logger.warning("Resuming from %s. Passed over:%s", found, told)
    return str(found)


@contextmanager
def reading(checkpoint: str | None, what: str) -> Iterator[None]:
    """Say which checkpoint it is that cannot be read, whatever a library makes of it."""
    try:
        yield
    except EdcoRLError as error:
        raise type(error)(f"{checkpoint}: {error}") from error
    except Exception as error:
        raise ConfigurationError(f"{checkpoint}: its {what} cannot be read: {error}") from error
