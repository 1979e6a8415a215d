"""How the rows of a trainer become tokens: in one way for training, scoring and evaluation."""

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from transformers import Trainer
from transformers.utils import get_json_schema

from ..data.tokens import TEMPLATE_COLUMNS, Row, RowTokenizer
from ..errors import ConfigurationError


class RowTokensMixin(Trainer if TYPE_CHECKING else object):  # type: ignore[misc]
    """Gives a TRL trainer its `row_tokenizer`, and has rollouts begin with the prompts it makes.

    TRL's trainers on rollouts read no column `chat_template_kwargs`; with this mixin they do.
    """

    _rolled_out: Sequence[Row] = ()
    """Rows whose prompts are continued next."""
    _signature_columns: list[str] | None

    @cached_property
    def row_tokenizer(self) -> RowTokenizer:
        """Makes token ids of rows as this trainer trains on them."""
        tools = [one if isinstance(one, dict) else get_json_schema(one) for one in getattr(self, "tools", None) or []]
        given = {"chat_template": getattr(self, "chat_template", None), "tools": tools}
        settings = {name: value for name, value in given.items() if value}
        return RowTokenizer(self._tokenizer, settings | (getattr(self, "chat_template_kwargs", None) or {}))

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        columns = self._signature_columns or []
        if "prompt" in columns:  # where rows come as they are
            self._signature_columns = list(dict.fromkeys([*columns, *TEMPLATE_COLUMNS]))

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> Any:
        self._rolled_out = inputs
        return super()._generate_and_score_completions(inputs)

    def _tokenize_prompts(self, prompts: list[Any]) -> Any:
        if not any(row.get("chat_template_kwargs") for row in self._rolled_out):
            return super()._tokenize_prompts(prompts)
        if self._is_vlm:
            raise ConfigurationError("Column 'chat_template_kwargs' is read for text models only.")
        return self.row_tokenizer.prompts(self._rolled_out), None, {}
