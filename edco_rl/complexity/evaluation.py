"""What the untrained student and each method's model are worth: answers to the held-out rows, in each form."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

from ..data.prompts import with_instruction
from ..engine.protocol import Sampling
from ..runs.grading import grade_answers
from ..statistics import wilson_interval
from ..store import Artefact
from .stage import StageInParts

# by_class: after reasoning where a question is as complex as the hard class, direct where it is not
FORMS = ("direct", "reasoning", "by_class")


@dataclass
class Evaluation(StageInParts):
    """Graded greedy answers of a model to the held-out rows, direct and, where the prompt asks for it, with reasoning.

    The table has `id`, `form`, `right` (null where the reward says nothing), `tokens` and `truncated`.

    Args:
        method (`str`):
            The method that trained it, or `untrained`.
        model (`Artefact`, *optional*), folder (`Path`, *optional*):
            What stands for the trained model, and where it is.
    """

    method: str
    model: Artefact | None
    folder: Path | None

    columns = ("id", "form", "right", "tokens", "truncated")
    line_a_row = False

    @property
    def name(self) -> str:
        return f"evaluation/{self.method}"

    @property
    def rows(self) -> Dataset:
        return self.given.held_out

    def made_from(self) -> dict[str, Any]:
        return {
            "model": self.model and self.model.fingerprint,
            **self.given.answers_to(self.given.held_out_digest),
            **self.given.some("reasoning_instruction", "answer_max_tokens", "reasoning_max_tokens"),
        }

    def make_part(self, rows: Dataset) -> pa.Table:
        config = self.given.config
        prompts = [with_instruction(prompt, config.reasoning_instruction) for prompt in rows["prompt"]]
        asking = rows.remove_columns("prompt").add_column("prompt", prompts)
        direct = self._answers("direct", rows, config.answer_max_tokens)
        return pa.concat_tables([direct, self._answers("reasoning", asking, config.reasoning_max_tokens)])

    def _answers(self, form: str, rows: Dataset, max_tokens: int) -> pa.Table:
        graded = grade_answers(
            self.given.student.serving(self.folder),
            self.given.student.tokenizer,
            rows,
            self.given.judge.reward,
            sampling=Sampling(max_tokens, temperature=0.0),
        )
        right = [None if np.isnan(value) else bool(value) for value in graded.right[:, 0]]
        return pa.table(
            {
                "id": rows["id"],
                "form": [form] * len(rows),
                "right": pa.array(right, pa.bool_()),
                "tokens": graded.tokens[:, 0],
                "truncated": graded.truncated[:, 0],
            }
        )


def accuracies(answers: pa.Table, hard: Sequence[str]) -> dict[str, Any]:
    """Accuracy with its 95 % Wilson interval, tokens an answer and share of answers cut off, for each form.

    Args:
        answers (`pyarrow.Table`):
            Of [`Evaluation`].
        hard (`Sequence[str]`):
            Ids of the rows that are answered after reasoning in the form `by_class`.
    """
    is_hard = pc.is_in(answers["id"], pa.array(hard, pa.string()))
    reasons = pc.equal(answers["form"], "reasoning")
    chosen = {"direct": pc.invert(reasons), "reasoning": reasons, "by_class": pc.equal(reasons, is_hard)}
    return {form: _accuracy(answers.filter(chosen[form])) for form in FORMS}


def _accuracy(answers: pa.Table) -> dict[str, Any]:
    right = [value for value in answers["right"].to_pylist() if value is not None]
    return {
        "prompts": len(right),
        "accuracy": float(np.mean(right)) if right else None,
        "interval": wilson_interval(sum(right), len(right)) if right else None,
        "tokens": float(np.mean(answers["tokens"])),
        "truncated": float(np.mean(answers["truncated"])),
    }
