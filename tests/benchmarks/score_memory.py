"""Memory of `edco-rl score` over many rows: `python -m tests.benchmarks.score_memory --model_name_or_path MODEL`.

The engine is replaced by a stand-in that answers at once: what is measured is reading, checking, encoding, scoring and
writing. All of these are the real ones.
"""

import json
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table
from transformers import AutoTokenizer
from trl import TrlParser

from edco_rl.config import EstimatorConfig
from edco_rl.data.load import iter_rows
from edco_rl.data.tokens import RowTokenizer
from edco_rl.scoring import RowScorer
from edco_rl.scoring.job import Progress, score_rows
from edco_rl.store import Parts
from tests.benchmarks.stand_in import StandInEngine

_MIB = 1 << 20


@dataclass
class MemoryConfig:
    """What is measured."""

    model_name_or_path: str = field(metadata={"help": "Model folder or hub id, for its tokenizer."})
    rows: int = field(default=1_000_000, metadata={"help": "Generated rows."})
    part_prompts: int = field(default=512, metadata={"help": "Prompts scored and written at a time."})


class MemoryOverTime:
    """Samples the process's memory while it works.

    Args:
        interval (`float`, *optional*, defaults to `0.05`):
            Seconds between two samples.
    """

    def __init__(self, interval: float = 0.05) -> None:
        self.interval = interval
        self.peak = 0
        self._process = psutil.Process()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def _sample(self) -> None:
        while not self._stopped.wait(self.interval):
            self.peak = max(self.peak, self._process.memory_info().rss)

    def __enter__(self) -> "MemoryOverTime":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopped.set()
        self._thread.join()

    def take(self) -> int:
        """Peak resident memory since the last call, in bytes."""
        peak, self.peak = max(self.peak, self._process.memory_info().rss), 0
        return peak


def write_rows(path: Path, rows: int) -> None:
    """Multiple-choice rows of a few dozen words, no two the same."""
    with path.open("w") as file:
        for number in range(rows):
            row = {
                "id": f"row-{number}",
                "question": f"A counter stands at {number} and is raised by {number % 97}. What does it show then?",
                "options": [str(number + number % 97 + shift) for shift in (0, 1, 2, 10)],
                "answer_index": 0,
            }
            file.write(json.dumps(row) + "\n")


def measure(config: MemoryConfig, folder: Path) -> list[tuple[int, float, float]]:
    """Score generated rows and watch the process's memory.

    Returns:
        `list[tuple[int, float, float]]`: rows scored, seconds since the start, and peak resident memory in MiB since
        the entry before; ten entries while scoring and a last one for the merge of the parts.
    """
    source = folder / "rows.jsonl"
    write_rows(source, config.rows)
    tokenizer = AutoTokenizer.from_pretrained(config.model_name_or_path)
    scorer = RowScorer(RowTokenizer(tokenizer), EstimatorConfig(scoring_prefix_tokens=4))
    entries: list[tuple[int, float, float]] = []
    scored = 0
    started = time.perf_counter()
    with MemoryOverTime() as memory, Parts(folder / "scores.parquet", {"rows": config.rows}) as parts:

        def report(progress: Progress) -> None:
            nonlocal scored
            scored += progress.prompts
            if scored * 10 >= config.rows * (len(entries) + 1):
                entries.append((scored, time.perf_counter() - started, memory.take() / _MIB))

        score_rows(
            iter_rows(str(source)),
            scorer,
            StandInEngine(),
            parts,
            policy_version="stand-in",
            part_prompts=config.part_prompts,
            in_flight=1,
            report=report,
        )
        parts.merge()
        entries.append((scored, time.perf_counter() - started, memory.take() / _MIB))
    return entries


def main() -> None:
    """Measure and print the table."""
    (config,) = TrlParser((MemoryConfig,)).parse_args_and_config(fail_with_unknown_args=True)
    with tempfile.TemporaryDirectory() as folder:
        entries = measure(config, Path(folder))
    table = Table(title=f"edco-rl score, {config.rows:,} generated rows, ENGINE REPLACED BY A STAND-IN")
    for column in ("rows scored", "seconds", "peak memory since the line above (MiB)"):
        table.add_column(column, justify="right")
    for rows, seconds, mib in entries[:-1]:
        table.add_row(f"{rows:,}", f"{seconds:.0f}", f"{mib:.0f}")
    table.add_row(f"merged {entries[-1][0]:,}", f"{entries[-1][1]:.0f}", f"{entries[-1][2]:.0f}")
    console = Console()
    console.print(table)
    first, largest = entries[0][2], max(mib for _, _, mib in entries)
    console.print(f"Largest over the first tenth: {largest / first:.3f}.")


if __name__ == "__main__":
    main()
