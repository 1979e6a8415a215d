"""Random input of a kind, many cases of it: nothing may end in a traceback of ours, and no nonsense may be accepted.

    python -m tests.benchmarks.fuzz configurations --cases 2000

prints what came of the cases. The first one that is met wrongly ends it with the smallest case like it.
"""

import argparse
import pkgutil
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy

KINDS = {
    "state_files": "tests.benchmarks.fuzz_state_files:fuzz",
    "answers": "tests.benchmarks.fuzz_answers:fuzz",
    "weight_files": "tests.benchmarks.fuzz_weight_files:fuzz",
    "configurations": "tests.benchmarks.fuzz_configurations:fuzz",
    "rows": "tests.benchmarks.fuzz_rows:fuzz",
}
"""Functions of a number of cases and a seed, by what they make: each returns how many cases had which outcome."""


def search(cases: SearchStrategy[Any], outcome: Callable[[Any], str], count: int, start: int) -> Counter[str]:
    """Outcomes of so many cases; what `outcome` raises for one is raised for the smallest one like it."""
    outcomes: Counter[str] = Counter()
    checks = list(HealthCheck)
    phases = (Phase.generate, Phase.shrink)

    @seed(start)
    @settings(max_examples=count, database=None, deadline=None, suppress_health_check=checks, phases=phases)
    @given(cases)
    def run(case: Any) -> None:
        outcomes[outcome(case)] += 1

    run()
    return outcomes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    began = time.perf_counter()
    outcomes = pkgutil.resolve_name(KINDS[options.kind])(options.cases, options.seed)
    seconds = time.perf_counter() - began
    found = ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(outcomes.items()))
    print(f"{sum(outcomes.values()):,} {options.kind} in {seconds:.0f} s: {found}")


if __name__ == "__main__":
    main()
