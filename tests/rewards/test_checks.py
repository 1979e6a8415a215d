import asyncio
import contextlib
import re
import sys
import threading
import time

import numpy as np
import pytest
import torch

from edco_rl import ConfigurationError, EdcoRLError
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


@pytest.mark.parametrize(
    ("rewards", "given"),
    [
        ([1.0], "1 rewards"),
        ([], "0 rewards"),
        (None, "None (NoneType)"),
        (0.5, "0.5 (float)"),
        ("ab", "ab (str)"),
        ({"a": 1.0, "b": 0.0}, "{'a': 1.0, 'b': 0.0} (dict)"),
    ],
)
def test_a_reward_for_each_completion_is_expected(rewards, given):
    said = (
        f"Reward 'mine' gave {given} for 2 completions: expected one for each. The first is for the prompt of id 'x'"
    )
    with pytest.raises(RewardError, match=re.escape(said)):
        check_rewards("mine", rewards, ["a", "b"], {"id": ["x", "y"]})


@pytest.mark.parametrize(
    ("reward", "kind"), [("1", "str"), ([1.0], "list"), (1j, "complex"), (np.ones(2), "ndarray"), ({}, "dict")]
)
def test_a_reward_that_is_no_number_is_refused_with_its_type(reward, kind):
    with pytest.raises(
        RewardError, match=rf"'mine' gave .* \({kind}\) for the prompt of id 'y' and the completion 'b'"
    ):
        check_rewards("mine", [0.0, reward], ["a", "b"], {"id": ["x", "y"]})


def test_a_reward_too_large_for_a_tensor_is_not_finite():
    for large in (1e39, -(10**400)):
        with pytest.raises(RewardError, match=r"'mine' gave"):
            check_rewards("mine", [large], ["a"], {})
    assert check_rewards("mine", [3e38, True, np.float32(0.5), torch.tensor(2)], ["a"] * 4, {}) == [
        3e38,
        1.0,
        0.5,
        2.0,
    ]


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


COLUMNS = {"completions": ["a", "b", "c"], "prompts": ["p"] * 3, "id": ["1", "2", "3"]}


def divides(text):
    return 1 / (text != "b")


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize(
    ("fault", "said"),
    [(divides, "raised ZeroDivisionError"), (lambda text: text != "b" or sys.exit(0), "called sys.exit")],
)
def test_a_function_that_fails_is_told_with_the_completion_and_its_authors_traceback(asynchronous, fault, said):
    def mine(completions, **kwargs):
        return [fault(text) for text in completions]

    async def later(completions, **kwargs):
        return mine(completions)

    with pytest.raises(RewardError) as error:
        asyncio.run(checked(later)(**COLUMNS)) if asynchronous else checked(mine)(**COLUMNS)
    first, *lines = str(error.value).splitlines()
    name = "later" if asynchronous else "mine"
    assert first == f"Reward {name!r} {said} for the prompt of id '2', text 'p' and the completion 'b':"
    files = [line for line in lines if line.startswith("  File ")]
    assert files and all(f'"{__file__}"' in line for line in files)
    assert lines[-1] in ("ZeroDivisionError: division by zero", "SystemExit: 0")


def test_one_that_fails_on_all_together_only_or_does_not_take_the_columns_is_told_too():
    def together(completions, **kwargs):
        return [{1: 1.0}[len(completions)]]

    with pytest.raises(RewardError, match=r"'together' raised KeyError for 3 completions together, and none of them"):
        checked(together)(**COLUMNS)

    def mine(completions, answer):
        return [1.0] * len(completions)

    with pytest.raises(RewardError, match=r"'mine' raised TypeError .*'a':\nTypeError: .*unexpected keyword argument"):
        checked(mine)(**COLUMNS)


def test_ctrl_c_is_no_fault_of_a_reward():
    def interrupted(completions, **kwargs):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        checked(interrupted)(**COLUMNS)


def test_faults_that_can_be_left_out_are_listed():
    faults = []
    reward = checked(lambda completions, **kwargs: [1.0, float("nan"), None], faults=faults)
    assert reward(**COLUMNS) == [1.0, None, None]
    assert faults == [(1, "Reward '<lambda>' gave nan for the prompt of id '2', text 'p' and the completion 'b'.")]


def busy(text):
    while text == "b":
        pass


def asleep(text):
    if text == "b":
        time.sleep(60)


def swallowing(text):
    while text == "b":
        with contextlib.suppress(Exception):
            time.sleep(60)


def catching_all(text):
    for _ in range(3 * (text == "b")):
        with contextlib.suppress(BaseException):
            time.sleep(60)


def after_math_verify(text):
    math_reward(completions=["4"], answer=["4"])  # sets an alarm of its own, and switches it off
    asleep(text)


@pytest.mark.parametrize("slow", [busy, asleep, swallowing, catching_all, after_math_verify])
def test_a_completion_that_takes_too_long_is_left_out_and_the_others_are_judged_together(slow):
    def ranks(completions, **kwargs):
        for text in completions:
            slow(text)
        return [sorted(completions).index(text) for text in completions]

    math_reward(completions=["4"], answer=["4"])  # imports
    faults, began = [], time.monotonic()
    assert checked(ranks, timeout=0.3, faults=faults)(**COLUMNS) == [0.0, None, 1.0]
    said = "Reward 'ranks' took longer than 0.3 s for the prompt of id '2', text 'p' and the completion 'b'."
    assert faults == [(1, said)] and time.monotonic() - began < 30
    assert checked(ranks, timeout=30)(completions=["a", "c"]) == [0.0, 1.0]
    with pytest.raises(RewardError, match=r"took longer than 0.3 s .* That is the reward_timeout"):
        checked(ranks, timeout=0.3)(**COLUMNS)
    assert "reward_timeout" not in [thread.name for thread in threading.enumerate()]


def test_so_is_one_of_an_asynchronous_function_and_batches_that_are_too_large_are_told():
    async def mine(completions, **kwargs):
        await asyncio.sleep(60 * ("b" in completions))
        return [1.0] * len(completions)

    faults = []
    assert asyncio.run(checked(mine, timeout=0.1, faults=faults)(**COLUMNS)) == [1.0, None, 1.0]
    assert [row for row, _ in faults] == [1]

    async def linear(completions, **kwargs):
        await asyncio.sleep(60 * (len(completions) > 1))
        return [1.0]

    with pytest.raises(
        RewardError, match=r"took longer than 0.1 s for 3 completions, though for none alone. Raise rewa"
    ):
        asyncio.run(checked(linear, timeout=0.1, faults=[])(**COLUMNS))


def test_a_time_limit_outside_the_main_thread_is_refused():
    found = []

    def run():
        try:
            checked(math_reward, timeout=1.0)(completions=["4"], answer=["4"])
        except ConfigurationError as error:
            found.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert "reward_timeout is a signal, which interrupts the main thread only" in found[0]
