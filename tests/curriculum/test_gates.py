import pytest
from hypothesis import given
from hypothesis import strategies as st

from edco_rl.curriculum import Gate, Outcome, available_gates, make_gates
from edco_rl.errors import ConfigurationError


def group(rewards=(0.0, 1.0), truncated=(False, False)):
    return Outcome(index=0, version=0, rewards=rewards, truncated=truncated)


@given(st.lists(st.floats(-3, 3), min_size=2, max_size=8))
def test_equal_rewards_admits_groups_whose_rewards_differ(rewards):
    gate = make_gates(["equal_rewards"], {}, 2)["equal_rewards"]
    assert gate.admit(group(tuple(rewards))) == any(abs(a - b) > 1e-6 for a in rewards for b in rewards)


@pytest.mark.parametrize(
    ("most", "cut", "admitted"), [(0.5, 2, True), (0.5, 3, False), (0.0, 0, True), (0.0, 1, False)]
)
def test_truncated_admits_groups_with_few_cut_completions(most, cut, admitted):
    gate = make_gates(["truncated"], {"truncated": {"most": most}}, 4)["truncated"]
    assert gate.admit(group((0.0,) * 4, (True,) * cut + (False,) * (4 - cut))) is admitted


class Never(Gate):
    def admit(self, group):
        return False


def test_a_users_own_gate_is_found_by_its_import_path():
    name = f"{__name__}:Never"
    assert not make_gates([name], {}, 1)[name].admit(group())
    assert available_gates() == ["equal_rewards", "truncated"]


@pytest.mark.parametrize(
    ("names", "kwargs", "size", "message"),
    [
        (["equal"], {}, 4, "Unknown gate 'equal'. Available: equal_rewards, truncated"),
        (["equal_rewards"], {}, 1, "'equal_rewards' compares the completions of a prompt, but num_generations is 1"),
        (["truncated"], {"truncated": {"most": 1.0}}, 4, "most must be at least 0 and below 1; got 1.0"),
        (["truncated"], {"truncated": {"least": 1}}, 4, "gate 'truncated' with gate_kwargs {'least': 1}"),
        (["truncated"], {"equal_rewards": {}}, 4, r"gate_kwargs names \['equal_rewards'\]"),
        (["json:dumps"], {}, 4, "gate 'json:dumps' is not a subclass of edco_rl.curriculum.Gate"),
    ],
)
def test_wrong_gates_are_refused(names, kwargs, size, message):
    with pytest.raises(ConfigurationError, match=message):
        make_gates(names, kwargs, size)
