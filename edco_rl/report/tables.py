"""The comparison as a table: CSV with every number, Markdown and the terminal with those to read."""

import csv
import io
from pathlib import Path
from typing import Any

from rich.console import Console

from ..store import write_text
from ..terminal import print_rows

# Parts of the time that are spent once, before the first step.
_BEFORE_TRAINING = ("teacher", "difficulty")
VERDICTS = {1: "fewer {unit}", -1: "more {unit}", 0: "cannot be told"}


def verdict(entry: dict[str, Any], unit: str) -> str:
    """What can be said of a comparison, in words."""
    if not entry["units"]:
        return entry["problem"]
    if entry["units"][unit]["seeds"] < 2:
        return "cannot be told: one seed"
    return VERDICTS[entry["verdict"]].format(unit=unit)


def ratio(entry: dict[str, Any], unit: str) -> str:
    """A ratio with its interval; what never came about is said."""
    if not entry["units"]:
        return "-"
    result = entry["units"][unit]
    high = "∞" if result["high"] is None else f"{result['high']:.2f}"
    if result["ratio"] is None and not result["never"]:
        return "open"
    value = "never" if result["never"] else f"{result['ratio']:.2f}" if result["ratio"] else "baseline never"
    return f"{value} [{result['low']:.2f}, {high}]"


def rows(data: dict[str, Any]) -> list[dict[str, str]]:
    """One row a task, method and curriculum, as text to read, what matters most first."""
    compared = {(e["task"], e["method"], e["curriculum"]): e for e in data["comparisons"]}
    groups = any(s["groups"]["dropped"] is not None for s in data["series"])
    single = is_single(data)
    found = []
    for s in data["series"]:
        entry = compared.get((s["task"], s["method"], s["curriculum"]))
        failed = sum(
            (c["task"], c["method"], c["curriculum"]) == (s["task"], s["method"], s["curriculum"])
            and c["status"] == "failed"
            for c in data["cells"]
        )
        row = {"task": s["task"], "method": s["method"], "curriculum": s["curriculum"]}
        row["seeds"] = f"{len(s['seeds'])}" + (f" ({failed} failed)" if failed else "")
        row["before"] = _value(s["start"], interval=single)
        row[f"after [{data['level']:.0%}]"] = _value(s["final"], interval=True)
        if not single:
            row |= _compared(data, s, entry)
        row["with signal"] = _share(s["groups"]["with_signal"])
        if groups:
            row["trained on"] = _share(s["groups"]["with_signal_trained"])
            row["dropped a step"] = "-" if s["groups"]["dropped"] is None else f"{s['groups']['dropped']:.1f}"
        row |= {"prompts used": _share(s["distinct"]), "seconds": f"{s['seconds']:.0f}"}
        row |= {f"of them {part}": _part(s, part) for part in _BEFORE_TRAINING if part in data["parts"]}
        found.append(row)
    return found


def _compared(data: dict[str, Any], s: dict[str, Any], entry: dict[str, Any] | None) -> dict[str, str]:
    """What a row says of the comparison with the baseline."""
    unit, is_baseline = data["unit"], s["curriculum"] == data["baseline"]
    against = f" (against {' '.join(entry['against'])})" if entry and is_baseline else ""
    told = entry["units"][unit] if entry and entry["units"] and entry["units"][unit]["seeds"] > 1 else None
    word = verdict(entry, unit) if entry else "baseline" if is_baseline else f"no run of {data['baseline']}"
    row = {f"{unit} ratio": ratio(entry, unit) if entry else "1" if is_baseline else "-", "verdict": word + against}
    row["p (Holm)"] = f"{entry['adjusted']:.3f}" if entry and told else "-"
    row["seeds for 2x"] = "-" if told is None else str(told["seeds_needed"] or "over 99")
    for other in data["units"]:
        if other != unit:
            row[f"{other} ratio"] = ratio(entry, other) if entry else "1" if is_baseline else "-"
    if s["to_target"] is not None:
        cost = s["to_target"][unit]
        row[f"{unit} to target"] = "not reached" if cost["value"] is None else f"{cost['value']:.0f}"
    return row


def is_single(data: dict[str, Any]) -> bool:
    """Whether there is no more than one run to show."""
    return len(data["series"]) == 1 and len(data["series"][0]["seeds"]) == 1


def _value(value: dict[str, float | None] | None, interval: bool = False) -> str:
    if value is None:
        return "-"
    if not interval or value["low"] is None:
        return f"{value['value']:.3f}"
    return f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"


def _part(series: dict[str, Any], part: str) -> str:
    """Seconds of a part of the time, and their share."""
    seconds = series["time"][part]
    return f"{seconds:.0f} ({seconds / series['seconds']:.0%})" if seconds else "-"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def remarks(data: dict[str, Any]) -> list[str]:
    """What a reader must know beside the table."""
    cells, single = data["cells"], is_single(data)
    counts = {status: sum(cell["status"] == status for cell in cells) for status in ("done", "failed", "unfinished")}
    text = f"{counts['done']} of {data['expected']} {'runs' if single else 'cells'} are done"
    text += "".join(f", {count} {status}" for status, count in counts.items() if count and status != "done")
    found = [f"{text}."]
    found += [f"{cell['folder']} failed: {cell['error']}" for cell in cells if cell["status"] == "failed"]
    scored = {f"{s['task']}, {s['method']}" for s in data["series"] if s["metric"] == "rouge_l"}
    found += [f"Accuracy of {name} is ROUGE-L against the reference responses." for name in sorted(scored)]
    if single:
        return [
            *found,
            f"Intervals are {data['level']:.0%} ones over held-out prompts: they say nothing of other seeds.",
        ]
    targets = {(s["task"], s["method"]): s["target"] for s in data["series"] if s["target"]}
    for (task, method), target in targets.items():
        value = "none" if target["value"] is None else f"{target['value']:.3f}"
        found.append(f"Target of {task}, {method}: {value} ({target['why']}).")
    if not any(entry["units"] for entry in data["comparisons"]):
        return found
    found.append(
        f"Ratios: how many times the {data['unit']} of {data['baseline']} it took for what that learns up to the "
        "target accuracy, the mean accuracy up to there being the same; in brackets those that the "
        f"{data['level']:.0%} test does not refuse."
    )
    found.append(
        "Runs are paired by seed and held-out prompt; the noise of a run is what seeds and curricula leave of the "
        f"accuracies of all of a method's runs. A verdict needs several seeds, an interval in {data['unit']} that "
        "leaves out 1, and a paired test that agrees after Holm's correction for all comparisons."
    )
    found.append(
        "Seeds for 2x: with so many, a curriculum that takes half as long would be told 4 times in 5, at this noise."
    )
    return found


def print_table(data: dict[str, Any], console: Console | None = None) -> None:
    """Print the table to the terminal, one line a row, and what must be known beside it.

    Args:
        data (`dict[str, Any]`):
            What [`~edco_rl.report.build.build`] gives.
        console (`Console`, *optional*):
            Where to; by default standard output.
    """
    found = rows(data)
    # What all rows have in common is in the title.
    names = [name for name in ("task", "method", "curriculum") if len({row[name] for row in found}) > 1]
    names = names or ["curriculum"]
    lines = [
        {"run": " ".join(row[name] for name in names)}
        | {name: value for name, value in row.items() if name not in ("task", "method", "curriculum")}
        for row in found
    ]
    console = console or Console()
    print_rows(lines, title=data["title"], elsewhere="the page and table.csv", console=console)
    for line in remarks(data):
        console.print(line, soft_wrap=not console.is_terminal, markup=False)


def write_markdown(data: dict[str, Any], path: Path) -> None:
    """The table as Markdown, with the remarks below it."""
    found = rows(data)
    names = list(found[0])
    lines = [f"# {data['title']}", "", f"| {' | '.join(names)} |", f"| {' | '.join('---' for _ in names)} |"]
    lines += [f"| {' | '.join(row[name] for name in names)} |" for row in found]
    write_text(path, "\n".join([*lines, "", *(f"- {line}" for line in remarks(data))]) + "\n")


def write_csv(data: dict[str, Any], path: Path) -> None:
    """Every number, one line a task, method and curriculum; an infinite one is empty."""
    compared = {(e["task"], e["method"], e["curriculum"]): e for e in data["comparisons"]}
    lines = []
    for s in data["series"]:
        entry = compared.get((s["task"], s["method"], s["curriculum"])) or {"units": {}}
        line: dict[str, Any] = {name: s[name] for name in ("task", "method", "curriculum")}
        line["seeds"] = " ".join(map(str, s["seeds"]))
        for name in ("start", "final"):
            line |= {f"{name}_accuracy{_suffix(key)}": value for key, value in (s[name] or {}).items()}
        line |= {name: s[name] for name in ("steps", "tokens", "seconds")}
        line |= {f"seconds_{part}": value for part, value in s["time"].items()}
        line |= {f"groups_{name}": value for name, value in s["groups"].items()}
        line["prompts_used"] = s["distinct"]
        line["target_accuracy"] = s["target"] and s["target"]["value"]
        for unit, cost in (s["to_target"] or {}).items():
            line |= {f"{unit}_to_target": cost["value"], f"{unit}_seeds_reached": cost["seeds_reached"]}
        for unit, result in entry["units"].items():
            line |= {f"{unit}_ratio{_suffix(key)}": result[name] for key, name in _RATIO}
        for unit in list(entry["units"])[:1]:
            line |= {"accuracy_difference": entry["units"][unit]["difference"]}
            line |= {"p_value": entry["units"][data["unit"]]["p_value"], "p_adjusted": entry["adjusted"]}
            line |= {"verdict": entry["verdict"], "seeds_for_2x": entry["units"][data["unit"]]["seeds_needed"]}
        lines.append(line)
    names = list(dict.fromkeys(name for line in lines for name in line))
    text = io.StringIO()
    writer = csv.DictWriter(text, names)
    writer.writeheader()
    writer.writerows(lines)
    write_text(path, text.getvalue())


_RATIO = (("value", "ratio"), ("low", "low"), ("high", "high"))


def _suffix(key: str) -> str:
    return "" if key == "value" else f"_{key}"
