import pytest

from edco_rl.rewards import multiple_choice_reward
from edco_rl.rewards.numbered import find_numbered_option

OPTIONS = ["12 m", "7", "3 apples", "none of them"]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("3", "3"),
        (" 2.\n", "2"),
        ("**4**", "4"),
        ("[[3]]", "3"),
        ("1 + 2 = 3, so [[ 4 ]].", "4"),
        ("First [[2]], no: [[1]]", "1"),
        ("\\boxed{2}", "2"),
        ("Twelve is 3 times 4.\nAnswer: 1", "1"),
        ("The answer is option 4, as 2 is too small.", "4"),
        ("The correct answer is **(3)**", "3"),
        ("none of them", "4"),
        ("3. 3 Apples.", "3"),
        ("7", "2"),  # no such number, and the text of an option
        ("The answer is 3.5", None),
        ("Answer: 1 or 2", None),
        ("Answer: 12", None),
        ("[[0]]", None),
        ("[[5]]", None),
        ("There are 3 of them.", None),
        ("1. Read the question. 2. Think.", None),
        ("", None),
    ],
)
def test_the_number_a_text_decides_for(text, number):
    assert find_numbered_option(text, OPTIONS) == number


def test_numbered_and_lettered_rows_are_judged_side_by_side():
    texts, answers = ["[[2]]", "2", "B", "Answer: B", "2"], ["2", "3", "2", "B", "9"]
    assert multiple_choice_reward(texts, answers, [OPTIONS] * 5) == [1.0, 0.0, 0.0, 1.0, None]
