"""Cells of a matrix as tasks of a Ray cluster, each in a process of its own with a server of its own."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from rich.console import Console

from ..config import RunnerConfig
from ..runs.ray_cluster import WorkerLostError, answer_of, enter, here, ray_cluster
from .cells import Cell, but_curriculum

Outcome = dict[str, Any]


def run_cells_on_ray(
    cells: Sequence[Cell],
    done: Mapping[str, Outcome],
    run: Callable[[Cell], Outcome],
    lost: Callable[[Cell, Exception, float], Outcome],
    runner: RunnerConfig,
) -> dict[str, Outcome]:
    """Run the cells that are not done, `ray_workers` at a time, in their order.

    Cells that differ in their curriculum alone share what the first of them measures before its first step: the others
    wait for it. A cell whose process is killed is started again, and goes on from its last checkpoint.

    Args:
        cells (`Sequence[Cell]`):
            All cells.
        done (`Mapping[str, dict]`):
            Outcomes of those that are done, by name.
        run (`Callable[[Cell], dict]`):
            Called in a Ray worker. It is pickled.
        lost (`Callable[[Cell, Exception, float], dict]`):
            Called here for a cell that was killed more often than it may be started again, with the time it began at.
        runner (`RunnerConfig`):
            The cluster and its workers.

    Returns:
        `dict[str, dict]`: outcomes of all, by name.
    """
    import ray

    console, found = Console(), dict(done)
    waiting = [cell for cell in cells if cell.name not in found]
    measured = [but_curriculum(cell.made_from) for cell in cells if cell.name in found]
    asked: dict[Any, tuple[Cell, float]] = {}
    with ray_cluster(runner) as needs:
        # A process a cell: what one leaves in memory is gone with it.
        task = ray.remote(**needs, max_calls=1, max_retries=runner.ray_max_restarts)(_run_there)
        while waiting or asked:
            while len(asked) < runner.ray_workers:
                cell = _next(waiting, [running for running, _ in asked.values()], measured)
                if cell is None:
                    break
                waiting.remove(cell)
                asked[task.remote(here(), run, cell)] = cell, time.time()
                console.print(f"{cells.index(cell) + 1} of {len(cells)}: {cell.name} is given to Ray.")
            [ended], _ = ray.wait(list(asked))
            cell, began = asked.pop(ended)
            try:
                outcome = answer_of(ended)
            except WorkerLostError as error:
                outcome = lost(cell, error, began)
            found[cell.name] = outcome
            if outcome["status"] == "done":
                measured.append(but_curriculum(cell.made_from))
            console.print(f"{cell.name}: {outcome['status']}, {len(found)} of {len(cells)} cells have ended.")
    return found


def _next(waiting: Sequence[Cell], running: Collection[Cell], measured: Sequence[Mapping[str, Any]]) -> Cell | None:
    """The first cell that waits for no other's start."""
    held = [but_curriculum(cell.made_from) for cell in running]
    for cell in waiting:
        alike = but_curriculum(cell.made_from)
        if alike not in held or alike in measured:
            return cell
    return None


def _run_there(place: tuple[str, list[str]], run: Callable[[Cell], Outcome], cell: Cell) -> Outcome:
    enter(*place)
    return run(cell)
