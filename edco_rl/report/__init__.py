"""`edco-rl report`: one page, plots and tables from the folders of benchmarks and runs."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from ..config import ReportConfig
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
    data = build(load(folders), config)
    output = Path(config.output or Path(folders[0]) / "report").expanduser()
    output.mkdir(parents=True, exist_ok=True)
    write_page(data, output / PAGE_FILE)
    write_csv(data, output / "table.csv")
    write_markdown(data, output / "table.md")
    plots = save_figures(data, output)
    print_table(data)
    console = Console()
    console.print(f"{output / PAGE_FILE}, table.csv, table.md and {len(plots)} plots as PNG and SVG", soft_wrap=True)
    return output


def print_matrix(folder: str) -> None:
    """Print the table of a matrix as far as it is done."""
    loaded = load([folder])
    if any(run.status == "done" for run in loaded.runs):
        print_table(build(loaded, ReportConfig()))
