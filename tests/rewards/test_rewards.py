import json

import pytest

from edco_rl.errors import ConfigurationError
from edco_rl.rewards import (
    LengthReward,
    answer_format_reward,
    available_rewards,
    find_option,
    get_reward,
    get_rewards,
    math_reward,
    multiple_choice_reward,
    reasoning_gym_reward,
)

OPTIONS = ["one", "two", "three", "four"]


def entry(answer):
    return json.dumps({"question": "", "answer": answer, "metadata": {"source_dataset": "basic_arithmetic"}})


def message(text):
    return [{"role": "assistant", "content": text}]


def test_an_answer_that_reasoning_gyms_grader_cannot_read_is_wrong():
    import reasoning_gym

    given = reasoning_gym.create_dataset("prime_factorization", size=1, seed=1)[0]
    answers = [given["answer"], f"{given['answer']} =", "none"]
    assert reasoning_gym_reward(answers, [json.dumps(given)] * 3) == [1.0, 0.0, 0.0]
    broken = json.dumps(given | {"answer": None, "metadata": {"source_dataset": "prime_factorization"}})
    with pytest.raises(Exception, match=r"factors|None"):
        reasoning_gym_reward(["3 ="], [broken])


def test_reasoning_gyms_grader_scores_the_tagged_answer_or_the_whole_text():
    answers = ["7", " 7\n", "I think <answer>7</answer>", "<answer>8</answer> 7", "8", ""]
    assert reasoning_gym_reward(answers, [entry("7")] * 6) == [1.0, 1.0, 1.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("B", "B"),
        (" B", "B"),
        ("b", "B"),
        ("(B)", "B"),
        ("**B**", "B"),
        ("B.", "B"),
        ("B. two", "B"),
        ("B) two, since A is odd", "B"),
        ("(B) two", "B"),
        ("\N{FULLWIDTH LATIN CAPITAL LETTER B}", "B"),
        ("Ⓑ", "B"),
        ("Answer: B", "B"),
        ("Answer:B", "B"),
        ("The answer is B because A is wrong.", "B"),
        ("The answer is **B**.", "B"),
        ("the correct answer is (b).", "B"),
        ("A is tempting, but the correct option is B.", "B"),
        ("Answer: A. Wait, no. Answer: B", "B"),
        ("A. one\nB. two\n\nAnswer: B", "B"),
        ("I pick B because it is even.", "B"),
        ("\\boxed{B}", "B"),
        ("So $\\boxed{\\text{B}}$, not A.", "B"),
        ("two", "B"),
        (" Two. ", "B"),
        ("B\n\nQuestion: Which is odd?\nA. one\nAnswer: A", "B"),
        ("A because of the spectrum", "A"),
        ("The answer is A and nothing else", "A"),
        ("", None),
        ("   \n", None),
        ("E", None),
        ("The answer is E.", None),
        ("A or B", None),
        ("The answer is A or B.", None),
        ("Answer: A, B", None),
        ("Answer: A/B", None),
        ("A\nB\nC", None),
        ("A. one\nB. two\nC. three", None),
        ("Either A or B.", None),
        ("The answer is not B.", None),
        ("It isn't B.", None),
        ("A router forwards packets.", None),
        ("The answer is a router.", None),
        ("Answer: A router forwards packets.", None),
        ("Because", None),
        ("\\boxed{\\frac{1}{2}}", None),
        ("答案是什么", None),
    ],
)
def test_an_option_is_found_where_a_text_decides_for_one(text, label):
    assert find_option(text, OPTIONS) == label
    for right in "ABCD":
        assert multiple_choice_reward([text, message(text)], [right] * 2, [OPTIONS] * 2) == [float(right == label)] * 2


def test_an_options_own_text_may_hold_labels_and_negations():
    assert find_option("Not B", ["Plan B", "Not B"]) == "B"
    assert find_option("yes", ["yes", "no", "maybe"]) == "A"
    assert find_option("same", ["same", "same"]) is None


def test_only_the_answer_after_reasoning_and_in_tags_counts():
    text = "<think>The answer is A. No: B.</think>\n<answer>C</answer>"
    assert multiple_choice_reward([text, text], ["C", "A"], [OPTIONS] * 2) == [1.0, 0.0]
    assert multiple_choice_reward(["<think>A</think> D"], ["D"]) == [1.0]
    assert math_reward(["<think>7</think> <answer>8</answer> 9"], ["8"]) == [1.0]


def test_a_row_that_is_no_multiple_choice_gets_no_option_reward():
    assert multiple_choice_reward(["B", "B", "B"], ["two", "E", ""], [OPTIONS] * 3) == [None, None, None]
    assert multiple_choice_reward(["B", "B"], ["B", "two"], [OPTIONS, None]) == [1.0, None]


@pytest.mark.parametrize(
    ("text", "score"),
    [
        (" 30.", 1.0),
        ("20 + 10 = 30", 1.0),
        ("30.0", 1.0),
        ("\\boxed{30}", 1.0),
        ("-30", 0.0),
        ("30 or 31", 0.0),
        ("thirty", 0.0),
        ("", 0.0),
    ],
)
def test_math_reward_compares_the_last_number(text, score):
    assert math_reward([text], ["30"]) == [score]
    assert math_reward([message(text)], ["30"]) == [score]


@pytest.mark.parametrize(
    ("text", "score"),
    [
        (" 30, 35, 40", 1.0),
        (" 29, 30", 0.0),
        ("30.0 31", 1.0),
        ("-30, 30", 0.0),
        ("then 30", 1.0),
        ("30.5", 0.0),
        ("", 0.0),
    ],
)
def test_math_reward_compares_the_first_number_where_asked_to(text, score):
    assert math_reward([text], ["30"], first_number=True) == [score]
    assert get_reward("math", first_number=True)(completions=[message(text)], answer=["30"]) == [score]


@pytest.mark.parametrize(
    ("text", "answer", "right"),
    [
        ("-3.5", "-3.5", True),
        ("\N{MINUS SIGN}3.5", "-3.5", True),
        ("3.5", "-3.5", False),
        ("0.5", "\\frac{1}{2}", True),
        ("$\\frac{3}{4}$", "0.75", True),
        ("1/2", "0.5", True),
        ("1,234", "1234", True),
        ("1,234,567.50", "1234567.5", True),
        ("1\N{NO-BREAK SPACE}234", "1234", True),
        ("the sum is 12,345.", "12345", True),
        ("50%", "50%", True),
        ("\\boxed{12} as 13 is odd", "12", True),
        ("٤٢", "42", True),  # Arabic-Indic
        ("٣٫٥", "3.5", True),  # noqa: RUF001
        ("١٬٢٣٤", "1234", True),  # noqa: RUF001
        ("۴۲", "42", True),  # Persian
        ("४२", "42", True),  # Devanagari
        ("４２", "42", True),  # full-width # noqa: RUF001
        ("－４．２", "-4.2", True),  # noqa: RUF001
        ("答案是４２。", "42", True),
        ("४३", "42", False),
        ("42", "٤٢", True),
        ("x²", "2", False),
    ],
)
def test_math_reward_reads_numbers_as_people_write_them(text, answer, right):
    assert math_reward([text], [answer]) == [float(right)]


def test_an_answer_that_cannot_be_read_gets_no_reward():
    prose = "It depends on how many of the apples were red when they were picked, and on who is counting them."
    assert math_reward(["30"] * 4, ["", prose, None, float("nan")]) == [None] * 4


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("<answer>B</answer>", 1.0),
        ("<think>Well.</think>\nSo:\n<answer>\nB\n</answer>\n", 1.0),
        ("<answer></answer>", 0.0),
        ("<answer>  </answer>", 0.0),
        ("<answer>A</answer><answer>B</answer>", 0.0),
        ("<answer><answer>B</answer>", 0.0),
        ("<answer>B</answer> and more", 0.0),
        ("<answer>B", 0.0),
        ("B", 0.0),
        ("", 0.0),
    ],
)
def test_answer_format_wants_one_filled_tag_at_the_end(text, score):
    assert answer_format_reward([text, message(text)]) == [score, score]


def test_a_long_text_without_tags_is_judged_at_once():
    assert answer_format_reward(["<answer>" + "a " * 50_000, "b" * 100_000]) == [0.0, 0.0]
    assert find_option("A word " * 20_000, OPTIONS) is None


def test_length_falls_linearly_beyond_its_bounds():
    reward = LengthReward(minimum=4, maximum=10, margin=4, inside=0.5)
    lengths = [0, 2, 4, 7, 10, 12, 14, 30]
    assert reward([""] * 8, [[1] * n for n in lengths]) == [-1.0, -0.25, 0.5, 0.5, 0.5, -0.25, -1.0, -1.0]
    assert LengthReward(maximum=3, unit="characters")(["abc", "abcd", message("ab")]) == [0.0, -1.0, 0.0]


def test_length_without_margin_is_trls_punishment_with_its_cache():
    trl = get_reward("get_soft_overlong_punishment", max_completion_len=20, soft_punish_cache=8)
    ours = get_reward("length", maximum=12, margin=8)
    ids = [[1] * n for n in range(30)]
    assert ours([""] * 30, ids) == pytest.approx(trl(completion_ids=ids))


def test_rewards_are_found_by_name_and_by_import_path():
    assert {"multiple_choice", "math", "reasoning_gym", "answer_format", "length", "think_format_reward"} <= set(
        available_rewards()
    )
    settings = {
        "length": {"maximum": 5},
        "get_soft_overlong_punishment": {"max_completion_len": 9, "soft_punish_cache": 2},
    }
    functions = get_rewards(available_rewards(), settings)
    assert all(callable(function) and function.__name__ for function in functions)
    accuracy = {"multiple_choice", "math", "reasoning_gym", "accuracy_reward", "reasoning_accuracy_reward"}
    marked = {n for n, f in zip(available_rewards(), functions, strict=True) if getattr(f, "is_accuracy", False)}
    assert marked == accuracy
    assert get_reward("edco_rl.rewards:math_reward") is get_reward("edco_rl.rewards.math_reward") is math_reward


def scaled(completions, scale=1.0, **kwargs):
    return [scale] * len(completions)


def test_settings_reach_a_users_own_function():
    reward = get_reward(f"{__name__}:scaled", scale=3.0)
    assert reward(completions=["a", "b"]) == [3.0, 3.0] and reward.__name__ == "scaled"


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("maths", {}, "Unknown reward 'maths'"),
        ("no.where", {}, "Cannot import reward"),
        ("length", {}, "reward length needs bounds"),
        ("length", {"maximum": 3, "minimum": 5}, "expected 0 <= minimum <= maximum"),
        ("length", {"maximum": 3, "unit": "words"}, "unit must be tokens or characters"),
        ("length", {"longest": 3}, "reward 'length' .*'longest'"),
    ],
)
def test_an_unknown_reward_or_setting_is_refused(name, settings, message):
    with pytest.raises(ConfigurationError, match=message):
        get_reward(name, **settings)


def test_settings_of_rewards_that_are_not_used_are_refused():
    with pytest.raises(ConfigurationError, match="reward_kwargs names length"):
        get_rewards(["math"], {"length": {"maximum": 3}})
    with pytest.raises(ConfigurationError, match="reward_funcs is empty"):
        get_rewards([])
