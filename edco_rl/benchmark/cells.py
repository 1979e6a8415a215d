"""The cells of a benchmark: what each runs, from the matrix's settings to a method's own."""

import dataclasses
import functools
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import BenchmarkConfig, CurriculumConfig
from ..errors import ConfigurationError
from ..methods import METHODS, find_method
from ..parsing import Parser
from ..plugins import search_in
from ..runs.names import check_names
from ..runs.options import method_parser
from ..store import plain
from ..yaml_file import Settings, read_yaml

if TYPE_CHECKING:
    from ..runs.settings import RunSettings

CELLS_FOLDER = "cells"
# What only makes sense with a fixed number of optimizer steps.
_STEPLESS_SCHEDULES = ("constant", "constant_with_warmup")
# A budget of tokens or seconds ends a cell; this is the most steps it can take.
_MOST_STEPS = 1_000_000
# Settings that only say something of groups of rollouts.
_OF_GROUPS = frozenset({"gates", "gate_kwargs", "gate_max_refills", "gate_if_short", "curriculum_fallback"})


@dataclass(frozen=True)
class Cell:
    """One run of a matrix.

    Args:
        task (`str`), method (`str`), curriculum (`str`), seed (`int`):
            Where it stands in the matrix.
        trainer (`str`):
            Name of the method of training, as `edco-rl train` has it.
        values (`dict[str, Any]`):
            Settings by the names of `edco-rl train`.
        target_accuracy (`float`, *optional*):
            Accuracy whose cost is compared on this task.
        left_out (`tuple[str, ...]`, *optional*):
            Settings of the recipe that the method does not know, and others do.
    """

    task: str
    method: str
    curriculum: str
    seed: int
    trainer: str
    values: dict[str, Any]
    target_accuracy: float | None
    left_out: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Name of its folder."""
        return f"{self.task}_{self.method}_{self.curriculum}_{self.seed}".replace(":", ".")

    @property
    def made_from(self) -> dict[str, Any]:
        """All that its result depends on."""
        return plain({"trainer": self.trainer, **self.values})

    def describe(self) -> dict[str, Any]:
        """Where it stands in the matrix, as plain values."""
        names = ("task", "method", "curriculum", "seed", "target_accuracy")
        return {name: getattr(self, name) for name in names}

    def check(self) -> tuple[Parser, Settings]:
        """Its settings, and what makes dataclasses of them. Nothing that takes long is imported.

        Raises:
            ConfigurationError: A setting has no such name or value; the message names the cell.
        """
        parser = method_parser(find_method(self.trainer), f"edco-rl train {self.trainer}")
        settings = parser.check(Settings(self.values, name=self.name))
        check_names(settings)
        return parser, settings

    def settings(self, folder: Path) -> "RunSettings":
        """Its settings for a run in a folder.

        Raises:
            ConfigurationError: As [`check`], or two of them contradict each other.
        """
        from ..runs.settings import RunSettings

        parser, settings = self.check()
        settings.values["output_dir"] = str(folder)
        return RunSettings(find_method(self.trainer), *parser.make(settings))


def make_cells(benchmark: BenchmarkConfig) -> list[Cell]:
    """The cells of a matrix, seed after seed, so that what an interrupted one has done can be compared.

    Raises:
        ConfigurationError: A method or the baseline does not exist, the budget is missing, or two settings contradict
            each other.
    """
    assert not isinstance(benchmark.settings, str)  # the configuration has parsed it
    recipe, settings = _read_recipe(benchmark.recipe), benchmark.settings or {}
    shared = {**recipe, **settings}
    methods = _methods(benchmark)
    curricula = {name: _curriculum(name, values) for name, values in _curricula(benchmark, shared).items()}
    if benchmark.baseline not in curricula and len(curricula) > 1:
        raise ConfigurationError(f"baseline {benchmark.baseline!r} is not among the curricula {', '.join(curricula)}.")
    tasks = benchmark.named_tasks or {_own_task(shared): {}}
    method_names = {*methods, *METHODS}  # what is meant for a method that is not run here is no setting
    cells = []
    for seed, task, method, curriculum in itertools.product(benchmark.seeds, tasks, methods, curricula):
        if curricula[curriculum].get(method) is False:
            continue
        layers = (settings, tasks[task], methods[method], tasks[task].get(method), curricula[curriculum])
        own: dict[str, Any] = {}
        for layer in (*layers, curricula[curriculum].get(method)):
            own |= {name: value for name, value in (layer or {}).items() if name not in method_names}
        trainer = own.pop("method", method)
        unknown = [name for name in recipe if name not in own and _is_of_others(name, trainer)]
        values = {name: value for name, value in recipe.items() if name not in (*unknown, *method_names)} | own
        values.pop("output_dir", None)  # of a recipe
        target = values.pop("target_accuracy", benchmark.target_accuracy)
        values |= {"seed": seed, **_budget(benchmark, values)}
        cells.append(Cell(task, method, curriculum, seed, trainer, values, target, tuple(unknown)))
    return cells


def but_curriculum(made_from: Mapping[str, Any]) -> dict[str, Any]:
    """What a cell is made from, without its curriculum: cells in which it is the same have the same start."""
    names = {field.name for field in dataclasses.fields(CurriculumConfig)}
    return {name: value for name, value in made_from.items() if name not in names}


def left_out(cells: Sequence[Cell], recipe: str | None) -> list[str]:
    """What is to be said of settings of a recipe that methods do not know, one sentence a method."""
    found = {cell.trainer: ", ".join(cell.left_out) for cell in cells if cell.left_out}
    return [f"{trainer} does not know {names} of {recipe}: left out for it." for trainer, names in found.items()]


def _is_of_others(name: str, trainer: str) -> bool:
    """Whether a setting is none of a method's, but one of another method's; one of none is a mistake to be told."""
    mine, *others = (_settings_of(one) for one in (trainer, *METHODS) if one in METHODS)
    return name not in mine and any(name in other for other in others)


@functools.cache
def _settings_of(method: str) -> frozenset[str]:
    known = frozenset(method_parser(METHODS[method], method).fields)
    return known if METHODS[method].with_groups else known - _OF_GROUPS


def _read_recipe(path: str | None) -> dict[str, Any]:
    if path is None:
        return {}
    search_in(Path(path).expanduser().parent)
    return read_yaml(path, "recipe").values


def _methods(benchmark: BenchmarkConfig) -> dict[str, dict[str, Any]]:
    methods = benchmark.named_methods
    if not methods:
        raise ConfigurationError(f"methods is missing: some of {', '.join(METHODS)}.")
    for name, values in methods.items():
        find_method(values.get("method", name))
    return methods


def _curricula(benchmark: BenchmarkConfig, shared: dict[str, Any]) -> dict[str, dict[str, Any]]:
    if benchmark.named_curricula:
        return benchmark.named_curricula
    return {name: {} for name in dict.fromkeys((benchmark.baseline, shared.get("strategy", "edco")))}


def _curriculum(name: str, values: dict[str, Any]) -> dict[str, Any]:
    """Settings of a curriculum; its name is a strategy, with gates behind a plus, unless they say otherwise."""
    strategy, *gates = name.split("+")
    return {"strategy": strategy, **({"gates": gates} if gates else {}), **values}


def _own_task(shared: dict[str, Any]) -> str:
    """A name for the data set of the shared settings."""
    name = shared.get("dataset_name")
    if not name:
        raise ConfigurationError("tasks is missing, and neither settings nor recipe have a dataset_name.")
    return task_name(str(name))


def task_name(dataset_name: str) -> str:
    """What a task is called after its data set: a file without its suffix, a generated task without its source."""
    return Path(dataset_name.rpartition(":")[2]).stem


def _budget(benchmark: BenchmarkConfig, values: dict[str, Any]) -> dict[str, Any]:
    fixed: dict[str, Any] = {"keep_model": benchmark.keep_models}
    if benchmark.evaluate_every is not None:
        fixed["held_out_every"] = benchmark.evaluate_every
    if benchmark.budget_unit == "steps":
        steps = values.get("max_steps") if benchmark.budget is None else benchmark.budget
        if steps is None or int(steps) != steps or steps < 1:
            raise ConfigurationError(f"budget must be a whole number of optimizer steps; got {steps}.")
        return {**fixed, "max_steps": int(steps)}
    if benchmark.budget is None:
        raise ConfigurationError(f"budget is missing: {benchmark.budget_unit} a cell.")
    schedule = values.get("lr_scheduler_type", "linear")
    if schedule not in _STEPLESS_SCHEDULES:
        raise ConfigurationError(
            f"With budget_unit {benchmark.budget_unit} the number of steps is not known, which lr_scheduler_type "
            f"{schedule} needs: use {' or '.join(_STEPLESS_SCHEDULES)}."
        )
    return {
        **fixed,
        "max_steps": values.get("max_steps", _MOST_STEPS),
        f"stop_after_{benchmark.budget_unit}": benchmark.budget,
    }
