"""Pools with a known share of mastered and hopeless prompts, as sampling at a temperature says.

    python -m tests.benchmarks.map_pools MODEL FOLDER [--recipe RECIPE.yaml] [--pools 0.8,0.0 0.5,0.3]

Answers each prompt of a recipe's mixture of generated tasks, or else of the map's model, `--samples` times, and draws
from those that are always answered right (mastered), never (hopeless), and sometimes (learnable) as many as a pool is
to have. Each pool is a folder `m<mastered>_h<hopeless>` with `train.jsonl`; its `test.jsonl` has other prompts,
learnable ones alone, since these are what a curriculum can make a difference to. All rows with their pass rates are
kept in `answers.json`, from which other pools are drawn without another answer.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from transformers import AutoTokenizer

from edco_rl.config import EngineConfig
from edco_rl.data.load import load_prompts
from edco_rl.data.tokens import RowTokenizer
from edco_rl.engine import Sampling
from edco_rl.engine.launch import scoring_engine
from edco_rl.rewards import get_rewards
from edco_rl.runs.grading import grade
from edco_rl.store import fingerprint, once_value, write_lines
from tests.benchmarks.map_model import families

POOLS = ["0.2,0", "0.2,0.3", "0.2,0.6", "0.3,0.6", "0.5,0", "0.5,0.3", "0.8,0", "0.9,0"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--recipe", type=Path, help="A recipe whose data set is a mixture.")
    parser.add_argument("--pools", nargs="+", default=POOLS, help="Shares of mastered and of hopeless prompts.")
    parser.add_argument("--prompts", type=int, default=5400, help="Prompts that are answered.")
    parser.add_argument("--size", type=int, default=480, help="Prompts of a pool.")
    parser.add_argument("--held_out", type=int, default=200)
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--max_tokens", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    settings = yaml.safe_load(args.recipe.read_text()) if args.recipe else {"task_kwargs": {"tasks": families()}}
    asked = {
        name: getattr(args, name) for name in ("model", "prompts", "samples", "temperature", "max_tokens", "seed")
    }
    asked["mixture"] = fingerprint([settings.get("prompt_template"), settings["task_kwargs"]])
    rows = once_value(args.folder / "answers", asked, lambda: answer(args, settings)).value
    rates = np.array([row["pass_rate"] for row in rows])
    kinds = np.where(rates == 1, 0, np.where(rates == 0, 2, 1))
    print("mastered, learnable, hopeless:", np.bincount(kinds, minlength=3).tolist())
    subjects = np.array([row["subject"] for row in rows])
    for subject in np.unique(subjects):
        of_it = subjects == subject
        shares = np.bincount(kinds[of_it], minlength=3) / of_it.sum()
        print(f"{subject:16} {rates[of_it].mean():.2f} {shares.round(2).tolist()}")
    for number, pool in enumerate(args.pools):
        mastered, hopeless = map(float, pool.split(","))
        rng = np.random.default_rng((args.seed, number))
        shares = [mastered, 1 - mastered - hopeless, hopeless]
        chosen = draw(kinds, [[round(args.size * share) for share in shares], [0, args.held_out, 0]], rng)
        folder = args.folder / f"m{mastered:g}_h{hopeless:g}"
        folder.mkdir(exist_ok=True)
        for split, indices in zip(("train", "test"), chosen, strict=True):
            write_lines(folder / f"{split}.jsonl", [rows[i] for i in indices])


def answer(args: argparse.Namespace, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of the mixture, each with the mean reward of its answers as `pass_rate`."""
    rows, _ = load_prompts(
        "reasoning_gym:mixture",
        train_prompts=args.prompts,
        seed=args.seed,
        conversational=False,
        prompt_template=settings.get("prompt_template"),
        task_kwargs=settings["task_kwargs"],
    )
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    [reward] = get_rewards(["math"], {})
    engine_config = EngineConfig(engine_mode="server", engine_dtype="float32")
    with scoring_engine(engine_config, args.model, log_path=args.folder / "engine.log") as engine:
        prompts = RowTokenizer(tokenizer).prompts(rows.to_list())
        answers = engine.generate(prompts, Sampling(args.max_tokens, args.samples, args.temperature))
    rewards = grade(answers, tokenizer, rows, reward).rewards  # shape (N, samples)
    judged = np.flatnonzero(np.isfinite(rewards).all(axis=1))
    if len(judged) < len(rows):
        print(f"{len(rows) - len(judged)} of {len(rows)} prompts are left out: their answers cannot be judged.")
    return [rows[int(i)] | {"pass_rate": float(rewards[i].mean())} for i in judged]


def draw(kinds: np.ndarray, counts: list[list[int]], rng: np.random.Generator) -> list[np.ndarray]:
    """For each list of counts, of each kind so many indices, none twice in all; in random order."""
    left = [rng.permutation(np.flatnonzero(kinds == kind)) for kind in range(3)]
    parts = []
    for wanted in counts:
        for kind, count in enumerate(wanted):
            if len(left[kind]) < count:
                raise SystemExit(f"Of kind {kind} there are {len(left[kind])} prompts, and {count} are wanted.")
        parts.append(rng.permutation(np.concatenate([left[kind][:count] for kind, count in enumerate(wanted)])))
        left = [indices[count:] for indices, count in zip(left, wanted, strict=True)]
    return parts


if __name__ == "__main__":
    main()
