"""How hard a question is to a judge: a model behind the teacher's connection that rates it on a scale."""

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from ..data.prompts import plain_text
from .connection import TeacherConnection
from .replies import Reply
from .stage import StageAtOnce
from .teacher import TeacherError, asking_bar

# Values of the levels, and what a judge is asked for, are those of the method's released code; the words are not.
SCALES = {
    "education_level": {"high_school": 0.2, "undergraduate": 0.4, "graduate": 0.6, "postgraduate": 0.8},
    "reasoning_steps": {"low": 0.25, "medium": 0.5, "high": 0.75},
}
_ASKED = {
    "education_level": "the education that answering it takes",
    "reasoning_steps": "the number of reasoning steps that answering it takes",
}
_LEVEL = re.compile(r"\[\[\s*([^\[\]]+?)\s*\]\]")


def instruction(scale: str) -> str:
    """The system message that asks for a rating."""
    return (
        f"You judge how hard a multiple-choice question is, by {_ASKED[scale]}. Do not answer the question. Explain "
        f"your judgement in a few words, then give one of these levels in double square brackets: "
        f"{', '.join(SCALES[scale])}. For example: [[{list(SCALES[scale])[1]}]]"
    )


def read_rating(text: str, scale: str) -> float | None:
    """The value of the level a judge gives last in double square brackets; `None` where that is none of the scale."""
    levels = _LEVEL.findall(text)
    return SCALES[scale].get(re.sub(r"[\s-]+", "_", levels[-1]).lower()) if levels else None


@dataclass
class Rating(StageAtOnce):
    """What a judge rates each training row, 0 to 1, null where it gives no level; rows of each value beside it.

    Args:
        scale (`str`):
            One of `SCALES`.
        teacher (`TeacherConnection`):
            The judge.
    """

    scale: str
    teacher: TeacherConnection

    columns = ("id", "rating")

    @property
    def name(self) -> str:
        return f"rivals/{self.scale}"

    def made_from(self) -> dict[str, Any]:
        return {
            "rows": self.given.train_digest,
            "instruction": instruction(self.scale),
            **self.teacher.made_from(),
        }

    def make(self) -> tuple[pa.Table, Any]:
        teacher, rows = self.teacher.open(), self.rows
        system = {"role": "system", "content": instruction(self.scale)}
        questions = [[system, {"role": "user", "content": plain_text(prompt)}] for prompt in rows["prompt"]]
        keys = [teacher.key(question) for question in questions]
        with asking_bar(f"Asking the teacher for {self.scale}", len(set(keys))) as report:
            asked = teacher.ask(dict(zip(keys, questions, strict=True)), report)
        if asked.pending:
            raise TeacherError(
                f"{self.name}: {asked.stopped}. Of {len(asked.replies) + len(asked.failed) + len(asked.pending)} "
                f"questions {len(asked.pending)} are pending. Answers are kept: the same command goes on with them."
            )
        ratings = [self._rating(asked.replies.get(key)) for key in keys]
        table = pa.table({"id": rows["id"], "rating": pa.array(ratings, pa.float64())})
        return table, {str(rating): count for rating, count in Counter(ratings).items()}

    def _rating(self, reply: Reply | None) -> float | None:
        return None if reply is None else read_rating(reply.text, self.scale)
