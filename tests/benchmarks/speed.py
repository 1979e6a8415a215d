"""How fast the package is, beside what it could be at best: `python -m tests.benchmarks.speed [NAME ...]`.

Every figure is the median of a few runs. Where there is a floor, the least that the work would take, it is measured in
turn with the figure, in the same process. `--json FILE` writes one object a line: `name`, `value`, `unit`, `floor`,
`ratio` of the value to the floor, `goal` the value has to stay within, and whether it is `met`.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

# What can be measured, each a module with `measure(sizes, parts) -> Iterable[Figure]`, and `SIZES` and `PARTS`.
BENCHMARKS = {
    "pool": "speed_pool",
    "push": "speed_push",
    "start": "speed_start",
    "launch": "speed_launch",
    "step": "speed_step",
    "scoring": "speed_scoring",
    "servers": "speed_servers",
    "ahead": "speed_ahead",
    "curriculum": "speed_curriculum",
    "scoring_time": "speed_scoring_time",
}


@dataclass(frozen=True)
class Figure:
    """One measurement.

    Args:
        name (`str`):
            What was measured, at which size.
        value (`float`), unit (`str`):
            The median.
        floor (`float`, *optional*):
            The least it could be, in the same unit.
        goal (`float`, *optional*):
            What it has to stay within.
    """

    name: str
    value: float
    unit: str
    floor: float | None = None
    goal: float | None = None

    @property
    def ratio(self) -> float | None:
        """Of the value to the floor."""
        return self.value / self.floor if self.floor else None

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; `None` without one."""
        return None if self.goal is None else self.value <= self.goal

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return {**vars(self), "ratio": self.ratio, "met": self.met}


def in_turn(*works: Callable[[], Any], rounds: int = 5, clock: Callable[[], float] = time.perf_counter) -> list[float]:
    """Median seconds of each, all run once a round; with `time.process_time`, of the processor."""
    seconds: list[list[float]] = [[] for _ in works]
    for _ in range(rounds):
        for work, taken in zip(works, seconds, strict=True):
            began = clock()
            work()
            taken.append(clock() - began)
    return list(map(statistics.median, seconds))


def print_table(name: str, figures: Iterable[Figure]) -> None:
    """Print figures."""
    table = Table(title=name)
    for column in ("", "value", "floor", "ratio", "goal", ""):
        table.add_column(column, justify="right" if column else "left", no_wrap=True)
    for figure in figures:
        numbers = [figure.value, figure.floor, figure.goal]
        value, floor, goal = ("" if number is None else f"{number:.4g} {figure.unit}" for number in numbers)
        ratio = "" if figure.ratio is None else f"{figure.ratio:.2f}"
        table.add_row(figure.name, value, floor, ratio, goal, {True: "met", False: "missed", None: ""}[figure.met])
    Console(width=140).print(table)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"By default all: {', '.join(BENCHMARKS)}.")
    parser.add_argument(
        "--sizes", nargs="+", type=int, help="Sizes that are measured, by default the benchmark's own."
    )
    parser.add_argument("--parts", nargs="+", help="Strategies, or forms of data; by default all.")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if unknown := set(args.names) - set(BENCHMARKS):
        parser.error(f"{', '.join(sorted(unknown))}: there is only {', '.join(BENCHMARKS)}.")
    lines = []
    for name in args.names or BENCHMARKS:
        module = import_module(f"tests.benchmarks.{BENCHMARKS[name]}")
        figures = list(module.measure(args.sizes or module.SIZES, args.parts or module.PARTS))
        print_table(name, figures)
        lines += [json.dumps(figure.plain()) + "\n" for figure in figures]
    if args.json:
        args.json.write_text("".join(lines))


if __name__ == "__main__":
    main()
