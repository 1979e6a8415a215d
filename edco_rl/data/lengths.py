"""Prompts that are longer than what answers them takes, named before they are sent."""

from collections.abc import Callable, Sequence

from ..errors import ConfigurationError
from .tokens import Row, name_row


def check_lengths(lengths: Sequence[int], most: int | None, setting: str, name: Callable[[int], str]) -> None:
    """Refuse prompts that are longer than an engine takes.

    Args:
        lengths (`Sequence[int]`):
            Tokens each takes with its continuation.
        most (`int`, *optional*):
            Tokens the engine takes, where that is known.
        setting (`str`):
            What the continuation's length follows from.
        name (`Callable[[int], str]`):
            How the prompt of that number is called.

    Raises:
        ConfigurationError: The first that is too long is named, with the settings.
    """
    too_long = [number for number, length in enumerate(lengths) if most is not None and length > most]
    if too_long:
        first = too_long[0]
        raise ConfigurationError(
            f"{name(first)}: its prompt takes {lengths[first]} tokens with {setting}, and the engine at most {most} "
            f"(engine_max_model_len). Of {len(lengths)} rows {len(too_long)} are too long: raise it, lower the other, "
            "or leave them out of the data set."
        )


def check_prompts_fit(
    rows: Sequence[Row], prompts: Sequence[Sequence[int]], added: int, most: int | None, setting: str
) -> None:
    """The same for rows whose prompts are continued by equally many tokens.

    Args:
        rows (`Sequence[Mapping]`):
            The rows.
        prompts (`Sequence[Sequence[int]]`):
            Tokens of their prompts.
        added (`int`):
            Most tokens of a continuation.
        most (`int`, *optional*), setting (`str`):
            As of [`check_lengths`]; the number of tokens is put after the setting.

    Raises:
        ConfigurationError: The first that is too long is named, with the settings.
    """
    lengths = [len(prompt) + added for prompt in prompts]
    check_lengths(lengths, most, f"{setting} {added}", lambda number: name_row(rows[number]))
