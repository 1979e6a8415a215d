"""The comparison as a table: CSV with every number, Markdown and the terminal with those to read."""

import csv
import io
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ..store import write_text

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


def ratio(entry: dict[str, Any], unit: str, level: float) -> str:
    """A ratio with its interval; what was not reached is said."""
    if not entry["units"]:
        return "-"
    result = entry["units"][unit]
    if not result["reached"] and not result["baseline_reached"]:
        return "neither got there"
    high = "∞" if result["high"] is None else f"{result['high']:.2f}"
    interval = f"[{result['low']:.2f}, {high}]"
    if not result["reached"]:
        return f"not reached {interval}"
    if not result["baseline_reached"]:
        return f"baseline did not get there {interval}"
    return f"{result['ratio']:.2f} {interval}"


def rows(data: dict[str, Any]) -> list[dict[str, str]]:
    """One row a task, method and curriculum, as text to read."""
    compared = {(e["task"], e["method"], e["curriculum"]): e for e in data["comparisons"]}
    groups = any(s["groups"]["dropped"] is not None for s in data["series"])
    found = []
    for s in data["series"]:
        entry = compared.get((s["task"], s["method"], s["curriculum"]))
        failed = sum(
            (c["task"], c["method"], c["curriculum"]) == (s["task"], s["method"], s["curriculum"])
            and c["status"] != "done"
            for c in data["cells"]
        )
        is_baseline = s["curriculum"] == data["baseline"]
        against = f" (against {' '.join(entry['against'])})" if entry and is_baseline else ""
        row = {
            "task": s["task"],
            "method": s["method"],
            "curriculum": s["curriculum"],
            "seeds": f"{len(s['seeds'])}" + (f" ({failed} missing)" if failed else ""),
            "accuracy before": _value(s["start"]),
            f"after [{data['level']:.0%}]": _value(s["final"], interval=True),
            "target": f"{entry['target']:.2f}" if entry and entry["target"] is not None else "-",
        }
        for unit in data["units"]:
            row[f"{unit} ratio"] = (
                ratio(entry, unit, data["level"]) + against if entry else "1" if is_baseline else "-"
            )
            against = ""
        told = entry and entry["units"] and entry["units"][data["unit"]]["seeds"] > 1
        row["p (Holm)"] = f"{entry['adjusted']:.3f}" if entry and told else "-"
        row["verdict"] = (
            verdict(entry, data["unit"]) if entry else "baseline" if is_baseline else f"no run of {data['baseline']}"
        )
        row["with signal"] = _share(s["groups"]["with_signal"])
        if groups:
            row["trained on"] = _share(s["groups"]["with_signal_trained"])
            row["dropped a step"] = "-" if s["groups"]["dropped"] is None else f"{s['groups']['dropped']:.1f}"
        row |= {"prompts used": _share(s["distinct"]), "seconds": f"{s['seconds']:.0f}"}
        row |= {f"of them {part}": _part(s, part) for part in _BEFORE_TRAINING if part in data["parts"]}
        found.append(row)
    return found


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
    cells = data["cells"]
    counts = {status: sum(cell["status"] == status for cell in cells) for status in ("done", "failed", "unfinished")}
    text = f"{counts['done']} of {data['expected']} cells are done"
    text += "".join(f", {count} {status}" for status, count in counts.items() if count and status != "done")
    found = [f"{text}."]
    found += [f"{cell['folder']} failed: {cell['error']}" for cell in cells if cell["status"] == "failed"]
    scored = {f"{s['task']}, {s['method']}" for s in data["series"] if s["metric"] == "rouge_l"}
    found += [f"Accuracy of {name} is ROUGE-L against the reference responses." for name in sorted(scored)]
    targets = {(s["task"], s["method"]): s["target"] for s in data["series"] if s["target"]}
    for (task, method), target in targets.items():
        value = "none" if target["value"] is None else f"{target['value']:.3f}"
        found.append(f"Target of {task}, {method}: {value} ({target['why']}).")
    found.append(
        f"Ratios: {', '.join(data['units'])} to the target accuracy, over those of {data['baseline']}, with a "
        f"{data['level']:.0%} bootstrap interval over seeds and held-out prompts; where a side did not reach the "
        "target, the interval holds all that the ratio can then be."
    )
    found.append(
        f"A verdict needs several seeds, an interval in {data['unit']} that leaves out 1, and a paired test of mean "
        "accuracy over training that agrees after Holm's correction for all comparisons."
    )
    return found


def print_table(data: dict[str, Any]) -> None:
    """Print the table to the terminal, one line a row; columns without content are left out."""
    found = rows(data)
    table = Table(title=data["title"])
    table.add_column("run", overflow="fold")
    wanted = ["seeds", "accuracy before", f"after [{data['level']:.0%}]", f"{data['unit']} ratio", "verdict"]
    wanted += ["with signal", "trained on", "dropped a step", "seconds"]
    wanted += [f"of them {part}" for part in _BEFORE_TRAINING]
    shown = [name for name in wanted if any(row.get(name, "-") != "-" for row in found)]
    for name in shown:
        table.add_column(name)
    for row in found:
        names = [row[name] for name in ("task", "method", "curriculum")]
        table.add_row(" ".join(names), *(row[name] for name in shown))
    console = Console()
    console.print(table)
    for line in remarks(data):
        console.print(line, soft_wrap=True)


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
        line["target_accuracy"] = entry.get("target")
        for unit, result in entry["units"].items():
            line |= {f"{unit}_ratio{_suffix(key)}": result[name] for key, name in _RATIO}
            line |= {f"{unit}_to_target": result["cost"]["value"] if result["reached"] else None}
            line |= {f"{unit}_seeds_reached": result["cost"]["seeds_reached"]}
        for unit in list(entry["units"])[:1]:
            line |= {"accuracy_difference": entry["units"][unit]["difference"]}
            line |= {"p_value": entry["units"][data["unit"]]["p_value"], "p_adjusted": entry["adjusted"]}
            line |= {"verdict": entry["verdict"]}
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
