"""Supervised fine-tuning of one method, and what its model is worth."""

import copy
import dataclasses
import gc
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset
from trl import ModelConfig, SFTConfig, get_peft_config, get_quantization_config

from ..config import ComplexityConfig, CurriculumConfig
from ..data.prompts import with_instruction
from ..engine.protocol import GenerationBackend, Sampling
from ..errors import ConfigurationError
from ..rewards import RewardFunction
from ..runs.grading import grade_answers
from ..runs.settings import set_model_arguments
from ..statistics import wilson_interval
from ..trainers import CurriculumSFTTrainer
from ..trainers.mixin import CURRICULUM_FILE
from .methods import longest, order

FORMS = ("direct", "reasoning")
# Where things go and what is told of them: none of it changes the weights.
_WITHOUT_EFFECT = (
    "output_dir",
    "run_name",
    "report_to",
    "disable_tqdm",
    "resume_from_checkpoint",
    "hub_token",
    "save_strategy",
    "save_steps",
    "save_total_limit",
)


def describe_training(training: SFTConfig, model: ModelConfig) -> dict[str, Any]:
    """The settings a trained model depends on, as plain values."""
    settings = {
        name: value
        for name, value in training.to_dict().items()
        if name not in _WITHOUT_EFFECT and not name.startswith(("logging_", "push_to_hub", "hub_"))
    }
    return {"training": settings, "model": dataclasses.asdict(model)}


def train_method(
    method: str,
    rows: Dataset,
    folder: Path,
    tokenizer: Any,
    training: SFTConfig,
    model: ModelConfig,
    config: ComplexityConfig,
) -> dict[str, Any]:
    """Fine-tune the student on a method's rows, from its last checkpoint where there is one.

    Args:
        method (`str`):
            Name of the method.
        rows (`datasets.Dataset`):
            As of [`~edco_rl.complexity.methods.training_rows`].
        folder (`Path`):
            Where the model goes.
        tokenizer (`PreTrainedTokenizerBase`):
            The student's.
        training (`SFTConfig`), model (`ModelConfig`):
            TRL's settings; they are not changed.
        config (`ComplexityConfig`):
            Settings.

    Returns:
        `dict[str, Any]`: `steps`, `tokens` (of prompts and completions, padding left out) and `seconds`, since a
        checkpoint where it was continued from one.

    Raises:
        ConfigurationError: A row is longer than `max_length`, so that its answer would be cut off.
    """
    check_lengths(method, rows, tokenizer, training.max_length)
    training, model = copy.deepcopy(training), copy.deepcopy(model)
    training.output_dir = str(folder)
    training.include_num_input_tokens_seen = "non_padding"  # kept over checkpoints, which TRL's own count is not
    set_model_arguments(training, model)
    trainer = CurriculumSFTTrainer(
        model.model_name_or_path,
        training,
        train_dataset=rows,
        quantization_config=get_quantization_config(model),
        peft_config=get_peft_config(model),
        curriculum=CurriculumConfig(**order(method, config)),
        engine=None,
    )
    started = time.perf_counter()
    trainer.train(resume_from_checkpoint=_last_checkpoint(folder))
    seconds = time.perf_counter() - started
    trainer.save_model(str(folder))
    trainer.save_state()
    steps = trainer.state.global_step
    tokens = int(trainer.state.num_input_tokens_seen)
    trainer.close()
    del trainer
    gc.collect()
    return {"steps": steps, "tokens": tokens, "seconds": seconds}


def check_lengths(method: str, rows: Dataset, tokenizer: Any, max_length: int | None) -> None:
    """Raise [`ConfigurationError`] when `max_length` tokens would cut off the answer of a row."""
    length, identifier = longest(rows, tokenizer)
    if max_length is not None and length > max_length:
        raise ConfigurationError(
            f"{method}: row {identifier!r} has {length} tokens, and max_length {max_length} would cut off its answer. "
            "Raise max_length; what was made so far is kept."
        )


def _last_checkpoint(folder: Path) -> str | None:
    """The last checkpoint that was written whole: the curriculum's state is the last file of one."""
    whole = [path.parent for path in folder.glob(f"checkpoint-*/{CURRICULUM_FILE}")]
    return str(max(whole, key=lambda path: int(path.name.rpartition("-")[2]))) if whole else None


def evaluate(
    rows: Dataset,
    form: str,
    backend: GenerationBackend,
    tokenizer: Any,
    config: ComplexityConfig,
    reward: RewardFunction,
) -> pa.Table:
    """Greedy answers to held-out rows, graded.

    Args:
        rows (`datasets.Dataset`):
            The rows.
        form (`str`):
            `"direct"`, or `"reasoning"`: the prompt then asks for it.
        backend (`GenerationBackend`), tokenizer (`PreTrainedTokenizerBase`):
            What answers, and its tokenizer.
        config (`ComplexityConfig`):
            The instruction, and the token limits.
        reward (`RewardFunction`):
            A reward of 1 is a right answer.

    Returns:
        `pyarrow.Table`: `id`, `form`, `right` (null where the reward says nothing), `tokens` and `truncated`.
    """
    if form == "reasoning":
        prompts = [with_instruction(prompt, config.reasoning_instruction) for prompt in rows["prompt"]]
        rows = rows.remove_columns("prompt").add_column("prompt", prompts)
    graded = grade_answers(
        backend,
        tokenizer,
        rows,
        reward,
        sampling=Sampling(config.answer_tokens if form == "direct" else config.reasoning_tokens, temperature=0.0),
        chat_template_kwargs=config.chat_template_kwargs,  # type: ignore[arg-type]
    )
    right = graded.right[:, 0]
    return pa.table(
        {
            "id": rows["id"],
            "form": [form] * len(rows),
            "right": pa.array([None if np.isnan(value) else bool(value) for value in right], pa.bool_()),
            "tokens": graded.tokens[:, 0],
            "truncated": graded.truncated[:, 0],
        }
    )


def accuracies(answers: pa.Table) -> dict[str, Any]:
    """Accuracy with its 95 % Wilson interval, tokens an answer and share of answers cut off, for each form."""
    found = {}
    for form in FORMS:
        chosen = answers.filter(pc.equal(answers["form"], form))
        right = [value for value in chosen["right"].to_pylist() if value is not None]
        found[form] = {
            "prompts": len(right),
            "accuracy": float(np.mean(right)) if right else None,
            "interval": wilson_interval(sum(right), len(right)) if right else None,
            "tokens": float(np.mean(chosen["tokens"])),
            "truncated": float(np.mean(chosen["truncated"])),
        }
    return found
