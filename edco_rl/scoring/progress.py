"""The progress bar of scoring."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress

from .job import Progress


class ScoringMeter:
    """Adds up what was scored, and how fast."""

    def __init__(self) -> None:
        self.prompts = 0
        self.tokens = 0
        self.resumed = 0
        self.started = time.perf_counter()
        self.ended: float | None = None

    def add(self, progress: Progress) -> None:
        """Count a part."""
        if progress.resumed:
            self.resumed += progress.prompts
            self.started = time.perf_counter()
        else:
            self.prompts += progress.prompts
            self.tokens += progress.tokens

    @property
    def seconds(self) -> float:
        """Seconds since the first part that was not done before."""
        return (self.ended or time.perf_counter()) - self.started

    def stop(self) -> None:
        """Stop the clock."""
        self.ended = time.perf_counter()

    def rates(self) -> str:
        """Prompts and tokens a second."""
        seconds = max(self.seconds, 1e-9)
        return f"{self.prompts / seconds:.1f} prompts/s, {self.tokens / seconds:.0f} tokens/s"


@contextmanager
def scoring_progress(total: int | None) -> Iterator[tuple[ScoringMeter, Callable[[Progress], None]]]:
    """A progress bar on standard error with prompts and tokens a second and the time left.

    Args:
        total (`int`, *optional*):
            Rows there are; without it there is no time left to tell.

    Returns:
        The meter, and what takes the progress of each part to meter and bar.
    """
    meter = ScoringMeter()
    columns = (
        TextColumn("Scoring"),
        TimeElapsedColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("left"),
        BarColumn(bar_width=10),
        TextColumn("{task.fields[rates]}"),
    )
    with RichProgress(*columns, console=Console(stderr=True), speed_estimate_period=600) as bar:
        task = bar.add_task("", total=total, rates="")

        def report(progress: Progress) -> None:
            meter.add(progress)
            if progress.resumed:
                bar.reset(task, completed=meter.resumed)
            else:
                bar.update(task, advance=progress.prompts, rates=meter.rates())

        yield meter, report
        meter.stop()
