import itertools

import pytest
from trl.trainer.utils import RepeatSampler

from edco_rl.curriculum import Curriculum, CurriculumBatchSampler, Pool
from edco_rl.errors import ConfigurationError


@pytest.mark.parametrize("world_size", [1, 2, 4])
@pytest.mark.parametrize("repeat_count", [1, 3])
def test_ranks_get_the_slices_trl_gives_them(world_size, repeat_count):
    def sampler(rank):
        curriculum = Curriculum(
            Pool(list("abcdefghij"), lambda epoch: list(range(10))), "random", batch_size=4, size=4
        )
        return CurriculumBatchSampler(
            curriculum, group_size=2, repeat_count=repeat_count, rank=rank, world_size=world_size
        )

    samplers = [sampler(rank) for rank in range(world_size)]
    batches = list(zip(*samplers, strict=True))
    trl = RepeatSampler(range(10), mini_repeat_count=2, batch_size=4, repeat_count=repeat_count, shuffle=False)
    assert [index for batch in batches for rank in batch for index in rank] == list(trl)
    assert len(batches) == len(samplers[0]) == len(trl) // 8


def test_nothing_is_drawn_before_it_is_needed():
    curriculum = Curriculum(Pool(list("abcdef")), "random", batch_size=2, size=2)
    batches = iter(CurriculumBatchSampler(curriculum))
    next(batches)
    assert curriculum.visits.prompts == 2


def test_a_batch_that_ranks_cannot_share_is_refused():
    curriculum = Curriculum(Pool(list("abc")), "random", batch_size=3, size=3)
    with pytest.raises(ValueError, match="batch of 3 completions cannot be spread over 2"):
        CurriculumBatchSampler(curriculum, world_size=2)


def sampler(settings=None):
    curriculum = Curriculum(Pool(list("abcdefg"), seed=2), "random", batch_size=2, size=2)
    return CurriculumBatchSampler(curriculum, group_size=2, repeat_count=2, settings=settings)


def restored(first, settings=None):
    second = sampler(settings)
    second.curriculum.load_state_dict(first.curriculum.state_dict())
    second.load_state_dict(first.state_dict())
    return second


@pytest.mark.parametrize("taken", range(1, 13))
def test_a_pass_that_was_saved_goes_on_where_it_was(taken):
    whole, first = sampler(), sampler()
    batches = [*whole, *whole, *whole, *whole]
    assert list(itertools.islice(itertools.chain(first, first), taken)) == batches[:taken]
    second = restored(first)
    done = taken % len(first)
    second.skip(done)
    assert [*second, *second] == [[]] * done + batches[taken : taken - done + 12]


@pytest.mark.parametrize("taken", [1, 2, 3])
def test_a_pass_that_was_left_goes_on_with_what_is_left_of_its_batch(taken):
    whole, left = sampler(), sampler()
    batches = [*whole, *whole]
    assert list(itertools.islice(left, taken)) == batches[:taken]
    assert list(left) == batches[taken : taken + 6]


@pytest.mark.parametrize("skipped", range(6))
def test_batches_that_are_passed_over_draw_nothing(skipped):
    one = sampler()
    one.skip(skipped)
    batches = list(one)
    assert batches[:skipped] == [[]] * skipped and all(batches[skipped:]) and len(batches) == 6
    assert one.curriculum.pool.visits.sum() == 2 * -(-(6 - skipped) // 2)
    assert all(one)  # once


def test_other_settings_are_refused_by_their_names_where_a_batch_is_not_used_up():
    first = sampler({"num_generations": 2, "processes": 1})
    batches = iter(first)
    for uses_left in (1, 0):
        next(batches)
        assert restored(first, first.settings).uses_left == uses_left
    more = {"num_generations": 2, "processes": 4}
    assert restored(first, more).uses_left == 0
    next(batches)
    with pytest.raises(ConfigurationError, match=r"made with processes 1, this run has 4, .* 1 of its uses are left"):
        restored(first, more)
