"""Chains of thought for rows, from a teacher or a column; every row ends as right, wrong, failed or pending."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset

from ..config import ComplexityConfig
from ..data.prompts import Prompt, with_instruction
from ..errors import ConfigurationError
from ..rewards import RewardFunction
from ..store import Artefact, rows_fingerprint
from .baselines import rows_for_teacher
from .budget import price_of
from .connection import TeacherConnection
from .replies import Messages, Reply
from .split import read_split
from .stage import StageAtOnce
from .teacher import Asked, Teacher, TeacherError, asking_bar

STATUSES = ("right", "wrong", "failed", "pending")

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("status", pa.string()),
        ("problem", pa.string()),
        ("text", pa.string()),
        ("prompt_tokens", pa.int64()),
        ("answer_tokens", pa.int64()),
    ]
)


@dataclass(frozen=True)
class Chain:
    """A row's chain of thought, and what is to be said about it.

    Args:
        id (`str`):
            The row's.
        status (`str`):
            `"right"`: its final answer is the row's. `"wrong"`: it is another, or none. `"failed"`: the teacher was
            asked and gave none. `"pending"`: it was not asked.
        problem (`str`):
            Why it is not right; empty where it is.
        text (`str`):
            Reasoning and answer.
        prompt_tokens (`int`), answer_tokens (`int`):
            Tokens the teacher read and wrote.
    """

    id: str
    status: str
    problem: str
    text: str
    prompt_tokens: int
    answer_tokens: int


def to_table(chains: Sequence[Chain]) -> pa.Table:
    """Chains as a table, one a row."""
    return pa.Table.from_pylist([vars(chain) for chain in chains], schema=SCHEMA)


def read_chains(path: Path) -> list[Chain]:
    """Chains of a file that [`to_table`] describes."""
    return [Chain(**row) for row in pq.read_table(path, columns=SCHEMA.names).to_pylist()]


def count(chains: Sequence[Chain]) -> dict[str, int]:
    """Rows of each status."""
    found = Counter(chain.status for chain in chains)
    return {status: found[status] for status in STATUSES}


def account(chains: Sequence[Chain], config: ComplexityConfig) -> dict[str, Any]:
    """What chains cost: `rows` of each status, `prompt_tokens`, `answer_tokens` and their `price`."""
    prompt, answer = (sum(getattr(chain, name) for chain in chains) for name in ("prompt_tokens", "answer_tokens"))
    price = price_of(config, prompt, answer)
    return {"rows": count(chains), "prompt_tokens": prompt, "answer_tokens": answer, "price": price}


def named(counts: Mapping[str, int]) -> str:
    """Counts in words, as in "3 are right, 1 is wrong"."""
    return ", ".join(f"{number} {'is' if number == 1 else 'are'} {status}" for status, number in counts.items())


def chains_of_column(
    rows: Dataset, config: ComplexityConfig, reward: RewardFunction, count_tokens: Callable[[str], int]
) -> list[Chain]:
    """Chains of thought that the data set has in a column.

    Args:
        rows (`datasets.Dataset`):
            Rows with `id`, `prompt`, `answer` and the column.
        config (`ComplexityConfig`):
            Settings of the teacher.
        reward (`RewardFunction`):
            A reward of 1 is a right answer.
        count_tokens (`Callable[[str], int]`):
            Tokens of a text: those of the teacher are not known.

    Raises:
        ConfigurationError: There is no such column.
    """
    if config.teacher_column not in rows.column_names:
        raise ConfigurationError(
            f"teacher_column {config.teacher_column!r} is none of the data set's: {', '.join(rows.column_names)}. "
            "column_mapping renames."
        )
    texts = [(text or "").strip() for text in rows[config.teacher_column]]
    if config.teacher_column_states_answer:
        right = _right(rows, texts, reward)
    else:
        right = [True] * len(rows)
        lines = [config.teacher_column_answer_line.format(answer=answer) for answer in rows["answer"]]
        texts = [text and f"{text}\n{line}" for text, line in zip(texts, lines, strict=True)]
    return [
        Chain(identifier, "failed", "the column is empty", "", 0, 0)
        if not text
        else Chain(identifier, *_judged(good), text, 0, count_tokens(text))
        for identifier, text, good in zip(rows["id"], texts, right, strict=True)
    ]


def chains_of_teacher(
    rows: Dataset,
    teacher: Teacher,
    config: ComplexityConfig,
    reward: RewardFunction,
    report: Callable[[int], Any] = lambda done: None,
) -> tuple[list[Chain], Asked]:
    """Chains of thought from a teacher. Rows with the same prompt are asked about once.

    Args:
        rows (`datasets.Dataset`):
            Rows with `id`, `prompt` and the columns the reward needs.
        teacher (`Teacher`):
            Answers.
        config (`ComplexityConfig`):
            The instruction that asks for reasoning.
        reward (`RewardFunction`):
            A reward of 1 is a right answer.
        report (`Callable`, *optional*):
            Called with the number of questions that are done.

    Returns:
        `tuple[list[Chain], Asked]`: a chain a row, in their order, and what came of asking.
    """
    messages = [to_messages(with_instruction(prompt, config.reasoning_instruction)) for prompt in rows["prompt"]]
    keys = [teacher.key(question) for question in messages]
    asked = teacher.ask(dict(zip(keys, messages, strict=True)), report)
    replies = [asked.replies.get(key) for key in keys]
    right = _right(rows, [reply.text if reply else "" for reply in replies], reward)
    chains = [
        _chain(identifier, key, reply, good, asked)
        for identifier, key, reply, good in zip(rows["id"], keys, replies, right, strict=True)
    ]
    return chains, asked


def to_messages(prompt: Prompt) -> Messages:
    """A prompt as a chat; plain text is a message of the user."""
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt


def _chain(identifier: str, key: str, reply: Reply | None, right: bool, asked: Asked) -> Chain:
    if reply is None:
        status = "failed" if key in asked.failed else "pending"
        return Chain(identifier, status, asked.failed.get(key, asked.stopped or ""), "", 0, 0)
    tokens = reply.prompt_tokens, reply.answer_tokens
    if not reply.text:
        return Chain(identifier, "failed", f"an empty answer (finish reason {reply.finish_reason})", "", *tokens)
    text = f"{reply.reasoning}\n\n{reply.text}" if reply.reasoning else reply.text
    if reply.finish_reason == "length":
        return Chain(identifier, "wrong", "cut off by the token limit", text, *tokens)
    return Chain(identifier, *_judged(right), text, *tokens)


def _judged(right: bool) -> tuple[str, str]:
    return ("right", "") if right else ("wrong", "its final answer is not the row's")


def _right(rows: Dataset, texts: Sequence[str], reward: RewardFunction) -> list[bool]:
    columns = {name: rows[name] for name in rows.column_names if name not in ("prompt", "completion")}
    prompts = rows["prompt"]
    completions = [
        text if isinstance(prompt, str) else [{"role": "assistant", "content": text}]
        for prompt, text in zip(prompts, texts, strict=True)
    ]
    rewards = reward(prompts=prompts, completions=completions, completion_ids=None, **columns)
    return [value is not None and value >= 1.0 for value in rewards]


@dataclass
class Reasoning(StageAtOnce):
    """The chains of thought a method wants, each right, wrong, failed or pending.

    Args:
        method (`str`):
            The method.
        split (`Artefact`):
            Of the stage of that name.
        teacher (`TeacherConnection`):
            The teacher, where it is no column.
    """

    method: str
    split: Artefact
    teacher: TeacherConnection

    columns = SCHEMA.names

    @property
    def name(self) -> str:
        return f"reasoning/{self.method}"

    @cached_property
    def rows(self) -> Dataset:
        """The rows it wants them for."""
        _, classes = read_split(self.split.path, self.given.config)
        return self.given.train.select(rows_for_teacher(self.method, classes, self.given.seed))

    def made_from(self) -> dict[str, Any]:
        return {
            "rows": rows_fingerprint(self.rows),
            **self.teacher.made_from(),
            "judge": asdict(self.given.judge),
            **self.given.some("reasoning_if_pending", "reasoning_instruction"),
        }

    def make(self) -> tuple[pa.Table, Any]:
        config, reward = self.given.config, self.given.judge.reward
        if config.teacher == "column":
            tokenizer = self.given.student.tokenizer.tokenizer
            chains = chains_of_column(self.rows, config, reward, lambda text: len(tokenizer(text)["input_ids"]))
            return to_table(chains), None
        with asking_bar(f"Asking the teacher for {self.method}", len(self.rows)) as report:
            chains, asked = chains_of_teacher(self.rows, self.teacher.open(), config, reward, report)
        counts = count(chains)
        if counts["pending"] and (asked.refused or config.reasoning_if_pending == "stop"):
            raise TeacherError(
                f"{self.method}: {asked.stopped}. Of {len(self.rows)} rows {named(counts)}. Answers are kept: the "
                "same command goes on with the failed and pending ones, after teacher_token_budget or "
                "teacher_price_budget was raised, or the teacher answers again. reasoning_if_pending answer or drop "
                "trains without them."
            )
        return to_table(chains), None

    def outcome(self, path: Path) -> str:
        """What became of the rows, in a file of this stage."""
        counts = count(read_chains(path))
        text = f"{self.method}: of {len(self.rows)} chains of thought {named(counts)}"
        if counts["failed"] and self.given.config.teacher != "column":
            text += f"\nWithout {path}, the same command asks for the failed ones again."
        return text
