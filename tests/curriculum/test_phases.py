"""Phases: parts of the pool one after the other, as a column says."""

import pytest

from edco_rl.errors import ConfigurationError

from .drawing import as_read, draw, flat, make

PHASE = [0, 1, 0, 0, 1, 0, 0, 1, 0, 1]  # six prompts, then four


def phases(**kwargs):
    return make("phases", pool_size=10, batch_size=2, columns={"phase": PHASE}, strategy_kwargs=kwargs)


def test_a_phase_is_passed_through_before_the_next_and_the_last_one_goes_on():
    curriculum = phases(stage_passes=3)
    assert len(curriculum.wants(None)) == 0 and curriculum.strategy.stage_lengths(2) == [9, 6]
    first = [flat(draw(curriculum, 3)) for _ in range(3)]
    assert all(sorted(one) == [0, 2, 3, 5, 6, 8] for one in first) and len({tuple(one) for one in first}) > 1
    assert curriculum.strategy.progress() == 0
    second = [flat(draw(curriculum, 2)) for _ in range(5)]
    assert all(sorted(one) == [1, 4, 7, 9] for one in second) and curriculum.strategy.progress() == 1


def test_phases_go_on_after_a_restart():
    whole, part = phases(stage_passes=2), phases(stage_passes=2)
    expected = draw(whole, 12)
    assert draw(part, 5) == expected[:5]
    resumed = phases(stage_passes=2)
    resumed.load_state_dict(as_read(part))
    assert draw(resumed, 7) == expected[5:]


def test_a_phase_smaller_than_a_batch_is_filled_up():
    curriculum = make("phases", pool_size=10, batch_size=5, columns={"phase": PHASE})
    first, second = map(set, draw(curriculum, 2))
    assert first < {0, 2, 3, 5, 6, 8} and {1, 4, 7, 9} < second


def test_a_column_of_phases_is_needed():
    with pytest.raises(ConfigurationError, match="needs a column 'phase'"):
        make("phases", columns={"prompt_length": [0] * 12})
