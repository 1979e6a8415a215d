"""Settings of supervised fine-tuning with a curriculum."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from trl import SFTConfig

from ..declarations import check_declared


@dataclass
class CurriculumSFTConfig(SFTConfig):
    r"""Settings of [`CurriculumSFTTrainer`]: TRL's `SFTConfig`, and arguments of the chat template for all rows."""

    _VALID_DICT_FIELDS: ClassVar[list[str]] = [*SFTConfig._VALID_DICT_FIELDS, "chat_template_kwargs"]

    chat_template_kwargs: dict[str, Any] | str | None = field(
        default=None,
        metadata={
            "help": "Arguments of the chat template for all rows, as {enable_thinking: false}. Those of a row's own "
            "column chat_template_kwargs come before them."
        },
    )

    def __post_init__(self) -> None:
        check_declared(self)
        super().__post_init__()
