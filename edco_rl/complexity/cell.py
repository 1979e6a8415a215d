"""Complexity-aware fine-tuning as one run with a curriculum, to be compared with other methods' runs."""

from collections import Counter
from dataclasses import dataclass, field, fields
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
from datasets import Dataset
from rich.console import Console
from trl import SFTConfig

from ..config import ComplexityConfig
from ..config.checks import as_dict
from ..errors import ConfigurationError
from ..runs.methods_tmp import fine_tune
from ..runs.provenance import versions
from ..runs.settings import RunSettings, prepare
from ..runs.train import Spent
from .methods import METHOD
from .pipeline import Pipeline
from .reasoning import account, read_chains
from .train import check_lengths

# Fields of other stages: here the curriculum orders the rows, and the run is one method's.
_ELSEWHERE = ("training_order", "baselines", "last_stage", "answer_tokens", "reasoning_tokens")


@dataclass
class ComplexityAwareConfig(SFTConfig):
    """TRL's settings of supervised fine-tuning, and those of complexity-aware fine-tuning under one name.

    Args:
        complexity (`dict[str, Any]`, *optional*):
            Fields of [`~edco_rl.config.ComplexityConfig`].
    """

    complexity: dict[str, Any] | str | None = field(
        default=None,
        metadata={"help": "Fields of `edco-rl train complexity-aware`, by name, as {teacher_column: explanation}."},
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.complexity = as_dict("complexity", self.complexity)
        allowed = {one.name for one in fields(ComplexityConfig)} - set(_ELSEWHERE)
        unknown = sorted(set(self.complexity or {}) - allowed)
        if unknown:
            raise ConfigurationError(
                f"complexity has no field {unknown[0]!r}; choose from {', '.join(sorted(allowed))}."
            )
        self.complexity_config()

    def complexity_config(self) -> ComplexityConfig:
        """The settings under `complexity`, with defaults."""
        assert not isinstance(self.complexity, str)
        return ComplexityConfig(**(self.complexity or {}))


def run_complexity_cell(settings: RunSettings) -> dict[str, Any]:
    """Score and split the questions, get chains of thought for the hard ones, and fine-tune on the rows they make.

    The curriculum orders these rows; `stage` (the class) and `complexity` are columns of them. Tokens and seconds of
    scoring and teacher count as the run's. As [`~edco_rl.runs.methods_tmp.run_supervised`] otherwise.

    Returns:
        `dict[str, Any]`: what `summary.json` holds.

    Raises:
        ConfigurationError: A setting or row to be changed.
        TeacherError: The teacher refuses, or rows are pending.
    """
    training = settings.training
    train, held_out, described = prepare(settings)
    if held_out is None:
        raise ConfigurationError("held_out_prompts is 0: complexity-aware is measured on held-out prompts.")
    config = training.complexity_config()
    pipeline = Pipeline(
        train, held_out, training, settings.model, config, settings.engine, versions(), Console(stderr=True)
    )
    with pipeline as stages:
        scores = stages.scores()
        split = stages.split(scores)
        chains = stages.reasoning(METHOD, split)
        rows = stages.training_data(METHOD, split, chains)
        dataset = Dataset.from_list(pq.read_table(rows.file).to_pylist())
        check_lengths(METHOD, dataset, stages.tokenizer, training.max_length)
    paid = account(read_chains(chains.file), config)
    tokens = Counter(teacher=paid["prompt_tokens"] + paid["answer_tokens"])
    tokens["scored"] = pc.sum(pq.read_table(scores.file)["tokens"]).as_py()
    parts = {"scoring": scores.seconds + split.seconds + rows.seconds, "teacher": chains.seconds}
    return fine_tune(settings, dataset, held_out, described, Spent(tokens, parts))
