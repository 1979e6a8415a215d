"""`edco-rl report`: one page, plots and tables from the folders of benchmarks and runs."""

import datetime
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from ..config import ReportConfig
from .beside import print_beside
from .build import build
from .figures import save_figures
from .load import load
from .page import write_page
from .tables import print_table, write_csv, write_markdown

PAGE_FILE = "report.html"


def run_report(folders: Sequence[str], config: ReportConfig) -> Path:
    """Write `report.html`, `table.csv`, `table.md` and the plots, and print the table.

    Args:
        folders (`Sequence[str]`):
            Folders of `edco-rl benchmark` (the shards of one matrix, or several) and of `edco-rl train`.
        config (`ReportConfig`):
            How to compare, and where to write.

    Returns:
        `Path`: the folder with the report.

    Raises:
        ConfigurationError: A folder holds no runs, two hold different results of one cell, or no run is done.
    """
    output = Path(config.output or Path(folders[0]) / "report").expanduser()
    data = build(load(folders), config)
    while config.watch is not None and data["in_progress"]:
        _write(data, output)
        done = sum(cell["status"] == "done" for cell in data["cells"])
        text = f"{datetime.datetime.now():%H:%M:%S} {done} of {data['expected']} runs are done: {output / PAGE_FILE}"
        Console().print(text, soft_wrap=True)
        time.sleep(config.watch)
        data = build(load(folders), config)
    _write(data, output)
    plots = save_figures(data, output)
    print_table(data)
    _print_files(output, plots)
    return output


def report_comparison(folder: str) -> None:
    """Write the report of a run with `compare_with`, and print both runs side by side."""
    loaded = load([folder])
    data, output = build(loaded, ReportConfig()), Path(folder) / "report"
    _write(data, output)
    plots = save_figures(data, output)
    print_beside(sorted(loaded.runs, key=lambda run: run.folder != Path(folder)))
    _print_files(output, plots)


def _write(data: dict[str, Any], output: Path) -> None:
    """The page and the tables."""
    output.mkdir(parents=True, exist_ok=True)
    write_page(data, output / PAGE_FILE)
    write_csv(data, output / "table.csv")
    write_markdown(data, output / "table.md")


def _print_files(output: Path, plots: list[str]) -> None:
    text = f"{output / PAGE_FILE}, table.csv, table.md and {len(plots)} plots as PNG and SVG"
    Console().print(text, soft_wrap=True)


def print_matrix(folder: str) -> None:
    """Print the table of a matrix as far as it is done."""
    loaded = load([folder])
    if any(run.status == "done" for run in loaded.runs):
        print_table(build(loaded, ReportConfig()))
