"""References and answers as MATH-500, DeepScaleR, DAPO and GSM8K write them, with numbers of their own."""

import json
import threading
from itertools import groupby
from pathlib import Path

import pytest

from edco_rl.rewards import math_reward

with open(Path(__file__).with_name("math_answers.jsonl"), encoding="utf-8") as lines:
    PAIRS = [json.loads(line) for line in lines]
KINDS = {kind: list(pairs) for kind, pairs in groupby(PAIRS, lambda pair: pair["kind"])}


def misjudged(pairs):
    scores = math_reward([pair["text"] for pair in pairs], [pair["answer"] for pair in pairs])
    return [
        (pair["answer"], pair["text"], score)
        for pair, score in zip(pairs, scores, strict=True)
        if score != pair["right"]
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_the_grader_is_right_about_every_pair(kind):
    assert misjudged(KINDS[kind]) == []


def test_the_table_holds_right_and_wrong_answers_to_each_kind_of_reference():
    assert len({pair["answer"] for pair in PAIRS}) >= 150
    assert all({pair["right"] for pair in pairs} == {True, False} for pairs in KINDS.values() if len(pairs) > 3)


def test_a_reference_is_its_own_answer_boxed_or_bare():
    answers = sorted(
        {pair["answer"] for pair in PAIRS if "####" not in pair["answer"] and "box" not in pair["answer"]}
    )
    boxed = [rf"\boxed{{{answer.strip('$')}}}" for answer in answers]
    assert [answer for answer, score in zip(answers, math_reward(boxed, answers), strict=True) if score != 1.0] == []
    bare = [answer for answer in answers if "$" not in answer]
    assert [answer for answer, score in zip(bare, math_reward(bare, bare), strict=True) if score != 1.0] == []


def test_numbers_of_a_column_of_numbers_are_references():
    assert math_reward(["42", "42.0", "3,5", "-1"], [42, 42, 3.5, 1]) == [1.0, 1.0, 1.0, 0.0]


def test_the_grader_works_outside_the_main_thread():
    found = []
    thread = threading.Thread(target=lambda: found.extend([misjudged(KINDS["radical"]), misjudged(KINDS["tuple"])]))
    thread.start()
    thread.join()
    assert found == [[], []]


def test_an_answer_that_takes_too_long_to_compute_is_wrong():
    assert math_reward([r"\boxed{10^{10^{10}}}"], ["42"]) == [0.0]
