"""Supervised fine-tuning with a curriculum."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from datasets import Dataset
from torch.utils.data import DataLoader
from trl import SFTConfig, SFTTrainer

from ..config import CurriculumConfig
from ..curriculum import Outcome
from ..data.tokens import RowTokenizer, SupervisedRowTokenizer, with_template_arguments
from ..errors import ConfigurationError
from .batches import INDEX
from .callbacks import ObserveCallback
from .curriculum_mixin import CurriculumMixin


class CurriculumSFTTrainer(CurriculumMixin, SFTTrainer):
    """TRL's `SFTTrainer` with a curriculum.

    A prompt's outcome is the share of its reference's tokens that the model ranks first, which takes the place of the
    reward. Gates, which need rollouts, are refused, and so are packing and padding-free batches, which join rows.

    Args:
        model, args, data_collator, train_dataset, **kwargs:
            As in `trl.SFTTrainer`; `args` can be a [`CurriculumSFTConfig`]. The training set needs columns `prompt`
            and `completion`, or `messages` that end with the assistant's; a column `id` is kept as the prompt's id.
        curriculum, engine:
            See [`CurriculumMixin`].

    Raises:
        ConfigurationError: A bad row, setting or combination; raised before a model is loaded where possible.

    Example:

    ```python
    >>> from edco_rl import CurriculumSFTTrainer
    >>> trainer = CurriculumSFTTrainer("Qwen/Qwen3-0.6B", train_dataset=dataset, curriculum="edco")
    >>> trainer.train()
    ```
    """

    _tag_names: ClassVar[list[str]] = ["trl", "sft", "edco-rl"]

    def _rows_with_prompts(self, dataset: Any) -> Any:
        return _with_prompts(dataset)

    @cached_property
    def row_tokenizer(self) -> RowTokenizer:
        args = self.args
        most = args.max_length
        kept = slice(-most, None) if most and args.truncation_mode == "keep_end" else slice(most)
        given = {} if self.chat_template is None else {"chat_template": self.chat_template}
        return SupervisedRowTokenizer(
            self._tokenizer,
            given | _template_arguments(args),
            assistant_only=args.assistant_only_loss,
            kept=kept,
        )

    def _prepare_dataset(self, dataset: Any, processing_class: Any, args: SFTConfig, *rest: Any) -> Any:
        given = _template_arguments(args)
        if given:
            dataset = with_template_arguments(dataset, given)
        return super()._prepare_dataset(dataset, processing_class, args, *rest)

    def _check_given(self, given: Mapping[str, Any], config: CurriculumConfig) -> None:
        super()._check_given(given, config)
        for name in ("packing", "padding_free"):
            if getattr(given.get("args"), name, False):
                raise ConfigurationError(
                    f"{name} joins rows into one sequence, so that a curriculum can neither choose a row nor learn "
                    f"from it. Set {name} to false."
                )
        if getattr(given.get("args"), "shuffle_dataset", False):
            raise ConfigurationError(
                "shuffle_dataset moves the rows away from the prompts the curriculum knows, which orders them itself. "
                "Set it to false."
            )

    def _init_curriculum(self, config: CurriculumConfig, rows: Dataset) -> None:
        self.add_callback(ObserveCallback(self))
        super()._init_curriculum(config, rows)
        self.accelerator.unwrap_model(self.model).register_forward_hook(self._keep_output)

    def get_train_dataloader(self) -> DataLoader:
        loader = super().get_train_dataloader()
        collate = self.data_collator

        def with_indices(rows: list[tuple[int, Any]]) -> dict[str, Any]:
            return {**collate([row for _, row in rows]), INDEX: torch.tensor([index for index, _ in rows])}

        return DataLoader(
            _Indexed(self._training_rows()),
            batch_sampler=loader.batch_sampler,
            collate_fn=with_indices,
            pin_memory=loader.pin_memory,
        )

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        loss = super().compute_loss(model, inputs, *args, **kwargs)
        if self._row_indices is not None:
            counted = self._output.label_mask.sum(dim=1)
            right = self._output.is_top1.sum(dim=1) / counted.clamp(min=1)
            self._outcomes += [
                Outcome(index=index, version=self.state.global_step, rewards=(share,))
                for index, share, tokens in zip(
                    self._row_indices.tolist(), right.tolist(), counted.tolist(), strict=True
                )
                if tokens
            ]
        return loss

    def _keep_output(self, module: Any, arguments: Any, output: Any) -> None:
        self._output = output


def _template_arguments(args: SFTConfig) -> dict[str, Any]:
    return getattr(args, "chat_template_kwargs", None) or {}


class _Indexed(torch.utils.data.Dataset):
    """Rows together with their position in the data set."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[int, Any]:
        return index, self.dataset[index]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[int, Any]]:
        return list(zip(indices, self.dataset.select(np.asarray(indices)).to_list(), strict=True))


def _with_prompts(dataset: Any) -> Any:
    """The data set with a column `prompt`, made from `messages` where it has these instead."""
    if not isinstance(dataset, Dataset) or "prompt" in dataset.column_names:
        return dataset
    if "messages" not in dataset.column_names:
        raise ConfigurationError(
            "Supervised fine-tuning with a curriculum needs columns prompt and completion, or messages: prompts are "
            f"what it scores. The data set has {dataset.column_names}."
        )
    for row, messages in enumerate(dataset["messages"]):
        if not messages or messages[-1].get("role") != "assistant":
            raise ConfigurationError(f"Row {row}, column 'messages': the last message must be the assistant's.")
    prompts = [messages[:-1] for messages in dataset["messages"]]
    completions = [messages[-1:] for messages in dataset["messages"]]
    return dataset.add_column("prompt", prompts).add_column("completion", completions).remove_columns("messages")
