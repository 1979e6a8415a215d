"""Complexity of each question, and whether the student answers it right."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset

from ..config import ComplexityConfig, EstimatorConfig
from ..config.complexity import ANSWER_ESTIMATORS
from ..data.choices import labels_of
from ..data.prompts import with_instruction
from ..data.tokens import RowTokenizer, name_row
from ..engine.protocol import GenerationBackend, Sampling
from ..errors import ConfigurationError
from ..runs.grading import grade_answers
from ..scoring import EncodedRows, RowScorer
from ..scoring.labels import LabelTokens
from .judge import Judge
from .stage import StageInParts

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("subject", pa.string()),
        ("score", pa.float64()),
        ("lower", pa.float64()),
        ("upper", pa.float64()),
        ("predicted", pa.string()),
        ("right", pa.bool_()),
        ("status", pa.string()),
        ("label_probability", pa.float64()),
        ("tokens", pa.int64()),
    ]
)
# What became of a question. One that is not answered says nothing of complexity.
ANSWERED, INVALID, UNKNOWN = "answered", "invalid", "unknown"


def answers_of(row: dict[str, Any]) -> Sequence[str]:
    """The answers a row could have: its options' labels, or its right answer alone."""
    return labels_of(row) if row.get("options") else [row["answer"]]


def check_single_token_answers(rows: Dataset, tokenizer: Any) -> None:
    """Check that every answer of every row is a single token of the tokenizer.

    Raises:
        ConfigurationError: One is not: it names row, answer and its tokens, and what to do.
    """
    single, checked = LabelTokens(tokenizer), set[str]()
    for row in rows:
        for answer in answers_of(row):
            if answer in checked:
                continue
            checked.add(answer)
            try:
                single(answer)
            except ConfigurationError:
                pieces = tokenizer.convert_ids_to_tokens(tokenizer(answer, add_special_tokens=False)["input_ids"])
                raise ConfigurationError(
                    f"The entropy of one token is asked for, but for {type(tokenizer).__name__} "
                    f"({tokenizer.name_or_path}) the answer {answer!r} of row {row['id']!r} is {len(pieces)} tokens: "
                    f"{pieces}. Set estimator to prefix_entropy, and scoring_prefix_tokens to {len(pieces)} or more, "
                    "to take the mean over the answer's tokens."
                ) from None


class ComplexityScorer:
    """Scores rows, and finds out which the student answers right.

    Where answers are single tokens, the student's answer is what `answer_from` says: the option label of largest
    probability as the first token, `label_probability` being the probability of all labels together; or the greedy
    first token, and a row whose is no label of its options has the status `invalid`, or `unknown` where it is
    `answer_unknown`. Otherwise, and without options, it is its greedy answer.

    Args:
        tokenizer ([`~edco_rl.data.tokens.RowTokenizer`]):
            Makes token ids of rows for the student.
        config (`ComplexityConfig`):
            Estimator and instruction.
        vocabulary_size (`int`):
            Width of the student's output distribution.
        judge (`Judge`):
            Says what is right, where answers are generated.
    """

    def __init__(self, tokenizer: RowTokenizer, config: ComplexityConfig, vocabulary_size: int, judge: Judge) -> None:
        self.tokenizer = tokenizer
        self.config = config
        self.judge = judge
        self._scorer = RowScorer(tokenizer, config, vocabulary_size=vocabulary_size)
        self._labels = RowScorer(tokenizer, config, estimator="option_entropy", vocabulary_size=vocabulary_size)

    def check(self, rows: Dataset) -> None:
        """Raise [`ConfigurationError`] for rows the estimator cannot score."""
        self._scorer.check_columns(rows.column_names)
        if self.config.answer_from == "first_token":
            if self.config.estimator not in ANSWER_ESTIMATORS or "options" not in rows.column_names:
                raise ConfigurationError(
                    "answer_from first_token is for multiple choice with an answer of one token: set estimator to "
                    f"{' or '.join(ANSWER_ESTIMATORS)}; the columns are {rows.column_names}."
                )
        elif self.config.estimator in ANSWER_ESTIMATORS:
            check_single_token_answers(rows, self.tokenizer.tokenizer)

    def score(self, rows: Dataset, backend: GenerationBackend) -> pa.Table:
        """A table of `SCHEMA` over rows."""
        plain = rows.to_list()
        encoded = self._scorer.encode(plain)
        self._scorer.check_fit(encoded, backend.max_model_len(), lambda number: name_row(plain[number]))
        scores = self._scorer.score(encoded, backend)
        if self.config.answer_from == "first_token":
            answers = self._first_token(plain, encoded, backend)
        elif self.config.estimator in ANSWER_ESTIMATORS and "options" in rows.column_names:
            answers = self._choose(plain, backend)
        else:
            answers = self._answer(rows, backend)
        columns = {
            "id": rows["id"],
            "subject": rows["subject"] if "subject" in rows.column_names else [""] * len(rows),
            "score": [score.value for score in scores],
            "lower": [score.lower for score in scores],
            "upper": [score.upper for score in scores],
            "tokens": [score.tokens for score in scores],
            **answers,
        }
        return pa.table({name: columns.get(name, [None] * len(rows)) for name in SCHEMA.names}, schema=SCHEMA)

    def _first_token(
        self, rows: list[dict[str, Any]], encoded: EncodedRows, backend: GenerationBackend
    ) -> dict[str, list[Any]]:
        completions = backend.generate(encoded.prompts, Sampling(1, temperature=0.0))
        ids = [completion.token_ids for [completion] in completions]
        predicted = [text.strip() for text in self.tokenizer.tokenizer.batch_decode(ids)]
        status = [self._status(answer, row) for answer, row in zip(predicted, rows, strict=True)]
        right = [
            answer == row["answer"] if state == ANSWERED else None
            for answer, row, state in zip(predicted, rows, status, strict=True)
        ]
        return {"predicted": predicted, "right": right, "status": status}

    def _status(self, answer: str, row: dict[str, Any]) -> str:
        if answer == self.config.answer_unknown:
            return UNKNOWN
        return ANSWERED if answer in labels_of(row) else INVALID

    def _choose(self, rows: list[dict[str, Any]], backend: GenerationBackend) -> dict[str, list[Any]]:
        groups = self._labels.label_logprobs(self._labels.encode(rows), backend)
        logprobs = [group[0].top_logprobs[0] for group in groups]
        predicted = [labels_of(row)[int(np.argmax(values))] for row, values in zip(rows, logprobs, strict=True)]
        return {
            "predicted": predicted,
            "right": [label == row["answer"] for label, row in zip(predicted, rows, strict=True)],
            "label_probability": [float(np.exp(values).sum()) for values in logprobs],
            "status": [ANSWERED] * len(rows),
        }

    def _answer(self, rows: Dataset, backend: GenerationBackend) -> dict[str, list[Any]]:
        instruction = self.config.scoring_quick_answer_instruction
        prompts = [with_instruction(prompt, instruction) for prompt in rows["prompt"]]
        graded = grade_answers(
            backend,
            self.tokenizer,
            rows.remove_columns("prompt").add_column("prompt", prompts) if self.config.scoring_quick_answer else rows,
            self.judge.reward,
            sampling=Sampling(self.config.answer_max_tokens, temperature=0.0),
        )
        right = [None if np.isnan(value) else bool(value) for value in graded.right[:, 0]]
        return {"right": right, "status": [ANSWERED] * len(rows)}


@dataclass
class Scores(StageInParts):
    """Complexity of each training row under the student, and whether its answer is right.

    Args:
        scorer (`ComplexityScorer`):
            Scores them.
    """

    scorer: ComplexityScorer

    name = "scores"
    columns = SCHEMA.names

    @property
    def digest(self) -> str:
        """What stands for the content of the rows."""
        return self.given.train_digest

    def made_from(self) -> dict[str, Any]:
        return {
            **self.given.answers_to(self.digest),
            **self.given.some(*(field.name for field in fields(EstimatorConfig))),
            **self.given.some("answer_max_tokens", "answer_from", "answer_unknown"),
        }

    def make_part(self, rows: Dataset) -> pa.Table:
        return self.scorer.score(rows, self.given.student.serving())


class HeldOutScores(Scores):
    """The same of the held-out rows: which of them are as complex as the hard class."""

    name = "held_out_scores"

    @property
    def rows(self) -> Dataset:
        return self.given.held_out

    @property
    def digest(self) -> str:
        return self.given.held_out_digest
