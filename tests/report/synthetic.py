"""Matrices in the files `edco-rl benchmark` writes, with an effect that is known."""

import itertools
import json

import numpy as np

from edco_rl.benchmark.pool_difficulty import pool_path
from edco_rl.store import load, save_value

VERSIONS = {"python": "3.11.0", "trl": "1.16.0"}
POOL = 120
MODEL = "a/model"


def write_matrix(
    folder,
    *,
    speeds,
    tasks=("addition", "spelling"),
    methods=("grpo", "sft"),
    seeds=(1, 2, 3),
    steps=60,
    every=10,
    prompts=100,
    skip=lambda *cell: False,
):
    """A matrix whose runs of a curriculum learn `speeds[curriculum]` times as fast as those with speed 1."""
    (folder / "cells").mkdir(parents=True)
    config = {"baseline": "random", "budget_unit": "steps", "budget": steps, "target_accuracy": None}
    config |= {"seeds": list(seeds), "methods": list(methods), "curricula": list(speeds), "tasks": list(tasks)}
    count = len(seeds) * len(methods) * len(speeds) * len(tasks)
    save_value(folder / "benchmark", config, {"cells": count, "versions": VERSIONS})
    for task, seed in itertools.product(tasks, seeds):
        difficulty = np.random.default_rng(seed).uniform(0.5, 4, size=POOL)
        values = {"task": task, "seed": seed, "difficulty": difficulty.round(4).tolist()}
        save_value(pool_path(folder, task, f"{task}-{seed}", MODEL), {}, values)
        for method, curriculum in itertools.product(methods, speeds):
            if not skip(task, method, curriculum, seed):
                path = folder / "cells" / f"{task}_{method}_{curriculum}_{seed}"
                write_run(path, task, method, curriculum, seed, speeds[curriculum], steps, every, prompts)
                cell = {"task": task, "method": method, "curriculum": curriculum, "seed": seed}
                save_value(path / "cell", {}, {**cell, "target_accuracy": None, "status": "done"})
    return folder


def write_run(
    path, task="addition", method="grpo", curriculum="edco", seed=1, speed=1.0, steps=60, every=10, prompts=100
):
    """A run by itself, as `edco-rl train` leaves it, without a model."""
    path.mkdir(parents=True)
    rng = np.random.default_rng([seed, *map(ord, f"{task} {method} {curriculum}")])
    hardness = np.random.default_rng(seed).uniform(size=prompts)
    rate = speed * np.exp(0.1 * rng.normal()) / 20
    about = {
        "method": method,
        "metric": "rouge_l" if method == "distillation" else "accuracy",
        "prompts_in_pool": POOL,
        "pool_fingerprint": f"{task}-{seed}",
        "held_out_prompts": prompts,
        "held_out_fingerprint": f"held-out-{task}-{seed}",
        "versions": VERSIONS,
        "hardware": {"cpu": "a processor", "cores": 2},
        "commit": "0123abc",
        "config": {
            "script": {"dataset_name": f"reasoning_gym:{task}"},
            "training": {"seed": seed},
            "curriculum": {"strategy": curriculum, "curriculum_interval": every, "gates": None},
            "model": {"model_name_or_path": MODEL},
        },
    }
    subjects = [("long", "short")[number % 2] for number in range(prompts)]
    records = [{"kind": "run", "step": 0, **about, "max_steps": steps, "held_out_subjects": subjects}]
    tokens, told = {"generated": 0, "scored": 0, "trained": 0}, set()

    def evaluate(step):
        accuracy = 0.7 - 0.4 * np.exp(-rate * step)
        right = hardness + rng.uniform(-0.1, 0.1, size=prompts) < accuracy
        text = "".join("1" if answer else "0" for answer in right)
        line = {"kind": "evaluation", "step": step, "seconds": 5.0 * step, "tokens": dict(tokens)}
        records.append({**line, "right": text})

    evaluate(0)
    parts = {"rollout": 0.0, "scoring": 0.0, "sync": 0.0, "optimizer": 0.0}
    for step in range(1, steps + 1):
        tokens = {
            "generated": tokens["generated"] + 200,
            "scored": tokens["scored"],
            "trained": tokens["trained"] + 900,
        }
        parts = {"rollout": 1.5 * step, "scoring": 0.4 * step, "sync": 0.6 * step, "optimizer": 2.5 * step}
        chosen = rng.choice(POOL, size=8, replace=False).tolist()
        signal = method == "grpo"
        groups = [
            [i, round(rng.uniform(), 4), int(rng.uniform() < 0.4) if signal else None, 1.0 if signal else None, 1]
            for i in chosen
        ]
        new = {str(i): [f"What is {i} + {seed}, <b>{task}</b>?", ("long", "short")[i % 2]] for i in set(chosen) - told}
        told.update(chosen)
        records.append({"kind": "texts", "step": step, "texts": new})
        metrics = {"entropy": float(2 - step / steps), "curriculum/groups_with_signal": 0.4} if signal else {}
        line = {"kind": "step", "step": step, "seconds": 5.0 * step, "tokens": dict(tokens), "parts": parts}
        scores = [round(4 * rng.uniform(), 4) if curriculum == "edco" else None for _ in chosen]
        records.append({**line, "prompts": chosen, "prompt_scores": scores, "groups": groups, "metrics": metrics})
        logged = {"loss": 2 / step, **({"completions/mean_length": 20 + step} if signal else {})}
        records.append({"kind": "log", "step": step, "metrics": logged})
        if curriculum == "edco" and step % every == 0:
            quantiles = (np.array([0.2, 0.8, 1.2, 1.9, 3.0]) * (1 - 0.4 * step / steps)).round(4).tolist()
            records.append({"kind": "scores", "step": step, "seconds": 5.0 * step, "prompts": POOL, "mean": 1.0})
            records[-1]["quantiles"] = quantiles
        if step % every == 0:
            evaluate(step)
    (path / "records.jsonl").write_text("".join(json.dumps(line) + "\n" for line in records))
    summary = {
        **about,
        "steps": steps,
        "tokens": tokens,
        "prompts_trained_on": 100,
        "seconds": {"training": 5.0 * steps, **parts},
    }
    (path / "summary.json").write_text(json.dumps(summary))


def end(folder, name, status, error=None):
    """Let a cell be one that failed, or was stopped."""
    path = folder / "cells" / name / "cell"
    save_value(path, {}, {**load(path).value, "status": status, "error": error})
