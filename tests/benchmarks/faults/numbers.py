"""Numbers that are not finite; without an engine."""

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from .fault import Fault, expect
from .place import Place, given, has_finite_model
from .runs import Run, prompts_of


def _no_ruined_model(run: Run) -> str:
    folder = run.folder / "run"
    for saved in (folder, *folder.glob("checkpoint-*")):
        if (saved / "model.safetensors").exists():
            expect(has_finite_model(saved), f"{saved} holds weights that are not finite")
    expect(not (folder / "summary.json").exists(), "there is a summary")
    return "no ruined model was saved"


def fails(method: str, message: str, place: Place, *, code: int = 1, **changes: Any) -> str:
    run = place.train(method, **changes)
    return f"{run.expect(code, message)}, {_no_ruined_model(run)}"


def _ruined(method: str, place: Place) -> str:
    path = place.new_folder()
    model = AutoModelForCausalLM.from_pretrained(place.model)
    for parameter in model.parameters():
        parameter.data.fill_(torch.nan)
    model.save_pretrained(path)
    AutoTokenizer.from_pretrained(place.model).save_pretrained(path)
    return fails(
        method, "hold values that are not finite, .*they cannot be trained", place, model_name_or_path=str(path)
    )


def quarantine(reward: str, place: Place, **changes: Any) -> str:
    run = place.train("grpo", reward_funcs=[given(reward)], max_quarantined_prompts=24, max_steps=8, **changes)
    seen = run.expect(0)
    lines = (run.folder / "run" / "quarantine.jsonl").read_text().splitlines()
    reasons = [json.loads(line)["reason"] for line in lines]
    expect(all(f"'{reward}'" in reason for reason in reasons), f"reasons {reasons}")
    drawn = [prompt for _, prompts in prompts_of(run.folder) for prompt in prompts]
    summary = json.loads((run.folder / "run" / "summary.json").read_text())
    expect(summary["prompts_quarantined"] == len(lines), f"{summary['prompts_quarantined']} of {len(lines)} told")
    expect(0 < len(lines) < len(set(drawn)), f"{len(lines)} of {len(set(drawn))} prompts in quarantine")
    expect(has_finite_model(run.folder / "run"), "the model is not finite")
    return f"{seen}, {len(lines)} of {len(set(drawn))} prompts in quarantine, each with its reward"


def faults() -> Iterator[Fault]:
    """Those of this room."""
    told = "exit 1, the reward is named, nothing is saved"
    for name, message in (
        ("nan", "Reward 'nan' gave nan for the prompt of .* and the completion"),
        ("infinite", "Reward 'infinite' gave -inf for the prompt of"),
        ("nothing", "no reward at all from nothing"),
    ):
        changes = {"reward_funcs": [given(name)], "max_skipped_steps": 1, "max_quarantined_prompts": 3}
        for method in ("grpo", "ppo"):
            yield Fault(
                f"numbers.reward_{name}_{method}",
                f"{method}, each reward is {name}",
                told,
                partial(fails, method, message, **changes),
            )
    yield Fault(
        "numbers.reward_nan_for_some",
        "grpo, rewards of a few prompts are NaN",
        "exit 0, these in quarantine with the reward's name",
        partial(quarantine, "nan_for_some"),
    )
    for method in ("ppo", "grpo", "sft"):
        yield Fault(
            f"numbers.model_{method}",
            f"{method} of a model whose weights are NaN",
            "exit 1 before the first step",
            partial(_ruined, method),
        )
    ruined = "exit 1, and nothing ruined is saved"
    for method in ("grpo", "sft"):
        for steps in (1, 4):
            yield Fault(
                f"numbers.learning_rate_{method}_{steps}",
                f"{method} with learning rate 1e30 for {steps} steps, one checkpoint kept",
                ruined,
                partial(
                    fails,
                    method,
                    "or too large to compute with",
                    learning_rate=1e30,
                    max_steps=steps,
                    save_total_limit=1,
                    per_device_train_batch_size=16,  # some group has rewards that differ
                ),
            )
    yield Fault(
        "numbers.learning_rate_left_out",
        "sft with learning rate 1e10, saved at the end alone",
        ruined,
        partial(fails, "sft", "left out", learning_rate=1e10, max_skipped_steps=1, save_steps=4),
    )
