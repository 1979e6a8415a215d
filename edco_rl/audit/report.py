"""What an audit ends with: tables, a plot, and what to use."""

from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from ..terminal import print_rows

GOOD_AGREEMENT = 0.8


def recommend(result: dict[str, Any], cost_limit: float) -> str:
    """Which estimator to use and why, in one sentence; none where the reference is no more than noise."""
    ceiling = result["reference"]["ceiling"]
    if not ceiling > 0:
        return (
            "No estimator can be recommended: the reference does not agree with itself on these prompts, so that "
            "agreement with it says nothing. More reference_samples, or more samples, would tell."
        )
    # What costs nothing needs rollouts: it is no choice for prompts that have none yet.
    known = [e for e in result["estimators"] if np.isfinite(e["reference_correlation"]["value"])]
    entries = [e for e in known if e["seconds"] > 0]
    if not entries:
        return "No estimator can be recommended: none tells these prompts apart."
    affordable = [e for e in entries if e["relative_seconds"]["value"] <= cost_limit]
    cheapest = min(entries, key=lambda e: e["relative_seconds"]["value"])
    pool = affordable or [e for e in entries if e["relative_seconds"]["low"] < cheapest["relative_seconds"]["high"]]
    best = max(pool, key=lambda e: e["reference_correlation"]["value"])
    correlation, cost = best["reference_correlation"], best["relative_seconds"]["value"]
    if not correlation["low"] > 0:
        return (
            f"No estimator can be recommended: the best one that is cheap, {best['label']}, may agree with the "
            f"reference by chance alone (rank correlation {_interval(correlation)}). More samples would tell."
        )
    why = (
        f"of those that cost at most {cost_limit:.0%} of a full sequence it agrees best with the reference"
        if affordable
        else f"none costs at most {cost_limit:.0%} of a full sequence, and of those whose cost cannot be told from "
        "the cheapest's it agrees best with the reference"
    )
    sentence = (
        f"Use {best['label']}: {why} (rank correlation {_interval(correlation)}, where the reference's own noise "
        f"allows {ceiling:.2f}), at {cost:.1%} of the time"
    )
    auc = best["wrong_answer_auc"]
    if np.isfinite(auc["value"]):
        sentence += f", and it finds wrong answers with an AUC of {_interval(auc)}"
    better = max(entries, key=lambda e: e["reference_correlation"]["value"])
    if correlation["value"] < GOOD_AGREEMENT and better is not best:
        sentence += (
            f"; the best of all here, {better['label']}, reaches {better['reference_correlation']['value']:.2f} at "
            f"{better['relative_seconds']['value']:.1%}"
        )
    return sentence + "."


def print_report(result: dict[str, Any], folder: Path) -> None:
    """Print tables and advice."""
    reference = result["reference"]
    console = Console()
    agreement = [np.nan_to_num(entry["reference_correlation"]["value"], nan=-2) for entry in result["estimators"]]
    ranked = [result["estimators"][number] for number in np.argsort(agreement)[::-1]]
    print_rows(
        [
            {
                "estimator": entry["label"],
                "reference": _interval(entry["reference_correlation"]),
                "time": _percent(entry["relative_seconds"]),
                "reliability": _interval(entry["reliability"]) + "*" * (entry["reliability_over"] == "rewording"),
                "AUC wrong": _interval(entry["wrong_answer_auc"]),
                "reward variance": _interval(entry["reward_variance_correlation"]),
                "tokens": _percent(entry["relative_tokens"]),
            }
            for entry in ranked
        ],
        title=f"{result['dataset']}, {result['model']}, {result['prompts']} prompts",
        elsewhere=f"{folder / 'audit.json'}, or --json",
        console=console,
    )
    console.print(
        "Each with its 95 % interval. Reference: rank correlation with it. Time, tokens: of one full sequence a "
        "prompt. Reliability: rank correlation of two measurements; * of a deterministic one, which repeats itself "
        "exactly, under a reworded prompt. AUC: for a wrong greedy answer.",
        style="dim",
    )
    console.print(
        f"Reference: mean of {reference['samples']} full sequences of at most {reference['max_tokens']} tokens "
        f"({reference['mean_tokens']:.0f} on average); its reliability is {_interval(reference['reliability'])} "
        f"(of a single sequence {reference['single_sample_reliability']:.2f}), so no estimator can be expected to "
        f"agree with it better than {reference['ceiling']:.2f}."
    )
    if np.isfinite(result["wrong_answers"]):
        console.print(f"Reward {result['reward']}: {result['wrong_answers']:.0%} of the greedy answers are wrong.")
    if result["overlap"]:
        console.print(result["overlap"]["text"], soft_wrap=True, markup=False)
    console.print(f"Plot and numbers: {folder}", soft_wrap=True)
    advised = result["recommendation"].startswith("Use ")
    console.print(result["recommendation"], style="bold" if advised else None, soft_wrap=True)
    if result["supervised"] is not None:
        _print_splits(result["supervised"], console)
    if result["references"] is not None:
        _print_references(result, console)
    if result["pool"] is None:
        console.print("Nothing can be said of curricula: no reward is known. reward_func names one.")
    else:
        _print_curricula(result, console)


def _print_curricula(result: dict[str, Any], console: Console) -> None:
    reference, audit = result["reference"], result["config"]["audit"]
    rows = [
        {
            "curriculum": one["name"],
            "groups with a signal": _interval(one["signal_share"]),
            "steps": "-" if one["expected_steps_ratio"] is None else f"{one['expected_steps_ratio']:.2f}",
        }
        for one in sorted(result["curricula"], key=lambda one: -one["signal_share"]["value"])
    ]
    rows.append({"curriculum": "best possible", "groups with a signal": _interval(result["best_possible"])})
    print_rows(
        rows,
        title=f"Groups of {audit['num_generations']}, of the {audit['curriculum_share']:.0%} of the prompts that a "
        "curriculum takes",
        elsewhere="--json",
        console=console,
    )
    console.print(
        "Each with its 95 % interval, of the curricula for all together. Steps: expected, of those of random order, "
        "by the groups with a signal. Best possible: ranked by the answers but for one group a prompt, "
        "measured on that.",
        style="dim",
    )
    shares = ", ".join(f"{_interval(share)} {name}" for name, share in result["pool"].items())
    console.print(
        f"The pool: {shares} (of {reference['samples']} answers at temperature {reference['temperature']:g} all are "
        "right, rewards differ, or all are alike and not right)."
    )
    advice = result["advice"]
    console.print(f"Train with {advice['strategy']}: {advice['reason']}", style="bold", soft_wrap=True)
    console.print(advice["recipe"], markup=False, highlight=False, soft_wrap=True)


def _print_splits(supervised: dict[str, Any], console: Console) -> None:
    rows = [
        {
            "score": split["label"],
            "AUC wrong": _interval(split["wrong_answer_auc"]),
            **{f"wrong, {name}": _interval(split[name]) for name in ("easy", "medium", "hard")},
            "of a random third": _interval(split["wrong_ratio"]),
        }
        for split in sorted(supervised["splits"], key=lambda split: -np.nan_to_num(split["wrong_ratio"]["value"]))
    ]
    print_rows(rows, title="Complexity-aware fine-tuning: thirds by each score", elsewhere="--json", console=console)
    console.print(
        "Each with its 95 % interval, for all together. Wrong: share of greedy answers. Of a random third: how many "
        "times its wrong answers the hard third has.",
        style="dim",
    )
    advice = supervised["advice"]
    console.print(f"Split by {advice['split'] or 'nothing'}: {advice['reason']}", style="bold", soft_wrap=True)
    if advice["recipe"]:
        console.print(advice["recipe"], markup=False, highlight=False, soft_wrap=True)


def _print_references(result: dict[str, Any], console: Console) -> None:
    found, share = result["references"], result["config"]["audit"]["curriculum_share"]
    rows = [
        {"highest by": one["label"], "loss": _interval(one["loss_ratio"])}
        for one in sorted(found["curricula"], key=lambda one: -np.nan_to_num(one["loss_ratio"]["value"]))
    ]
    title = f"Supervised fine-tuning and distillation: the {share:.0%} of the rows that a curriculum takes"
    print_rows(rows, title=title, elsewhere="--json", console=console)
    console.print(
        f"Loss: that on their references, in parts of the mean of all rows, {_interval(found['loss'])} nats a token, "
        "with 95 % intervals for all together. What has no loss teaches nothing; that most loss is best is not said.",
        style="dim",
    )


def save_plot(result: dict[str, Any], cost_limit: float, path: Path) -> None:
    """Agreement with the reference against cost, as SVG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.subplots()
    for number, entry in enumerate(result["estimators"]):
        cost, agreement = entry["relative_seconds"], entry["reference_correlation"]
        if not np.isfinite(agreement["value"]):
            continue
        axes.errorbar(
            cost["value"],
            agreement["value"],
            xerr=[[cost["value"] - cost["low"]], [cost["high"] - cost["value"]]],
            yerr=[[agreement["value"] - agreement["low"]], [agreement["high"] - agreement["value"]]],
            fmt="os^Dv"[number // 10 % 5],
            color=f"C{number % 10}",
            capsize=2,
            label=entry["label"],
        )
    axes.axhline(
        result["reference"]["ceiling"], color="black", linestyle=":", label="most the reference's noise allows"
    )
    axes.axhline(GOOD_AGREEMENT, color="grey", linewidth=0.8)
    axes.axvline(cost_limit, color="grey", linewidth=0.8)
    axes.set(
        xlabel="time, of one full sequence a prompt",
        ylabel="rank correlation with the reference",
        title=f"{result['dataset']}, {result['prompts']} prompts",
    )
    axes.set_xscale("symlog", linthresh=0.01)
    figure.legend(loc="outside right upper", fontsize="small")
    figure.savefig(path, format="svg")


def _interval(interval: dict[str, float]) -> str:
    if not np.isfinite(interval["value"]):
        return "-"
    return f"{interval['value']:.2f} [{interval['low']:.2f}, {interval['high']:.2f}]"


def _percent(interval: dict[str, float]) -> str:
    if interval["high"] == 0:
        return "free"
    return f"{interval['value']:.1%} [{interval['low']:.1%}, {interval['high']:.1%}]"
