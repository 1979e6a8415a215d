import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from edco_rl.curriculum import Gate, Outcome, available_gates, make_gates
from edco_rl.errors import ConfigurationError


def group(rewards=(0.0, 1.0), truncated=(False, False), version=0):
    return Outcome(index=0, version=version, rewards=rewards, truncated=truncated)


def admitted(name, *rewards, version=0, **settings):
    return make_gates([name], {name: settings}, len(rewards))[name].admit(group(rewards, version=version))


def some_right(right, size):
    return (1.0,) * right + (0.0,) * (size - right)


@given(st.lists(st.floats(-3, 3), min_size=2, max_size=8))
def test_equal_rewards_admits_groups_whose_rewards_differ(rewards):
    gate = make_gates(["equal_rewards"], {}, 2)["equal_rewards"]
    assert gate.admit(group(tuple(rewards))) == any(abs(a - b) > 1e-6 for a in rewards for b in rewards)


@given(st.lists(st.floats(0, 2), min_size=2, max_size=8))
def test_equal_rewards_by_accuracy_admits_groups_of_which_some_but_not_all_are_right(rewards):
    right = sum(reward >= 1.0 for reward in rewards)
    assert admitted("equal_rewards", *rewards, success_at=1.0) == (0 < right < len(rewards))


@pytest.mark.parametrize(("size", "kept"), [(10, {3, 4, 5, 6, 7}), (4, {2}), (8, {3, 4, 5}), (16, {*range(5, 12)})])
def test_pass_rate_band_admits_rates_within_it(size, kept):
    assert {right for right in range(size + 1) if admitted("pass_rate_band", *some_right(right, size))} == kept
    wide = {"low": 0.0, "high": 1.0}
    assert all(admitted("pass_rate_band", *some_right(right, size), **wide) for right in range(size + 1))


def test_a_pass_rate_can_be_that_of_right_answers():
    rewards = (1.1, 1.0, 0.1, 0.1)  # right answers, and a little for their form
    assert admitted("pass_rate_band", *rewards, success_at=1.0, low=0.5, high=0.5)
    assert not admitted("pass_rate_band", *rewards, low=0.5, high=0.5)


@pytest.mark.parametrize(
    ("version", "kept"), [(0, range(1, 8)), (19, range(1, 8)), (20, range(3, 6)), (99, range(3, 6))]
)
def test_reward_variance_asks_for_more_of_eight_rollouts_after_twenty_steps(version, kept):
    found = [right for right in range(9) if admitted("reward_variance", *some_right(right, 8), version=version)]
    assert found == [*kept]


@given(st.integers(2, 33), st.integers(0, 33), st.floats(0.01, 0.99))
def test_the_variance_is_a_share_of_the_largest_that_rewards_between_0_and_1_can_have(size, right, threshold):
    right = min(right, size)
    unbiased = right * (size - right) / (size * (size - 1))
    largest = size / (4 * (size - 1)) if size % 2 == 0 else (size + 1) / (4 * size)
    assume(abs(unbiased / largest - threshold) > 1e-9)
    found = admitted("reward_variance", *some_right(right, size), threshold=threshold)
    assert found == (unbiased / largest >= threshold)


@pytest.mark.parametrize(
    ("most", "cut", "expected"), [(0.5, 2, True), (0.5, 3, False), (0.0, 0, True), (0.0, 1, False)]
)
def test_truncated_admits_groups_with_few_cut_completions(most, cut, expected):
    gate = make_gates(["truncated"], {"truncated": {"most": most}}, 4)["truncated"]
    assert gate.admit(group((0.0,) * 4, (True,) * cut + (False,) * (4 - cut))) is expected


class Never(Gate):
    def admit(self, group):
        return False


def test_a_users_own_gate_is_found_by_its_import_path():
    name = f"{__name__}:Never"
    assert not make_gates([name], {}, 1)[name].admit(group())
    assert available_gates() == ["equal_rewards", "pass_rate_band", "reward_variance", "truncated"]


@pytest.mark.parametrize(
    ("names", "kwargs", "size", "message"),
    [
        (
            ["equal"],
            {},
            4,
            "Unknown gate 'equal'. Available: equal_rewards, pass_rate_band, reward_variance, truncated",
        ),
        (["equal_rewards"], {}, 1, "'equal_rewards' compares the completions of a prompt, but num_generations is 1"),
        (["pass_rate_band"], {"pass_rate_band": {"low": 0.9}}, 4, "low must not be above high; got 0.9 and 0.7"),
        (["reward_variance"], {}, 1, "'reward_variance' compares the completions of a prompt"),
        (["truncated"], {"truncated": {"most": 1.0}}, 4, "most must be at least 0 and below 1; got 1.0"),
        (["truncated"], {"truncated": {"least": 1}}, 4, "gate 'truncated' with gate_kwargs {'least': 1}"),
        (["truncated"], {"equal_rewards": {}}, 4, r"gate_kwargs names \['equal_rewards'\]"),
        (["json:dumps"], {}, 4, "gate 'json:dumps' is not a subclass of edco_rl.curriculum.Gate"),
    ],
)
def test_wrong_gates_are_refused(names, kwargs, size, message):
    with pytest.raises(ConfigurationError, match=message):
        make_gates(names, kwargs, size)
