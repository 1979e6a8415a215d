"""What a command says on a terminal: tables of one line a row, whatever the width, and what it is about to do."""

import os
import sys
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from tqdm import tqdm


def tell(text: str) -> None:
    """Say on standard error what is about to be done, so that nothing that takes seconds goes unsaid."""
    if int(os.environ.get("RANK", "0")) == 0:
        tqdm.write(text, file=sys.stderr)  # a bar of a trainer stays below it


def print_rows(
    rows: Sequence[Mapping[str, str]],
    *,
    title: str,
    elsewhere: str,
    console: Console | None = None,
    bold: Sequence[int] = (),
) -> None:
    """Print a table. Where it is too wide, the last columns are left out and named below it; no cell is broken.

    Args:
        rows (`Sequence[Mapping[str, str]]`):
            The cells by column, the most important column first; columns without content are left out.
        title (`str`):
            What stands above.
        elsewhere (`str`):
            Where the columns that are left out can be seen.
        console (`Console`, *optional*):
            Where to; by default standard output. What is not a terminal takes every column.
        bold (`Sequence[int]`, *optional*):
            Rows in bold.
    """
    console = console or Console()
    limited = console.is_terminal or "COLUMNS" in os.environ
    names = [name for name in rows[0] if any(row.get(name, "-") not in ("-", "") for row in rows)]
    shown = len(names)
    while True:
        table = Table(padding=(0, 1, 0, 0), pad_edge=False)
        for number, name in enumerate(names[:shown]):
            table.add_column(name, no_wrap=True, justify="right" if number else "left")
        for number, row in enumerate(rows):
            cells = [row.get(name, "-") for name in names[:shown]]
            table.add_row(*cells, style="bold" if number in bold else None)
        width = Measurement.get(console, console.options.update(max_width=100_000), table).maximum
        if width <= console.width or not limited or shown == 1:
            break
        shown -= 1
    if not limited:
        console.width = max(console.width, width)
    console.print(title, style="italic", soft_wrap=not limited, markup=False, highlight=False)
    console.print(table, no_wrap=True)
    if shown < len(names):
        console.print(f"Too wide for here: {', '.join(names[shown:])}; see {elsewhere}.", style="dim")
