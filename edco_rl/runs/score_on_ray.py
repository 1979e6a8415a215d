"""Parts of a data set scored by Ray workers, each with an engine of its own, into the file that one process writes.

Actors rather than Ray Data, which cuts batches where its blocks end: here a part is the same rows whoever scores it.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from ..config import RunnerConfig
from ..data.tokens import Row
from ..engine.protocol import GenerationBackend
from ..scoring import RowScorer
from ..scoring.job import Part, Progress, finished, skip_done
from ..store import Parts
from .ray_cluster import answer_of, enter, here, ray_cluster

# Parts a worker is given at a time: the second waits there while the engine works on the first.
_PARTS_EACH = 2


@dataclass(frozen=True)
class Scoring:
    """What scores rows in a process.

    Args:
        scorer (`RowScorer`):
            Encodes and scores them.
        backend (`GenerationBackend`):
            Gives log-probabilities.
        policy_version (`str`):
            Version of the weights the backend serves.
    """

    scorer: RowScorer
    backend: GenerationBackend
    policy_version: str


@contextmanager
def scoring_workers(
    open_scoring: Callable[[int], AbstractContextManager[Scoring]], runner: RunnerConfig
) -> Iterator[list[Any]]:
    """Ray workers that can score, the first of them with its engine open. A killed one is started again.

    Args:
        open_scoring (`Callable`):
            Called in each worker with its number. It is pickled.
        runner (`RunnerConfig`):
            The cluster and its workers.

    Returns:
        `list`: handles of Ray actors.
    """
    import ray

    with ray_cluster(runner) as needs:
        # What a killed worker had in hand is done again as often as it is started again.
        again = {"max_restarts": runner.ray_max_restarts, "max_task_retries": runner.ray_max_restarts}
        make = ray.remote(_Worker).options(**needs, **again)
        workers = [make.remote(here(), open_scoring, number) for number in range(runner.ray_workers)]
        [first, *_], _ = ray.wait([worker.open.remote() for worker in workers])
        answer_of(first)
        yield workers
        for ended in [worker.close.remote() for worker in workers]:
            answer_of(ended)


def score_rows_on_ray(
    rows: Iterable[Row],
    workers: Sequence[Any],
    parts: Parts,
    *,
    part_prompts: int,
    report: Callable[[Progress], Any],
) -> None:
    """Score rows into parts with Ray workers, after those an earlier run has done, on Ray or not.

    This process reads rows and writes parts, in order; a worker encodes and scores a part. Rows of two parts a worker
    are in memory, and scores that wait for those of an earlier part.

    Args:
        rows (`Iterable[Mapping]`):
            Rows with `id`, `prompt` and what the estimator needs.
        workers (`Sequence`):
            Those of [`scoring_workers`].
        parts (`Parts`):
            Takes the tables; it has been entered.
        part_prompts (`int`):
            Rows in a part.
        report (`Callable`):
            Called after each part.

    Raises:
        ConfigurationError: A row is invalid or too long, or those done before are not the first of these.
        WorkerLostError: A worker was killed more often than it may be started again.
    """
    import ray

    rows = iter(rows)
    following = skip_done(rows, parts, report)
    coming = enumerate(iter(lambda: list(itertools.islice(rows, part_prompts)), []), following)
    asked: dict[Any, tuple[int, Any]] = {}
    waiting: dict[int, tuple[pa.Table, Progress]] = {}

    def ask(worker: Any) -> None:
        if (part := next(coming, None)) is not None:
            asked[worker.score.remote(*part)] = part[0], worker

    for worker in [*workers] * _PARTS_EACH:
        ask(worker)
    while asked:
        [done], _ = ray.wait(list(asked))
        number, worker = asked.pop(done)
        waiting[number] = answer_of(done)
        ask(worker)
        while following in waiting:
            table, progress = waiting.pop(following)
            parts.write(following, table)
            report(progress)
            following += 1


class _Worker:
    """What runs in a worker. Its engine is opened anew after it was started again."""

    def __init__(
        self, place: tuple[str, list[str]], open_scoring: Callable[[int], AbstractContextManager[Scoring]], number: int
    ) -> None:
        enter(*place)
        self._open = open_scoring
        self._number = number
        self._held = ExitStack()
        self._opened: Scoring | None = None

    def open(self) -> None:
        self._scoring()

    def _scoring(self) -> Scoring:
        if self._opened is None:
            self._opened = self._held.enter_context(self._open(self._number))
        return self._opened

    def score(self, number: int, rows: Sequence[Row]) -> tuple[pa.Table, Progress]:
        scoring = self._scoring()
        part = Part.of(number, rows, scoring.scorer)
        encoded = part.checked(scoring.scorer, scoring.backend.max_model_len())
        return finished(part, scoring.scorer.score(encoded, scoring.backend), scoring.scorer, scoring.policy_version)

    def close(self) -> None:
        self._held.close()
