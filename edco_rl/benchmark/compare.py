"""One recipe under several curricula: trains once for each from the same weights, and prints what came of it.

    python -m edco_rl.benchmark.compare grpo --config recipes/quickstart/grpo_edco.yaml \\
        --compared_strategies random edco --compared_gates none equal_rewards

Takes every field of the recipe. All runs share one vLLM server; each has a folder of its own below `output_dir`.
"""

import copy
import dataclasses
import json
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from ..config import ConfigurationError, CurriculumConfig, EngineConfig
from ..engine.launch import lora_rank_for_vllm
from ..engine.server import VLLMServer
from .provenance import versions
from .run import METHODS, method_parser
from .setup import check_model_and_data
from .statistics import wilson_interval

RESULT_FILE = "compare.json"
_NO_GATE = "none"


@dataclass
class CompareConfig:
    """What is compared."""

    compared_strategies: list[str] = field(
        default_factory=lambda: ["random", "edco"], metadata={"help": "Strategies, by name or import path."}
    )
    compared_gates: list[str] = field(
        default_factory=lambda: [_NO_GATE],
        metadata={"help": "Gates, by name or import path: one run for each and each strategy. none: without a gate."},
    )


def compare(method: str, compared: CompareConfig, script: Any, training: Any, model: Any, *rest: Any) -> list[Any]:
    """Run a recipe once for each strategy and gate.

    Args:
        method (`str`):
            `distill`, `grpo`, `ppo` or `sft`.
        compared (`CompareConfig`):
            What differs between the runs.
        script, training, model, *rest:
            A recipe's settings, as the method's runner takes them.

    Returns:
        `list[dict]`: one entry a run: `strategy`, `gate`, `metric` (`accuracy`, or `rouge_l` of distillation to free
        text), `before` and `after` (`None` where not measured), `held_out_prompts`, `steps`, `seconds` (of training),
        and means over steps of what was logged under `curriculum/groups_...`.
    """
    check_model_and_data(script, model)
    curriculum, engine, *others = rest
    assert isinstance(curriculum, CurriculumConfig) and isinstance(engine, EngineConfig)
    folder = Path(training.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    results = []
    with ExitStack() as stack:
        if engine.engine_mode == "server" and engine.engine_url is None:
            adapters = model.use_peft and engine.transport in ("auto", "adapter")
            if adapters and engine.engine_max_lora_rank is None:
                engine = dataclasses.replace(engine, engine_max_lora_rank=lora_rank_for_vllm(model.lora_r))
            server = VLLMServer(model.model_name_or_path, engine, engine.engine_log or folder / "engine.log")
            engine = dataclasses.replace(engine, engine_url=stack.enter_context(server).url)
        for strategy in compared.compared_strategies:
            for gate in compared.compared_gates:
                arguments = copy.deepcopy(training)
                arguments.output_dir = str(folder / f"{strategy}-{gate}".replace(":", "."))
                gates = [] if gate == _NO_GATE else [gate]
                chosen = dataclasses.replace(curriculum, strategy=strategy, gates=gates)
                settings = (copy.deepcopy(script), arguments, copy.deepcopy(model), chosen, engine, *others)
                summary = METHODS[method].run(*settings)
                results.append({"strategy": strategy, "gate": gate, **_result(summary, Path(arguments.output_dir))})
    text = json.dumps({"method": method, "runs": results, "versions": versions()}, indent=2)
    (folder / RESULT_FILE).write_text(text + "\n")
    return results


def _result(summary: dict[str, Any], folder: Path) -> dict[str, Any]:
    history = json.loads((folder / "trainer_state.json").read_text())["log_history"]
    logs = [entry for entry in history if "loss" in entry]
    prefix = "curriculum/groups_"
    names = sorted({name for entry in logs for name in entry if name.startswith(prefix)})
    metric = next(name.removesuffix("_after") for name in summary if name.endswith("_after"))
    return {
        "metric": metric,
        **{when: summary[f"{metric}_{when}"] for when in ("before", "after")},
        **{name: summary[name] for name in ("held_out_prompts", "steps")},
        "seconds": summary["seconds"]["training"],
        **{name.removeprefix("curriculum/"): float(np.mean([entry[name] for entry in logs])) for name in names},
    }


def print_table(method: str, results: list[dict[str, Any]]) -> None:
    """Print the runs, one a line; a column that nothing was measured for is left out."""
    steps, prompts = results[0]["steps"], results[0]["held_out_prompts"]
    is_share = results[0]["metric"] == "accuracy"
    after = "after (95 % interval)" if is_share else "after"
    columns = {
        "strategy": [entry["strategy"] for entry in results],
        "gate": [entry["gate"] for entry in results],
        "before": [_share(entry["before"], digits=3) for entry in results],
        after: [_accuracy(entry["after"], prompts) if is_share else _share(entry["after"], 3) for entry in results],
        "with signal": [_share(entry.get("groups_with_signal")) for entry in results],
        "trained on": [_share(entry.get("groups_with_signal_trained")) for entry in results],
        "dropped a step": [_number(entry.get("groups_dropped")) for entry in results],
        "seconds": [f"{entry['seconds']:.0f}" for entry in results],
    }
    title = f"{method}, {steps} optimizer steps each"
    if prompts:
        title += f"; {'accuracy' if is_share else 'ROUGE-L'} on {prompts} held-out prompts, greedy, before and after"
    if method not in ("distill", "sft"):
        title += "; groups with signal, of those generated and of those trained on"
    table = Table(title=title)
    shown = {name: cells for name, cells in columns.items() if set(cells) != {"-"}}
    for name in shown:
        table.add_column(name, no_wrap=name in ("strategy", "gate"))
    for row in zip(*shown.values(), strict=True):
        table.add_row(*row)
    Console().print(table)


def _share(value: float | None, digits: int | None = None) -> str:
    if value is None:
        return "-"
    return f"{value:.0%}" if digits is None else f"{value:.{digits}f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _accuracy(value: float | None, prompts: int) -> str:
    if value is None:
        return "-"
    low, high = wilson_interval(round(value * prompts), prompts)
    return f"{value:.3f} ({low:.3f} to {high:.3f})"


def main() -> None:
    """Parse, train, print."""
    method, *arguments = sys.argv[1:] or [""]
    if method not in METHODS:
        raise SystemExit(f"compare: expected a method first, one of {', '.join(METHODS)}; got {method!r}.")
    parser = method_parser(method, first=CompareConfig, prog=f"python -m edco_rl.benchmark.compare {method}")
    try:
        settings = parser.parse_args_and_config(args=arguments, fail_with_unknown_args=True)
        print_table(method, compare(method, *settings))
    except ConfigurationError as error:
        raise SystemExit(f"compare: error: {error}") from error


if __name__ == "__main__":
    main()
