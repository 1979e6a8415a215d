import copy

import pytest

from edco_rl import ConfigurationError, Pool
from edco_rl.curriculum import Curriculum


def make(count=6, batch_size=2):
    return Curriculum(Pool([f"row {i}" for i in range(count)]), "random", batch_size=batch_size, size=count)


def drawn(curriculum, batches=6):
    return {int(index) for _ in range(batches) for index in curriculum.next_batch()}


def test_prompts_in_quarantine_are_not_drawn_again_after_a_restart_either():
    curriculum = make()
    assert curriculum.quarantine.add(3, 7, "not finite") and not curriculum.quarantine.add(3, 8, "again")
    assert curriculum.quarantine.entries == {"row 3": {"step": 7, "reason": "not finite"}}
    again = make()
    again.load_state_dict(copy.deepcopy(curriculum.state_dict()))
    for one in (curriculum, again):
        assert drawn(one) == {0, 1, 2, 4, 5} and one.metrics()["quarantined"] == 1
    assert again.quarantine.state_dict() == curriculum.quarantine.state_dict()


def test_fewer_prompts_than_a_batch_takes_are_told():
    curriculum = make(count=3)
    curriculum.quarantine.add(0, 0, "")
    curriculum.next_batch()
    curriculum.quarantine.add(1, 0, "")
    with pytest.raises(ConfigurationError, match="A batch takes more different prompts than the 1 that can be drawn"):
        curriculum.next_batch()


def test_suspects_go_into_quarantine_once_a_step_goes_well():
    quarantine = make().quarantine
    quarantine.skip(1, [(0, "first")])
    quarantine.skip(2, [(4, "second"), (0, "third")])
    assert (quarantine.skipped, quarantine.skipped_in_a_row, quarantine.entries) == (2, 2, {})
    again = make().quarantine
    again.load_state_dict(copy.deepcopy(quarantine.state_dict()))
    assert again.done() == quarantine.done() == ["row 0", "row 4"]
    assert again.entries == {"row 0": {"step": 1, "reason": "first"}, "row 4": {"step": 2, "reason": "second"}}
    assert (again.skipped, again.skipped_in_a_row, again.done()) == (2, 0, [])


def test_batches_without_a_reward_are_counted_in_a_row():
    quarantine = make().quarantine
    for given, expected in ((False, 1), (False, 2), (True, 0), (False, 1)):
        quarantine.reward(given)
        assert quarantine.unrewarded_in_a_row == expected
    assert quarantine.rewarded
