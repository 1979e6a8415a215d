"""How much of what a model is evaluated on it was trained on."""

import os
from typing import Any

from datasets import Dataset

from ..config import DataConfig, EvaluateConfig
from ..data.load import iter_rows
from ..data.overlap import count_overlaps


def count_trained_on(evaluate: EvaluateConfig, data: DataConfig, rows: Dataset) -> dict[str, Any] | None:
    """Count the rows that are in `train_dataset_name` too; `None` where none is given.

    Returns:
        `dict[str, Any]`: `prompts`, `equal`, `near_equal`, and `text`, which says it in a sentence.

    Raises:
        ConfigurationError: The training set cannot be read.
    """
    if evaluate.train_dataset_name is None:
        return None
    same = evaluate.train_dataset_name == evaluate.dataset_name
    trained = iter_rows(
        evaluate.train_dataset_name,
        config_name=evaluate.dataset_config if same else None,
        split=evaluate.dataset_train_split,
        seed=evaluate.seed,
        **vars(data) | {"skipped_rows_file": os.devnull},  # the list is that of the evaluated rows
    )
    found = count_overlaps(rows["prompt"], (row["prompt"] for row in trained))
    return found.report("prompts", evaluate.train_dataset_name)
