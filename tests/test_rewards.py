import json

import pytest

from edco_rl.config import ConfigurationError
from edco_rl.rewards import available_rewards, get_reward, math_reward, reasoning_gym_reward


def entry(answer):
    return json.dumps({"question": "", "answer": answer, "metadata": {"source_dataset": "basic_arithmetic"}})


def test_reasoning_gyms_grader_scores_the_tagged_answer_or_the_whole_text():
    answers = ["7", " 7\n", "I think <answer>7</answer>", "<answer>8</answer> 7", "8", ""]
    assert reasoning_gym_reward(answers, [entry("7")] * 6) == [1.0, 1.0, 1.0, 0.0, 0.0, 0.0]


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
    assert math_reward([[{"role": "assistant", "content": text}]], ["30"]) == [score]


def test_an_answer_that_cannot_be_read_gets_no_reward():
    assert math_reward(["30"], ["unknown"]) == [None]


def test_rewards_are_found_by_name_and_by_import_path():
    assert {"math", "reasoning_gym", "think_format_reward"} <= set(available_rewards())
    for name in available_rewards():
        assert callable(get_reward(name))
    assert get_reward("math").is_accuracy
    assert get_reward("edco_rl.rewards:math_reward") is get_reward("edco_rl.rewards.math_reward") is math_reward


@pytest.mark.parametrize(
    ("name", "message"), [("maths", "Unknown reward 'maths'"), ("no.where", "Cannot import reward")]
)
def test_an_unknown_reward_is_refused(name, message):
    with pytest.raises(ConfigurationError, match=message):
        get_reward(name)
