"""Complexity of each question, whether the student answers it right, and how well the one tells the other."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset

from ..config import ComplexityConfig, EstimatorConfig
from ..config.complexity import ANSWER_ESTIMATORS
from ..data.formats import LABELS
from ..data.prompts import with_instruction
from ..data.tokens import RowTokenizer
from ..engine.protocol import GenerationBackend, Sampling
from ..errors import ConfigurationError
from ..runs.grading import grade_answers
from ..scoring import RowScorer
from ..scoring.labels import LabelTokens
from ..statistics import roc_auc, with_interval
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
        ("label_probability", pa.float64()),
        ("tokens", pa.int64()),
    ]
)
# Subjects with fewer rows of either kind have no interval worth printing.
_LEAST_OF_A_KIND = 2


def answers_of(row: dict[str, Any]) -> Sequence[str]:
    """The answers a row could have: its options' labels, or its right answer alone."""
    options = row.get("options")
    return LABELS[: len(options)] if options else [row["answer"]]


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

    Where answers are single tokens, the student's answer is the option label of largest probability as the first
    token; `label_probability` is the probability of all labels together. Otherwise, and without options, it is its
    greedy answer.

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
        if self.config.estimator in ANSWER_ESTIMATORS:
            check_single_token_answers(rows, self.tokenizer.tokenizer)

    def score(self, rows: Dataset, backend: GenerationBackend) -> pa.Table:
        """A table of `SCHEMA` over rows."""
        plain = rows.to_list()
        scores = self._scorer.score(self._scorer.encode(plain), backend)
        if self.config.estimator in ANSWER_ESTIMATORS and "options" in rows.column_names:
            predicted, right, mass = self._choose(plain, backend)
        else:
            predicted, right, mass = self._answer(rows, backend)
        return pa.table(
            {
                "id": rows["id"],
                "subject": rows["subject"] if "subject" in rows.column_names else [""] * len(rows),
                "score": [score.value for score in scores],
                "lower": [score.lower for score in scores],
                "upper": [score.upper for score in scores],
                "predicted": predicted,
                "right": right,
                "label_probability": mass,
                "tokens": [score.tokens for score in scores],
            },
            schema=SCHEMA,
        )

    def _choose(
        self, rows: list[dict[str, Any]], backend: GenerationBackend
    ) -> tuple[list[Any], list[Any], list[Any]]:
        groups = self._labels.label_logprobs(self._labels.encode(rows), backend)
        logprobs = [group[0].top_logprobs[0] for group in groups]
        predicted = [LABELS[int(np.argmax(values))] for values in logprobs]
        right = [label == row["answer"] for label, row in zip(predicted, rows, strict=True)]
        return predicted, right, [float(np.exp(values).sum()) for values in logprobs]

    def _answer(self, rows: Dataset, backend: GenerationBackend) -> tuple[list[Any], list[Any], list[Any]]:
        instruction = self.config.scoring_quick_answer_instruction
        prompts = [with_instruction(prompt, instruction) for prompt in rows["prompt"]]
        graded = grade_answers(
            backend,
            self.tokenizer,
            rows.remove_columns("prompt").add_column("prompt", prompts) if self.config.scoring_quick_answer else rows,
            self.judge.reward,
            sampling=Sampling(self.config.answer_max_tokens, temperature=0.0),
        )
        nothing = [None] * len(rows)
        return nothing, [None if np.isnan(value) else bool(value) for value in graded.right[:, 0]], nothing


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

    def made_from(self) -> dict[str, Any]:
        return {
            "student": self.given.student.identity,
            "rows": self.given.train_digest,
            "judge": asdict(self.given.judge),
            **self.given.some(*(field.name for field in fields(EstimatorConfig))),
            **self.given.some("answer_max_tokens"),
        }

    def make_part(self, rows: Dataset) -> pa.Table:
        return self.scorer.score(rows, self.given.student.serving())


def prediction(scores: pa.Table, seed: int) -> dict[str, Any]:
    """How well complexity tells wrong answers from right ones.

    Args:
        scores (`pyarrow.Table`):
            As of [`ComplexityScorer.score`].
        seed (`int`):
            Seed of the bootstrap.

    Returns:
        `dict[str, Any]`: for all rows (`all`) and each subject, `rows`, `accuracy`, mean `score` in nats, and
        `wrong_answer_auc`, the area under the ROC curve with its 95 % bootstrap interval; and `label_probability`, the
        mean probability of an option label as the first token.
    """
    score = np.array(scores["score"].to_pylist(), dtype=np.float64)
    right = np.array([np.nan if value is None else value for value in scores["right"].to_pylist()], dtype=np.float64)
    subjects = np.array(scores["subject"].to_pylist(), dtype=object)
    mass = [value for value in scores["label_probability"].to_pylist() if value is not None]
    names = sorted({subject for subject in subjects if subject})
    chosen = {"all": np.ones(len(score), dtype=bool)} | {name: subjects == name for name in names}
    return {
        "label_probability": float(np.mean(mass)) if mass else None,
        "groups": {name: _predicted(score[rows], right[rows], seed) for name, rows in chosen.items()},
    }


def _predicted(score: Any, right: Any, seed: int) -> dict[str, Any]:
    known = np.isfinite(right)
    counts = int(right[known].sum()), int((1 - right[known]).sum())
    enough = min(counts) >= _LEAST_OF_A_KIND
    auc = with_interval(roc_auc, score, 1 - right, seed=seed) if enough else None
    return {
        "rows": int(known.sum()),
        "accuracy": float(right[known].mean()) if known.any() else None,
        "score": float(score.mean()),
        "wrong_answer_auc": None if auc is None else vars(auc),
    }
