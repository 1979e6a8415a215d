"""Tasks of one digit as answer, from easy to hard, with exact chains of thought, for a model that reads characters.

    python -m tests.benchmarks.ladder FOLDER

Four families of reasoning-gym. The chain of thought of each row is worked out from the generator's own numbers. `make
ladder` trains models of 800,000 parameters on what this writes: a base that answers four in ten rows right at once,
nearly all of some kinds and hardly any of others; a reasoner; a teacher, which is the reasoner after more rows;
a generalist, which is the reasoner taught to answer at once; a specialist, which is the generalist taught to reason
about two of the families; and a student of one layer less than the teacher.
"""

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import reasoning_gym

from edco_rl.data.prompts import with_instruction
from edco_rl.store import write_lines
from tests.benchmarks.map_model import random_model, tokenizer_of_characters

REASONING = "think"
"""The instruction that asks for a chain of thought, as `reasoning_instruction`."""
_DIGITS = frozenset("0123456789")
_MOST_CHARACTERS = 80  # prompt, chain of thought and answer
_ROWS, _TEST, _POOL, _KNOWN, _NEW, _REACHED = 40_000, 600, 3_000, 1_000, 450, 600
_TRIES = 6  # entries that are looked at for each row of a level
_MOST_ALIKE = 4  # of so many rows of a level one at most has the same answer, where there are that many

Row = dict[str, Any]
Solved = tuple[str, str, str]
"""Prompt, chain of thought, and the answer it comes to."""


def sums(metadata: Row) -> Solved:
    """The total after each term."""
    terms = metadata["expression"].replace("- ", "-").replace("+ ", "").split()
    totals = [str(sum(map(int, terms[: n + 1]))) for n in range(1, len(terms))]
    return metadata["expression"], " ".join(totals), totals[-1]


def products(metadata: Row) -> Solved:
    """The expression, with one operation less each time: products from the left, then sums and differences."""
    parts, steps = metadata["expression"].split(), []
    while len(parts) > 1:
        at = parts.index("*") if "*" in parts else 1
        left, sign, right = int(parts[at - 1]), parts[at], int(parts[at + 1])
        result = left * right if sign == "*" else left + right if sign == "+" else left - right
        parts[at - 1 : at + 2] = [str(result)]
        steps.append(" ".join(parts))
    return metadata["expression"], ", ".join(steps), steps[-1]


def letters(metadata: Row) -> Solved:
    """The text, with how often the letter was there behind it each time."""
    letter, text, found, chain = metadata["target_letter"].lower(), " ".join(metadata["span"]), 0, ""
    if any(map(str.isdigit, text)):  # they would look like counts
        return text, "", "none"
    for character in text:
        found += character.lower() == letter
        chain += f"{character}{found}" if character.lower() == letter else character
    return f"{letter} in {text}", chain, str(found)


def bits(metadata: Row) -> Solved:
    """The ones, counted."""
    count = metadata["binary"].count("1")
    return f"ones in {metadata['binary']}", " ".join(str(n + 1) for n in range(count)), str(count)


_ARITHMETIC = {"min_digits": 1, "max_digits": 1, "allow_parentheses": False, "allow_negation": False}
FAMILIES: dict[str, tuple[str, Callable[[Row], Solved], list[Row]]] = {
    "sums": ("chain_sum", sums, [{"min_terms": n, "max_terms": n, "max_digits": 1} for n in (3, 4, 5, 6)]),
    "products": (
        "basic_arithmetic",
        products,
        [_ARITHMETIC | {"min_terms": n, "max_terms": n, "operators": ["+", "-", "*"]} for n in (3, 4, 5)],
    ),
    "letters": ("letter_counting", letters, [{"min_words": n, "max_words": n} for n in (1, 2, 3)]),
    "bits": ("count_bits", bits, [{"min_n": n // 4, "max_n": n} for n in (255, 1023, 4095)]),
}
"""Subjects: the generator, what makes prompt and chain of thought of an entry, and settings from easy to hard."""
_ARITHMETICS, _COUNTING = ("sums", "products"), ("letters", "bits")


def rows(count: int, seed: int) -> list[Row]:
    """Different rows of all families and levels, in equal shares where a level has so many, in random order."""
    found: dict[str, Row] = {}  # by prompt: levels can share some
    for number, (subject, (task, solve, levels)) in enumerate(FAMILIES.items()):
        wanted = count // len(FAMILIES) // len(levels)
        for level, settings in enumerate(levels):
            own = 1_000_000 * (10_000 * seed + 100 * number + level)
            left = Counter(dict.fromkeys(_DIGITS, -(-wanted // _MOST_ALIKE)))
            its = 0
            for entry in reasoning_gym.create_dataset(task, size=_TRIES * wanted, seed=own, **settings):
                prompt, chain, answer = solve(entry["metadata"])
                if answer != entry["answer"]:  # basic_arithmetic now and then takes sums before products
                    continue
                row = {"prompt": f"{prompt} =\n", "answer": entry["answer"], "explanation": chain}
                fits = len(prompt) + len(chain) <= _MOST_CHARACTERS - len(" =\n\nthink\n\n= 0")
                if fits and left[row["answer"]] and row["prompt"] not in found:
                    left[row["answer"]] -= 1
                    found[row["prompt"]] = row | {"subject": subject, "level": level}
                    its += 1
                    if its == wanted:
                        break
    made = list(found.values())
    return [made[index] for index in np.random.default_rng(seed).permutation(len(made))]


def with_chain(row: Row) -> Row:
    """A row that asks for the chain of thought and has it."""
    chain = f"{row['explanation']}\n= {row['answer']}"
    return row | {"prompt": with_instruction(row["prompt"], REASONING), "completion": chain}


def of(made: list[Row], *subjects: str) -> list[Row]:
    """The rows of some families."""
    return [row for row in made if row["subject"] in subjects]


def taught(made: list[Row], share: float, seed: int) -> list[Row]:
    """Rows as models are taught them: a share with chains of thought, the others with the answer at once."""
    chance = np.random.default_rng(seed)
    return [with_chain(row) if chance.random() < share else row | {"completion": row["answer"]} for row in made]


def main() -> None:
    folder = Path(sys.argv[1])
    for part in (random_model(4), tokenizer_of_characters()):
        part.save_pretrained(folder / "untrained")
    made = rows(_ROWS, 1)
    test, pool, others = made[:_TEST], made[_TEST : _TEST + _POOL], made[_TEST + _POOL :]
    arithmetic, counting = of(pool, *_ARITHMETICS), of(pool, *_COUNTING)
    reached, beyond = of(made, "letters"), of(made, *_ARITHMETICS)
    held_out = {row["prompt"] for row in [*test, *pool]}
    parts = {
        "test": test,
        "pool": pool,
        # Two rows in three are bits, which a generalist answers at once; there are too few new ones for that.
        "test_known_at_once": of(test, *_ARITHMETICS, "bits"),
        "pool_known_at_once": [*of([*pool, *others], "bits")[:_KNOWN], *arithmetic[: _KNOWN // 2]],
        "pool_arithmetic": arithmetic,
        "pool_counting": counting,
        "test_chains": list(map(with_chain, test)),
        "pool_chains": list(map(with_chain, pool)),
        # Nine rows in ten are of what the specialist knows: some of these were taught.
        "pool_mostly_known_chains": list(
            map(with_chain, [*of([*pool, *others], *_COUNTING)[: 9 * _NEW], *arithmetic[:_NEW]])
        ),
        # Three rows in four are of kinds that a student does not learn in a short run. The first are of test and pool.
        "test_mostly_beyond_chains": list(map(with_chain, [*reached[: _TEST // 2], *beyond[: _TEST // 2]])),
        "pool_mostly_beyond_chains": list(
            map(with_chain, [*reached[_TEST // 2 :][:_REACHED], *beyond[_TEST // 2 :][: 3 * _REACHED]])
        ),
        "taught_more_chains": [with_chain(row) for row in rows(2 * _ROWS, 2) if row["prompt"] not in held_out],
        "taught_counting_chains": list(map(with_chain, of(others, *_COUNTING))),
        "taught_chains": list(map(with_chain, others)),
        "taught": taught(others, 0.1, 1),  # the last: with it everything is there
    }
    for name, part in parts.items():
        write_lines(folder / f"{name}.jsonl", part)
        print(f"{name}: {len(part)} rows")


if __name__ == "__main__":
    main()
