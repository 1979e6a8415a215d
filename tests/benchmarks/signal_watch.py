"""How often, and when, a curriculum is said to fall short of random order, on a simulated pool of 400 prompts.

`python -m tests.benchmarks.signal_watch` prints a line for each case: runs of 40 renewals that were warned of, and at
which renewal those of a curriculum that does fall short were.
"""

import argparse

from tests.curriculum import test_signal_watch

BLIND = f"{test_signal_watch.__name__}:Blind"
CASES = [
    (strategy, kind, exploration, batch_size)
    for strategy, kind in ((BLIND, "blind"), ("edco", "good"), ("edco", "bad"))
    for exploration, batch_size in ((0.0, 16), (0.1, 8), (0.1, 32), (0.25, 8), (0.25, 16))
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=100)
    seeds = parser.parse_args().seeds
    for strategy, kind, exploration, batch_size in CASES:
        told = []
        for seed in range(seeds):
            shape = {"exploration": exploration, "batch_size": batch_size, "size": 4 * batch_size}
            told += test_signal_watch.Simulation(strategy, kind, seed, **shape).run(40).notices
        early = {renewal: told.count(renewal) for renewal in (3, 4, 5)} if kind == "bad" else ""
        groups = 4 * batch_size
        print(
            f"{kind} scores, {exploration:.0%} of {groups} groups at random: {len(told)} of {seeds} runs",
            early,
            flush=True,
        )


if __name__ == "__main__":
    main()
