"""Batches of a curriculum in the layout of TRL's `RepeatSampler`, cut to one rank."""

from collections.abc import Iterator

import numpy as np

from ..errors import ConfigurationError
from .curriculum import Curriculum


class CurriculumBatchSampler:
    """A batch sampler for a `DataLoader` that draws from the curriculum when a batch is needed, not ahead of it.

    A generation batch holds each drawn prompt `group_size` times in a row and is spread over the ranks in contiguous
    slices; it is yielded `repeat_count` times before the next one is drawn. That is the contract of TRL's
    `RepeatSampler` behind accelerate's sharding. Give it to a plain `DataLoader`: accelerate's fetches one batch
    ahead, which would choose prompts before the policy that should choose them exists.

    Args:
        curriculum (`Curriculum`):
            Where prompts come from; in the same state on every rank.
        group_size (`int`, *optional*, defaults to `1`):
            Completions a prompt.
        repeat_count (`int`, *optional*, defaults to `1`):
            Times a generation batch is reused.
        rank (`int`, *optional*, defaults to `0`):
            This process.
        world_size (`int`, *optional*, defaults to `1`):
            Processes.

    Attributes:
        position (`int`): Batches yielded in this pass. Set before iterating, that many batches come out empty and draw
            nothing: a trainer that resumes skips them.
    """

    def __init__(
        self, curriculum: Curriculum, *, group_size: int = 1, repeat_count: int = 1, rank: int = 0, world_size: int = 1
    ) -> None:
        total = curriculum.batch_size * group_size
        if total % world_size:
            raise ValueError(
                f"A generation batch of {total} completions cannot be spread over {world_size} processes."
            )
        self.curriculum = curriculum
        self.group_size = group_size
        self.repeat_count = repeat_count
        self.rank = rank
        self.local_size = total // world_size
        self.position = 0

    def __iter__(self) -> Iterator[list[int]]:
        self.position %= len(self)  # a trainer does not ask a pass it has used up whether it is over
        for _ in range(self.position):
            yield []
        while self.position < len(self):
            if self.position % self.repeat_count == 0:
                self.curriculum.next_batch()
            rows = np.repeat(self.curriculum.batch[: self.curriculum.batch_size], self.group_size)
            self.position += 1
            yield rows[self.rank * self.local_size : (self.rank + 1) * self.local_size].tolist()

    def state_dict(self) -> dict[str, int]:
        """Where the pass is, and the layout its position counts in."""
        return {"position": self.position, "group_size": self.group_size, "repeat_count": self.repeat_count}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Restore what [`~CurriculumBatchSampler.state_dict`] returned.

        Raises:
            ConfigurationError: The layout is another.
        """
        for key in ("group_size", "repeat_count"):
            if state[key] != getattr(self, key):
                raise ConfigurationError(
                    f"The checkpoint's batches have {key} {state[key]}, this run has {getattr(self, key)}."
                )
        self.position = state["position"]

    def __len__(self) -> int:
        return len(self.curriculum.pool) // self.curriculum.batch_size * self.repeat_count
