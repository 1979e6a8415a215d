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
    assert curriculum.prompts_used() == 2


def test_a_batch_that_ranks_cannot_share_is_refused():
    curriculum = Curriculum(Pool(list("abc")), "random", batch_size=3, size=3)
    with pytest.raises(ValueError, match="batch of 3 completions cannot be spread over 2"):
        CurriculumBatchSampler(curriculum, world_size=2)


@pytest.mark.parametrize("taken", range(1, 13))
def test_a_pass_that_was_saved_goes_on_where_it_was(taken):
    def sampler():
        curriculum = Curriculum(Pool(list("abcdefg"), seed=2), "random", batch_size=2, size=2)
        return CurriculumBatchSampler(curriculum, group_size=2, repeat_count=2)

    whole = sampler()
    batches = [*whole, *whole, *whole, *whole]
    first, second = sampler(), sampler()
    assert list(itertools.islice(itertools.chain(first, first), taken)) == batches[:taken]
    second.load_state_dict(first.state_dict())
    second.curriculum.load_state_dict(first.curriculum.state_dict())
    empty = taken % len(first)
    assert [*second, *second] == [[]] * empty + batches[taken : taken - empty + 12]


def test_a_pass_of_another_layout_is_refused():
    curriculum = Curriculum(Pool(list("abcdefg")), "random", batch_size=2, size=2)
    state = CurriculumBatchSampler(curriculum, group_size=2).state_dict()
    with pytest.raises(ConfigurationError, match="group_size 2, this run has 4"):
        CurriculumBatchSampler(curriculum, group_size=4).load_state_dict(state)
