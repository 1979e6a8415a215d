"""The progress bar of scoring."""

import time
from collections.abc import Iterator
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
def scoring_progress(total: int | None) -> Iterator[tuple[ScoringMeter, "ReportToBar"]]:
    """A progress bar on standard error with prompts and tokens a second and the time left.

    Args:
        total (`int`, *optional*):
            Rows there are; without it there is no time left to tell.
    """
    meter = ScoringMeter()
    columns = (
        TextColumn("Scoring"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rates]}"),
        TimeElapsedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(),
    )
    with RichProgress(*columns, console=Console(stderr=True), speed_estimate_period=600) as bar:
        yield meter, ReportToBar(meter, bar, total)


class ReportToBar:
    """Passes what was scored on to the meter and the bar."""

    def __init__(self, meter: ScoringMeter, bar: RichProgress, total: int | None) -> None:
        self._meter = meter
        self._bar = bar
        self._task = bar.add_task("", total=total, rates="")

    def __call__(self, progress: Progress) -> None:
        self._meter.add(progress)
        if progress.resumed:
            self._bar.update(self._task, completed=self._meter.resumed)
            self._bar.reset(self._task, completed=self._meter.resumed)
            return
        self._bar.update(self._task, advance=progress.prompts, rates=self._meter.rates())
