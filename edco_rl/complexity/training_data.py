"""What each method is trained on: plain answers, and chains of thought."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset
from numpy.typing import NDArray

from ..config import ComplexityConfig
from ..data.prompts import make_completion, with_instruction
from ..data.tokens import SupervisedRowTokenizer
from ..errors import ConfigurationError
from ..store import Artefact
from .reasoning import Chain, read_chains
from .split import LEFT_OUT, random_split, read_split
from .stage import StageAtOnce


def training_rows(
    method: str,
    rows: Dataset,
    scores: NDArray[np.float64],
    classes: NDArray[np.int64],
    chains: Mapping[str, Chain],
    config: ComplexityConfig,
    seed: int,
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """What a method trains on.

    Args:
        method (`str`):
            Name of the method.
        rows (`datasets.Dataset`):
            All rows, with `id`, `prompt` and `completion` (the plain answer).
        scores (`NDArray[np.float64]`), classes (`NDArray[np.int64]`):
            Their complexity and class; rows without a class are left out.
        chains (`Mapping[str, Chain]`):
            Chains of thought by row id, for the rows that were to have one.
        config (`ComplexityConfig`):
            Which chains are usable, what becomes of rows without one, and the form of prompts.
        seed (`int`):
            Seed of the random split.

    Returns:
        `tuple[list[dict], dict[str, int]]`: rows with `id`, `prompt`, `completion`, `reasoning` (whether the
        completion is a chain of thought), `phase` (1 where it is, else 0), `complexity` and `stage` (the class, of the
        random split its own); and how many rows are trained with `reasoning`, on a plain `answer`, on a plain answer
        `instead` of reasoning, are `dropped` for want of a chain, and `left_out` by the split.
    """
    stages = random_split(classes, seed) if method == "random_split" else classes
    counts = {"reasoning": 0, "answer": 0, "instead": 0, "dropped": 0, "left_out": 0}
    usable = ("right",) if config.reasoning_filter == "right" else ("right", "wrong")
    made = []
    for row, score, stage in zip(rows, scores.tolist(), stages.tolist(), strict=True):
        if stage == LEFT_OUT:
            counts["left_out"] += 1
            continue
        chain = chains.get(row["id"])
        reasoning = chain is not None and chain.status in usable
        prompt, completion = row["prompt"], row["completion"]
        if chain is None:
            counts["answer"] += 1
        elif reasoning:
            counts["reasoning"] += 1
            prompt = with_instruction(prompt, config.reasoning_instruction)
            completion = make_completion(prompt, chain.text)
        elif (config.reasoning_if_pending if chain.status == "pending" else config.reasoning_if_unusable) == "drop":
            counts["dropped"] += 1
            continue
        else:
            counts["instead"] += 1
        new = {"id": row["id"], "prompt": prompt, "completion": completion}
        made.append(new | {"reasoning": reasoning, "phase": int(reasoning), "complexity": score, "stage": stage})
    return made, counts


def check_lengths(method: str, rows: Dataset, tokenizer: SupervisedRowTokenizer, max_length: int | None) -> None:
    """Raise [`ConfigurationError`] when `max_length` tokens would cut off the answer of a row."""
    length, identifier = longest(rows, tokenizer)
    if max_length is not None and length > max_length:
        raise ConfigurationError(
            f"{method}: row {identifier!r} has {length} tokens, and max_length {max_length} would cut off its answer. "
            "Raise max_length; what was made so far is kept."
        )


def longest(rows: Dataset, tokenizer: SupervisedRowTokenizer) -> tuple[int, str]:
    """Tokens of the longest row, prompt and completion together, and its id."""
    lengths = [len(row.prompt) + len(row.reference) for row in tokenizer.with_references(rows.to_list())]
    row = int(np.argmax(lengths))
    return lengths[row], rows[row]["id"]


@dataclass
class TrainingData(StageAtOnce):
    """What a method trains on, with the counts of [`training_rows`] beside it.

    Args:
        method (`str`):
            The method.
        split (`Artefact`), reasoning (`Artefact`, *optional*):
            Of the stages of these names.
    """

    method: str
    split: Artefact
    reasoning: Artefact | None

    columns = ("id", "prompt", "completion", "reasoning", "phase", "complexity", "stage")
    line_a_row = False

    @property
    def name(self) -> str:
        return f"training_data/{self.method}"

    def made_from(self) -> dict[str, Any]:
        return {
            "rows": self.given.train_digest,
            "split": self.split.fingerprint,
            "reasoning": self.reasoning and self.reasoning.fingerprint,
            "seed": self.given.seed,
            **self.given.some("reasoning_instruction", "reasoning_filter"),
            **self.given.some("reasoning_if_unusable", "reasoning_if_pending"),
        }

    def make(self) -> tuple[pa.Table, Any]:
        config = self.given.config
        chains = {} if self.reasoning is None else {chain.id: chain for chain in read_chains(self.reasoning.path)}
        split = read_split(self.split.path, config)
        made, counts = training_rows(self.method, self.rows, *split, chains, config, self.given.seed)
        if not made:
            raise ConfigurationError(f"{self.method}: none of {len(self.rows)} rows is left to train on ({counts}).")
        return pa.Table.from_pylist(made), counts


def read_rows(artefact: Artefact) -> Dataset:
    """The rows of [`TrainingData`]."""
    return Dataset.from_list(pq.read_table(artefact.path).to_pylist())
