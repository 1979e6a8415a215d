"""The ladder's rows: chains of thought that come to the row's answer, step by step."""

import itertools
import re

import pytest

from tests.benchmarks.ladder import FAMILIES, rows, taught, with_chain


@pytest.fixture(scope="module")
def made():
    return rows(600, seed=5)


def test_every_family_and_level_is_there_and_no_prompt_twice(made):
    assert {(row["subject"], row["level"]) for row in made} == {
        (subject, level) for subject, (_, _, levels) in FAMILIES.items() for level in range(len(levels))
    }
    assert len({row["prompt"] for row in made}) == len(made)


def test_answers_are_one_digit_and_none_can_be_guessed(made):
    assert all(re.fullmatch(r"\d", row["answer"]) for row in made)
    for subject in FAMILIES:
        answers = [row["answer"] for row in made if row["subject"] == subject]
        assert max(map(answers.count, set(answers))) <= 0.5 * len(answers)


def test_a_chain_of_a_sum_has_every_total(made):
    for row in (row for row in made if row["subject"] == "sums"):
        parts = row["prompt"].removesuffix(" =\n").split()
        totals = [eval(" ".join(parts[: end + 1])) for end in range(2, len(parts), 2)]
        assert [int(total) for total in row["explanation"].split()] == totals
        assert str(totals[-1]) == row["answer"]


def test_each_step_of_a_product_has_the_same_value_and_one_operation_less(made):
    for row in (row for row in made if row["subject"] == "products"):
        steps = [row["prompt"].removesuffix(" =\n"), *row["explanation"].split(", ")]
        assert {str(eval(step)) for step in steps} == {row["answer"]} and steps[-1] == row["answer"]
        assert all(len(after.split()) == len(step.split()) - 2 for step, after in itertools.pairwise(steps))


def test_letters_and_bits_are_counted(made):
    for row in (row for row in made if row["subject"] in ("letters", "bits")):
        what, text = re.fullmatch(r"(\w+) in (.+) =\n", row["prompt"]).groups()
        count = text.lower().count("1" if what == "ones" else what)
        assert row["answer"] == str(count)
        if what == "ones":
            assert row["explanation"].split() == [str(n + 1) for n in range(count)]
        else:
            assert re.sub(r"\d", "", row["explanation"]) == text
            marks = re.findall(r"(\w)(\d)", row["explanation"])
            assert marks == [(mark, str(n + 1)) for n, (mark, _) in enumerate(marks)] and len(marks) == count
            assert {mark.lower() for mark, _ in marks} <= {what}


def test_a_share_of_what_is_taught_has_chains(made):
    found = taught(made, 0.25, seed=1)
    chains = [row for row in found if row["completion"] != row["answer"]]
    assert 0.15 * len(made) < len(chains) < 0.35 * len(made)
    assert all(row in [with_chain(one) for one in made] for row in chains)
    assert all(row["prompt"].endswith("\nthink\n") and row["completion"].endswith(row["answer"]) for row in chains)
