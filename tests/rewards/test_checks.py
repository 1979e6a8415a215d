import asyncio

import numpy as np
import pytest
import torch

from edco_rl import EdcoRLError
from edco_rl.rewards import LengthReward, RewardError, check_rewards, checked, math_reward


def test_finite_numbers_and_none_of_any_kind_pass():
    for rewards in ([1, 0.5, None], [True, False, None], np.array([1.0, 2.0, 3.0]), torch.tensor([1.0, 2.0, 3.0])):
        check_rewards("mine", rewards, ["a", "b", "c"], {})


@pytest.mark.parametrize(
    "wrong", [float("inf"), float("-inf"), float("nan"), np.float32("nan"), torch.tensor(float("inf"))]
)
def test_a_reward_that_is_not_finite_is_refused_by_name_prompt_and_completion(wrong):
    columns = {"id": ["first", "second"], "prompts": ["1 + 1 =", [{"role": "user", "content": "2 + 2 ="}]]}
    completions = ["2", [{"role": "assistant", "content": "It is 4."}]]
    with pytest.raises(RewardError, match=r"'mine' gave (-?inf|nan).*id 'second'.*2 \+ 2 =.*'It is 4\.'"):
        check_rewards("mine", [1.0, wrong], completions, columns)
    with pytest.raises(RewardError, match=r"'1 \+ 1 ='"):
        check_rewards("mine", [wrong, 1.0], completions, {"prompts": columns["prompts"]})
    assert issubclass(RewardError, EdcoRLError)


@pytest.mark.parametrize(("rewards", "given"), [([1.0], "1 rewards"), ([], "0 rewards"), (None, "None"), (0.5, "0.5")])
def test_a_reward_for_each_completion_is_expected(rewards, given):
    with pytest.raises(RewardError, match=f"'mine' gave {given} for 2 completions"):
        check_rewards("mine", rewards, ["a", "b"], {})


def test_a_checked_function_is_called_and_known_as_before():
    reward = checked(math_reward)
    assert reward(completions=["4", "5"], answer=["4", "4"]) == [1.0, 0.0]
    assert reward.__name__ == "math_reward" and reward.is_accuracy
    length = checked(LengthReward(maximum=1, unit="characters"))
    assert length(completions=["a", "ab"]) == [0.0, -1.0] and length.__name__ == "length_reward"


def test_an_asynchronous_function_stays_one_and_is_checked():
    async def judge(completions, **kwargs):
        return [float(text) for text in completions]

    class Judge:
        async def __call__(self, completions, **kwargs):
            return await judge(completions)

    for function in (judge, Judge()):
        reward = checked(function)
        assert asyncio.iscoroutinefunction(reward)
        assert asyncio.run(reward(completions=["1", "2"])) == [1.0, 2.0]
        with pytest.raises(RewardError, match=f"'{'judge' if function is judge else 'Judge'}' gave -inf"):
            asyncio.run(reward(completions=["1", "-inf"]))


def test_an_authors_own_error_keeps_its_traceback():
    def broken(completions, **kwargs):
        return [1 / 0]

    with pytest.raises(ZeroDivisionError):
        checked(broken)(completions=["a"])
