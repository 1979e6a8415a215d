"""What the report's verdicts are worth: false alarms without an effect, and how often a known effect is told.

`python -m tests.benchmarks.report_power --matrices 1000` simulates matrices and lets the report judge them.
"""

import argparse
from dataclasses import dataclass

import numpy as np

from edco_rl.benchmark.learning import Learning
from edco_rl.report.compared import compare_all, find_targets
from edco_rl.terminal import print_rows

STEPS = np.arange(0.0, 61.0, 10.0)


def learn(rng, speed, prompts=200, ceiling=0.7, seeds=4, noise=0.25, end_noise=0.02, shared=False):
    """Runs whose accuracy rises from 0.3, those of one seed on the same prompts; an easy one tends to be right.

    A run's speed varies by `noise`, as a standard deviation of its logarithm, and where it ends by `end_noise`.
    """
    runs = {}
    for seed in range(seeds):
        rate = speed * np.exp(noise * rng.normal()) / 20
        top = ceiling + end_noise * rng.normal()
        accuracy = top - (top - 0.3) * np.exp(-rate * STEPS)
        hardness = np.random.default_rng(0 if shared else seed).uniform(size=prompts)
        flips = rng.uniform(-0.15, 0.15, size=(len(STEPS), prompts))
        right = (hardness + flips < accuracy[:, None]).astype(float)
        costs = {"steps": STEPS, "tokens": STEPS * 1000, "seconds": STEPS * (3 + rng.uniform())}
        runs[seed] = Learning(costs, right, prompts="all" if shared else f"seed {seed}")
    return runs


def judge(rng, speeds, noises=None, **settings):
    """The report's comparisons on a matrix: each curriculum against the first, with Holm's correction."""
    noises = noises or [settings.get("noise", 0.25)] * len(speeds)
    learned = {
        ("task", "grpo", f"c{number}"): learn(rng, speed, **{**settings, "noise": noise})
        for number, (speed, noise) in enumerate(zip(speeds, noises, strict=True))
    }
    return compare_all(learned, "c0", find_targets(learned, "c0", {}), "steps", 0.95)


@dataclass(frozen=True)
class Setting:
    """Matrices of one kind: the speed of each curriculum, the baseline's first, and what else `judge` takes."""

    name: str
    speeds: tuple[float, ...]
    seeds: int
    settings: dict


NOTHING = [
    Setting("1 curriculum", (1.0, 1.0), 3, {}),
    Setting("1 curriculum", (1.0, 1.0), 5, {}),
    Setting("3 curricula", (1.0,) * 4, 3, {}),
    Setting("3 curricula", (1.0,) * 4, 5, {}),
    Setting("3 curricula, the same prompts for all seeds", (1.0,) * 4, 3, {"shared": True}),
    Setting("3 curricula, the same prompts for all seeds", (1.0,) * 4, 5, {"shared": True}),
    Setting("3 curricula, one with twice the noise", (1.0,) * 4, 3, {"noises": (0.25, 0.25, 0.25, 0.5)}),
    Setting("3 curricula, one with twice the noise", (1.0,) * 4, 5, {"noises": (0.25, 0.25, 0.25, 0.5)}),
    Setting("3 curricula, ends that vary by 0.05", (1.0,) * 4, 5, {"end_noise": 0.05}),
]
SOMETHING = [
    Setting("1 curriculum", (1.0, 2.0), 5, {}),
    Setting("3 curricula", (1.0, 1.0, 1.0, 2.0), 5, {}),
    Setting("3 curricula, the same prompts for all seeds", (1.0, 1.0, 1.0, 2.0), 5, {"shared": True}),
    Setting("3 curricula, ends that vary by 0.05", (1.0, 1.0, 1.0, 2.0), 5, {"end_noise": 0.05}),
    Setting("1 curriculum", (1.0, 2.2), 3, {}),
    Setting("3 curricula", (1.0, 1.0, 1.0, 2.2), 3, {}),
    Setting("1 curriculum", (1.0, 2.2), 4, {}),
    Setting("3 curricula", (1.0, 1.0, 1.0, 2.2), 4, {}),
]


def simulate(setting, matrices, seed):
    """Shares of matrices: with a wrong verdict, with the right one of the last curriculum, and covered intervals."""
    rng = np.random.default_rng(seed)
    wrong = right = covered = 0
    needed = []
    for _ in range(matrices):
        found = judge(rng, setting.speeds, seeds=setting.seeds, **setting.settings)
        truth = [int(np.sign(speed - 1)) for speed in setting.speeds[1:]]
        wrong += any(entry["verdict"] not in (0, true) for entry, true in zip(found, truth, strict=True))
        right += found[-1]["verdict"] == truth[-1]
        last = found[-1]["units"]["steps"]
        covered += last["low"] <= 1 / setting.speeds[-1] <= last["high"]
        needed.append(last["seeds_needed"] or 99)
    return {
        "false alarms": wrong / matrices,
        "told": right / matrices,
        "covered": covered / matrices,
        "seeds for 2x": float(np.median(needed)),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--matrices", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    for title, settings in (("No effect", NOTHING), ("The last curriculum is faster", SOMETHING)):
        rows = []
        for setting in settings:
            found = simulate(setting, chosen.matrices, chosen.seed)
            row = {"matrix": setting.name, "seeds": str(setting.seeds), "faster": f"{setting.speeds[-1]:g}"}
            row |= {name: f"{found[name]:.3f}" for name in ("false alarms", "told", "covered")}
            row |= {"seeds for 2x": f"{found['seeds for 2x']:.0f}"}
            if settings is NOTHING:
                del row["told"], row["faster"]
            rows.append(row)
        print_rows(rows, title=f"{title}: {chosen.matrices} matrices each", elsewhere="a wider terminal")


if __name__ == "__main__":
    main()
