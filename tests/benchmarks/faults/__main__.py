"""Faults injected into real runs: killed processes, altered files, numbers that are not numbers, wrong input.

    python -m tests.benchmarks.faults [NAME ...] [--json FILE]
    python -m tests.benchmarks.faults --soak 2000

Without names all faults are injected; a name is that of a fault or of a room (`engine`, `checkpoints.changed`). It
prints a line a fault: what was done, what is expected, what was seen. It ends with 1 where one of them was missed.
"""

import argparse
import json
import signal
import sys
from pathlib import Path

from edco_rl.methods import METHODS

from . import answers, checkpoints, engine, inputs, numbers, rewards, security, signals, weights
from .fault import Fault, find
from .place import Place
from .soak import soak

_ROOMS = (inputs, signals, checkpoints, numbers, rewards, security, weights, answers, engine)


def chosen(names: list[str]) -> list[Fault]:
    """The faults of these names and rooms, in their order; without any, all."""
    faults = [fault for room in _ROOMS for fault in room.faults()]
    known = {fault.name for fault in faults} | {fault.name.partition(".")[0] for fault in faults}
    if unknown := sorted(set(names) - known):
        sys.exit(f"No fault or room {', '.join(unknown)}. Rooms and faults: {', '.join(sorted(known))}")
    if not names:
        return faults
    return [fault for name in names for fault in faults if name in (fault.name, fault.name.partition(".")[0])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--json", type=Path, help="also write what was seen to this file")
    parser.add_argument("--soak", type=int, metavar="STEPS", help="instead, one run of so many steps with faults")
    parser.add_argument("--seed", type=int, default=0, help="of the faults of --soak")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is ended
    for method in METHODS.values():  # before runs are forked
        for what in ("script", "training", "trainer", "run"):
            method.load(what)
    with Place() as place:
        if options.soak:
            found, passed = soak(place, options.soak, options.seed)
        else:
            findings = []
            for fault in chosen(options.names):
                findings.append(find(fault, place))
                print(findings[-1], flush=True)
            passed = all(finding.passed for finding in findings)
            print(f"{sum(finding.passed for finding in findings)} of {len(findings)} faults were met as expected.")
            found = [finding.as_json() for finding in findings]
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))
    sys.exit(not passed)


if __name__ == "__main__":
    main()
