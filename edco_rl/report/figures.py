"""The report's plots as files: PNG to look at, SVG to print."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

# The page's colours and dashes, so that a series looks the same in both.
COLORS = (
    "#6b7280",
    "#0b63ce",
    "#c2410c",
    "#0f7b5f",
    "#9333ab",
    "#a16207",
    "#be185d",
    "#0e7490",
    "#4d7c0f",
    "#7c3aed",
)
_PART_COLORS = ("#0b63ce", "#c2410c", "#a16207", "#9333ab", "#0f7b5f", "#be185d", "#0e7490")
_DASHES = ("-", "--", ":", "-.")
_MOST_IN_LEGEND = 24
_FEWEST_TASKS = 3  # of a map
Figure = Any


def save_figures(data: dict[str, Any], folder: Path) -> list[str]:
    """Write every plot of a report as PNG and SVG.

    Args:
        data (`dict[str, Any]`):
            What [`~edco_rl.report.build.build`] gives.
        folder (`Path`):
            Where to.

    Returns:
        `list[str]`: their names without suffix.
    """
    made = save_figure("map", lambda figure: _map(figure, data), f"{data['unit']} for the same learning", folder)
    for task in data["tasks"]:
        series = [one for one in data["series"] if one["task"] == task]
        plots: dict[str, Callable[[Figure], bool]] = {
            "accuracy": lambda figure, series=series: _accuracy(figure, data, series),  # type: ignore[misc]
            "cost": lambda figure, task=task: _cost(figure, data, task),  # type: ignore[misc]
            "curriculum": lambda figure, series=series: _traces(figure, data, series),  # type: ignore[misc]
            "prompts": lambda figure, task=task: _heat(figure, data, task),  # type: ignore[misc]
            "time": lambda figure, series=series: _time(figure, data, series),  # type: ignore[misc]
        }
        for name, draw in plots.items():
            made += save_figure(f"{task}_{name}", draw, task, folder)
    return made


def save_figure(name: str, draw: Callable[[Figure], bool], title: str, folder: Path) -> list[str]:
    """Write a plot as PNG and SVG, and return its name; nothing where `draw` says that there is nothing to draw."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure as New

    # The same data give the same file, and text in an SVG stays text.
    with rc_context({"svg.hashsalt": "edco_rl", "svg.fonttype": "none", "font.size": 9}):
        figure = New(figsize=(11, 4), layout="constrained")
        figure.suptitle(title)
        if not draw(figure):
            return []
        for suffix, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
            figure.savefig(folder / f"{name}.{suffix}", dpi=150, metadata=metadata)
    return [name]


def _style(data: dict[str, Any], one: dict[str, Any]) -> dict[str, Any]:
    number = data["curricula"].index(one["curriculum"])
    dash = (data["methods"].index(one["method"]) + number // len(COLORS)) % len(_DASHES)
    return {"color": COLORS[number % len(COLORS)], "linestyle": _DASHES[dash]}


def _label(one: dict[str, Any]) -> str:
    return f"{one['method']} {one['curriculum']}"


def _line(axes: Any, data: dict[str, Any], one: dict[str, Any], points: dict[str, Any] | None) -> bool:
    if points is None or not points["x"]:
        return False
    x, y, low, high = (np.array(points[name], dtype=np.float64) for name in ("x", "y", "low", "high"))
    style = _style(data, one)
    axes.plot(x, y, label=_label(one), marker="o" if len(x) == 1 else None, **style)
    axes.fill_between(x, low, high, color=style["color"], alpha=0.12, linewidth=0)
    return True


def _legend(figure: Figure, axes: Any) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if handles and len(handles) <= _MOST_IN_LEGEND:
        figure.legend(handles, labels, loc="outside right upper", fontsize="small")


def _accuracy(figure: Figure, data: dict[str, Any], series: list[dict[str, Any]]) -> bool:
    axes = figure.subplots(1, len(data["units"]), sharey=True)
    drawn = [
        _line(axis, data, one, one["accuracy"] and one["accuracy"][unit])
        for axis, unit in zip(axes, data["units"], strict=True)
        for one in series
    ]
    targets = {one["target"]["value"] for one in series if one["target"] and one["target"]["value"] is not None}
    for axis, unit in zip(axes, data["units"], strict=True):
        axis.set_xlabel(unit)
        axis.locator_params(axis="x", nbins=4)  # numbers of tokens are wide
        for target in targets:
            axis.axhline(target, color="black", linewidth=0.8, linestyle=":")
    axes[0].set_ylabel(f"held-out accuracy, {data['level']:.0%} band over seeds")
    _legend(figure, axes[0])
    return any(drawn)


def _cost(figure: Figure, data: dict[str, Any], task: str) -> bool:
    entries = [entry for entry in data["comparisons"] if entry["task"] == task and entry["units"]]
    if not entries:
        return False
    figure.set_size_inches(11, 1.6 + 0.32 * len(entries))
    axes = figure.subplots(1, len(data["units"]), sharey=True)
    for axis, unit in zip(axes, data["units"], strict=True):
        for row, entry in enumerate(entries):
            result, style = entry["units"][unit], _style(data, entry)
            bounds = np.clip([result["low"], np.inf if result["high"] is None else result["high"]], 1 / 16, 16)
            axis.plot(bounds, [row, row], color=style["color"], linewidth=2.5, alpha=0.65)
            if result["ratio"]:
                axis.plot(result["ratio"], row, "o", color=style["color"])
        axis.axvline(1, color="black", linewidth=0.8)
        axis.set_xscale("log", base=2)
        axis.set_xlabel(f"{unit}, ratio to the baseline")
    names = [f"{_label(entry)} / {' '.join(entry['against'])}" for entry in entries]
    axes[0].set_yticks(range(len(entries)), names)
    axes[0].invert_yaxis()
    return True


def _map(figure: Figure, data: dict[str, Any]) -> bool:
    """Curricula against tasks; nothing of less than three tasks."""
    told = {
        (_label(entry), entry["task"]): entry
        for entry in data["comparisons"]
        if entry["units"] and entry["curriculum"] != entry["against"][1]
    }
    names = list(dict.fromkeys(name for name, _ in told))
    if len(data["tasks"]) < _FEWEST_TASKS or not names:
        return False
    figure.set_size_inches(2.6 + 0.95 * len(data["tasks"]), 1.2 + 0.34 * len(names))
    axes = figure.subplots()
    doublings = np.full((len(names), len(data["tasks"])), np.nan)
    for row, name in enumerate(names):
        for column, task in enumerate(data["tasks"]):
            entry = told.get((name, task))
            if entry is None:
                continue
            result = entry["units"][data["unit"]]
            if result["ratio"] is None and not result["never"]:
                continue
            ratio = 8.0 if result["never"] else result["ratio"]
            doublings[row, column] = np.log2(max(ratio, 1 / 16))
            weight = "bold" if entry["verdict"] else "normal"
            text = "never" if result["never"] else f"{ratio:.2g}"
            dark = abs(doublings[row, column]) >= 2  # the colour map ends at a factor of eight
            axes.text(column, row, text, ha="center", va="center", weight=weight, color="white" if dark else "black")
    axes.imshow(doublings, cmap="RdBu_r", vmin=-3, vmax=3, aspect="auto")
    axes.set_xticks(range(len(data["tasks"])), data["tasks"])
    axes.set_yticks(
        range(len(names)), [name if len(data["methods"]) > 1 else name.partition(" ")[2] for name in names]
    )
    axes.set_xlabel(
        f"{data['unit']} in parts of those of {data['baseline']}; bold: told from chance", fontsize="small"
    )
    return True


def _traces(figure: Figure, data: dict[str, Any], series: list[dict[str, Any]]) -> bool:
    measured = {
        name: text for name, text in data["traces"].items() if any(one["traces"][name] is not None for one in series)
    }
    if not measured:
        return False
    rows = -(-len(measured) // 3)
    figure.set_size_inches(13, 0.5 + 3.2 * rows)
    grid = list(figure.subplots(rows, 3, squeeze=False).flat)
    for axis, (name, text) in zip(grid, measured.items(), strict=False):
        for one in series:
            _line(axis, data, one, one["traces"][name])
        axis.set_title(text["title"], fontsize="medium")
        axis.set_xlabel("optimizer steps")
    for axis in grid[len(measured) :]:
        axis.axis("off")
    _legend(figure, max(figure.axes, key=lambda axis: len(axis.lines)))
    return True


def _heat(figure: Figure, data: dict[str, Any], task: str) -> bool:
    """One run of each series: the first seed's."""
    runs: dict[str, dict[str, Any]] = {}
    for run in data["runs"]:
        if run["task"] == task:
            runs.setdefault(_label(run), run)
    columns = min(4, len(runs))
    rows = -(-len(runs) // columns)
    figure.set_size_inches(3.2 * columns, 0.8 + 2.3 * rows)
    grid = list(figure.subplots(rows, columns, squeeze=False, sharex=False, sharey=True).flat)
    for axis, (label, run) in zip(grid, runs.items(), strict=False):
        heat = run["heat"]
        axis.imshow(
            heat["rows"], aspect="auto", origin="lower", cmap="Blues", interpolation="nearest",
            extent=(0, max(heat["last"], 1), 0, 1),
        )  # fmt: skip
        axis.set_title(f"{label}, seed {run['seed']}", fontsize="small")
        axis.set_yticks([0, 1], ["easiest", "hardest"] if heat["ranked"] else ["first", "last"])
    for axis in grid[len(runs) :]:
        axis.axis("off")
    figure.supxlabel("optimizer steps; darker: drawn more often", fontsize="small")
    return True


def _time(figure: Figure, data: dict[str, Any], series: list[dict[str, Any]]) -> bool:
    figure.set_size_inches(9, 1.4 + 0.32 * len(series))
    axis = figure.subplots()
    left = np.zeros(len(series))
    for part, described in data["parts"].items():
        values = np.array([one["time"][part] for one in series])
        color = _PART_COLORS[described["place"]]
        axis.barh([_label(one) for one in series], values, left=left, label=part, color=color)
        left += values
    axis.invert_yaxis()
    axis.set_xlabel("seconds of training a run, mean over seeds")
    _legend(figure, axis)
    return True
