"""A few random cases of each kind; python -m tests.benchmarks.fuzz tries many."""

from .fuzz_configurations import fuzz as fuzz_configurations
from .fuzz_rows import fuzz as fuzz_rows


def test_random_configurations_are_taken_as_meant_or_refused():
    outcomes = fuzz_configurations(60, whole=False)
    assert outcomes.keys() == {"accepted", "refused"}


def test_random_rows_are_prompts_or_refused():
    outcomes = fuzz_rows(25)
    assert outcomes.keys() == {"accepted", "refused"}
