"""How many groups of rollouts carry a signal, by strategy, with a gate and without.

    python -m edco_rl.benchmark.group_signal --config recipes/quickstart/grpo_edco.yaml --max_steps 12

Trains with GRPO for a few steps from the same weights, once for each strategy and each choice of gates, all on one
vLLM server, and prints a table. Takes every field of a GRPO recipe.
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
from trl import GRPOConfig, ModelConfig, TrlParser, get_peft_config
from trl.scripts.grpo import GRPOScriptArguments

from ..config import CurriculumConfig, DataConfig, EngineConfig, RunConfig
from ..engine.server import VLLMServer
from ..rewards import get_rewards
from ..trainers import CurriculumGRPOTrainer
from .run import check_model_and_data, load_data, set_model_arguments, versions

RESULT_FILE = "group_signal.json"


@dataclass
class GroupSignalConfig:
    """What is compared."""

    compared_strategies: list[str] = field(
        default_factory=lambda: ["random", "edco", "combined", "mopps"],
        metadata={"help": "Strategies to compare, by name or import path."},
    )
    compared_gate: str = field(default="equal_rewards", metadata={"help": "Gate to train with, and without."})


def measure(
    compared: GroupSignalConfig,
    script: GRPOScriptArguments,
    training: GRPOConfig,
    model: ModelConfig,
    curriculum: CurriculumConfig,
    engine: EngineConfig,
    data: DataConfig,
    run: RunConfig,
) -> list[dict[str, Any]]:
    """Train once for each strategy, without and with the gate.

    Returns:
        `list[dict[str, Any]]`: one entry a run: `strategy`, `gate`, and means over optimizer steps: `generated`
        (groups), `with_signal` (share of these), `trained_with_signal` (share of those the optimizer got), `dropped`,
        `missing` (groups) and `seconds`.
    """
    check_model_and_data(script, model)
    assert model.model_name_or_path is not None and not isinstance(run.reward_kwargs, str)
    rewards = get_rewards(script.reward_funcs, run.reward_kwargs)
    rows, _ = load_data(script, training, data)
    set_model_arguments(training, model)
    folder = Path(training.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    results = []
    with ExitStack() as stack:
        url = engine.engine_url
        if url is None:
            server = VLLMServer(model.model_name_or_path, engine, folder / "engine.log")
            url = stack.enter_context(server).url
        for strategy in compared.compared_strategies:
            for gates in ([], [compared.compared_gate]):
                trainer = CurriculumGRPOTrainer(
                    model.model_name_or_path,
                    rewards,
                    copy.deepcopy(training),
                    rows,
                    peft_config=get_peft_config(model),
                    curriculum=dataclasses.replace(curriculum, strategy=strategy, gates=gates),
                    engine=dataclasses.replace(engine, engine_url=url),
                    share_prompts=run.share_prompts,
                )
                try:
                    trainer.train()
                finally:
                    trainer.close()
                logs = [entry for entry in trainer.state.log_history if "loss" in entry]
                results.append({"strategy": strategy, "gate": bool(gates), **_means(logs, trainer)})
    return results


def _means(logs: list[dict[str, float]], trainer: CurriculumGRPOTrainer) -> dict[str, float]:
    def mean(name: str, default: float = 0.0) -> float:
        return float(np.mean([entry.get(f"curriculum/{name}", default) for entry in logs]))

    with_signal = mean("groups_with_signal")
    return {
        "generated": trainer.curriculum.batch_size + mean("groups_refilled"),
        "with_signal": with_signal,
        "trained_with_signal": mean("groups_with_signal_trained", np.nan) if trainer.gates else with_signal,
        "dropped": mean("groups_dropped"),
        "missing": mean("groups_missing"),
        "seconds": float(np.mean([entry["time/step"] for entry in logs])),
    }


def print_table(results: list[dict[str, Any]], gate: str) -> None:
    """Print the runs, one a line."""
    table = Table(title=f"Groups with signal, means over optimizer steps; gate {gate}")
    for column in (
        "strategy",
        "gate",
        "generated",
        "with signal",
        "trained on with signal",
        "dropped",
        "missing",
        "s",
    ):
        table.add_column(column, justify="left" if column in ("strategy", "gate") else "right")
    for entry in results:
        table.add_row(
            entry["strategy"],
            "yes" if entry["gate"] else "no",
            f"{entry['generated']:.1f}",
            f"{entry['with_signal']:.0%}",
            f"{entry['trained_with_signal']:.0%}",
            f"{entry['dropped']:.1f}",
            f"{entry['missing']:.1f}",
            f"{entry['seconds']:.1f}",
        )
    Console().print(table)


def main() -> None:
    """Parse, measure, print."""
    parser = TrlParser(
        (
            GroupSignalConfig,
            GRPOScriptArguments,
            GRPOConfig,
            ModelConfig,
            CurriculumConfig,
            EngineConfig,
            DataConfig,
            RunConfig,
        ),
        prog="python -m edco_rl.benchmark.group_signal",
    )
    compared, script, training, *rest = parser.parse_args_and_config(args=sys.argv[1:], fail_with_unknown_args=True)
    results = measure(compared, script, training, *rest)
    (Path(training.output_dir) / RESULT_FILE).write_text(
        json.dumps({"runs": results, "steps": training.max_steps, "versions": versions()}, indent=2) + "\n"
    )
    print_table(results, compared.compared_gate)


if __name__ == "__main__":
    main()
