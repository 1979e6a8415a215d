"""Scores a data set of any size: reads, encodes, asks the engine and writes, part after part."""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import pyarrow as pa

from ..data.tokens import Row
from ..engine.protocol import GenerationBackend
from ..entropy import Score
from ..errors import ConfigurationError
from ..store import Parts
from .row_scorer import EncodedRows, RowScorer

T = TypeVar("T")

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("score", pa.float64()),
        ("standard_error", pa.float64()),
        ("lower", pa.float64()),
        ("upper", pa.float64()),
        ("tokens", pa.int64()),
        ("policy_version", pa.string()),
    ]
)


@dataclass(frozen=True)
class Part:
    """Rows that are scored and written together."""

    number: int
    ids: list[str]
    encoded: EncodedRows

    @classmethod
    def of(cls, number: int, rows: Sequence[Row], scorer: RowScorer) -> Self:
        """A part of rows, encoded."""
        return cls(number, [str(row["id"]) for row in rows], scorer.encode(rows))

    def checked(self, scorer: RowScorer, most: int | None) -> EncodedRows:
        """Its rows, where none is longer than `most` tokens: see [`RowScorer.check_fit`]."""
        scorer.check_fit(self.encoded, most, lambda number: f"row {self.ids[number]!r}")
        return self.encoded


@dataclass(frozen=True)
class Progress:
    """What scoring a part has added.

    Args:
        prompts (`int`):
            Prompts.
        tokens (`int`):
            Tokens the engine was given and generated.
        resumed (`bool`):
            Whether an earlier run had done it.
    """

    prompts: int
    tokens: int
    resumed: bool = False


def score_rows(
    rows: Iterable[Row],
    scorer: RowScorer,
    backend: GenerationBackend,
    parts: Parts,
    *,
    policy_version: str,
    part_prompts: int,
    in_flight: int,
    report: Callable[[Progress], Any] = lambda progress: None,
) -> None:
    """Score rows into parts, after those an earlier run has done.

    While the engine works on a part, the next one is read and encoded. Memory holds `in_flight + 2` parts, however
    many rows there are.

    Args:
        rows (`Iterable[Mapping]`):
            Rows with `id`, `prompt` and what the estimator needs.
        scorer (`RowScorer`):
            Encodes and scores them.
        backend (`GenerationBackend`):
            Gives log-probabilities.
        parts (`Parts`):
            Takes tables of `SCHEMA`; it has been entered.
        policy_version (`str`):
            Version of the weights the backend serves.
        part_prompts (`int`):
            Rows in a part.
        in_flight (`int`):
            Parts the engine is asked for at a time: 1 asks from this thread, as an engine in this process wants.
        report (`Callable`, *optional*):
            Called after each part.

    Raises:
        ConfigurationError: A row is invalid or too long, or those done before are not the first of these.
    """
    rows = iter(rows)
    done = skip_done(rows, parts, report)

    def write(part: Part, scores: list[Score]) -> None:
        table, progress = finished(part, scores, scorer, policy_version)
        parts.write(part.number, table)
        report(progress)

    most = backend.max_model_len()

    coming = _prefetch(_encoded_parts(rows, scorer, done, part_prompts))
    if in_flight == 1:
        for part in coming:
            write(part, scorer.score(part.checked(scorer, most), backend))
        return
    waiting: deque[tuple[Part, Future[list[Score]]]] = deque()
    with ThreadPoolExecutor(in_flight) as pool:
        for part in coming:
            waiting.append((part, pool.submit(scorer.score, part.checked(scorer, most), backend)))
            if len(waiting) == in_flight:
                first, scores = waiting.popleft()
                write(first, scores.result())
        for part, scores in waiting:
            write(part, scores.result())


def skip_done(rows: Iterator[Row], parts: Parts, report: Callable[[Progress], Any]) -> int:
    """Pass over the rows of the parts an earlier run has done, and count these parts.

    Raises:
        ConfigurationError: They are not the first of these rows.
    """
    done = len(parts)
    for number in range(done):
        ids = parts.read(number)["id"].to_pylist()
        found = [str(row["id"]) for row in itertools.islice(rows, len(ids))]
        if found != ids:
            raise ConfigurationError(
                f"The rows have changed since {parts.folder} was begun (part {number}). Remove it to start anew."
            )
        report(Progress(len(ids), 0, resumed=True))
    return done


def finished(part: Part, scores: Sequence[Score], scorer: RowScorer, policy_version: str) -> tuple[pa.Table, Progress]:
    """The table of a part that was scored, and what that has added."""
    generated = 0 if scorer.request.evidence == "reference" else sum(score.tokens for score in scores)
    return scores_table(part.ids, scores, policy_version), Progress(len(part.ids), part.encoded.tokens() + generated)


def scores_table(ids: Sequence[str], scores: Sequence[Score], policy_version: str) -> pa.Table:
    """A table of `SCHEMA`."""
    names = ("standard_error", "lower", "upper", "tokens")
    return pa.table(
        {
            "id": ids,
            "score": [score.value for score in scores],
            **{name: [getattr(score, name) for score in scores] for name in names},
            "policy_version": [policy_version] * len(ids),
        },
        schema=SCHEMA,
    )


def _encoded_parts(rows: Iterator[Row], scorer: RowScorer, first: int, size: int) -> Iterator[Part]:
    for number in itertools.count(first):
        chunk = list(itertools.islice(rows, size))
        if not chunk:
            return
        yield Part.of(number, chunk, scorer)


def _prefetch(items: Iterator[T]) -> Iterator[T]:
    """The same items, with the next one made in another thread while the last is in use."""
    with ThreadPoolExecutor(1) as pool:
        following: Future[T | None] = pool.submit(next, items, None)
        while (item := following.result()) is not None:
            following = pool.submit(next, items, None)
            yield item
