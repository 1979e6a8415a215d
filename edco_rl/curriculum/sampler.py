"""Batches of a curriculum in the layout of TRL's `RepeatSampler`, cut to one rank."""

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ..errors import ConfigurationError
from .curriculum import Curriculum
from .pool import IndexArray
from .state import StateError, changed_settings, entry, whole


class CurriculumBatchSampler:
    """A batch sampler for a `DataLoader` that draws from the curriculum when a batch is needed, not ahead of it.

    A generation batch holds each drawn prompt `group_size` times in a row and is spread over the ranks in contiguous
    slices; it is yielded `repeat_count` times before the next one is drawn. That is the contract of TRL's
    `RepeatSampler` behind accelerate's sharding. Give it to a plain `DataLoader`: accelerate's fetches one batch
    ahead, which would choose prompts before the policy that should choose them exists.

    The sampler knows by itself where in a generation batch it is, so that a pass can be left at any batch: the next
    one begins with what is left of its generation batch.

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
        settings (`Mapping[str, Any]`, *optional*):
            Settings a generation batch is made with, by the names users know. A run that resumes within one needs the
            same.

    Attributes:
        uses_left (`int`): Times the current generation batch is still to be yielded.
    """

    def __init__(
        self,
        curriculum: Curriculum,
        *,
        group_size: int = 1,
        repeat_count: int = 1,
        rank: int = 0,
        world_size: int = 1,
        settings: Mapping[str, Any] | None = None,
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
        self.settings = dict(settings or {})
        self.uses_left = 0
        self._skipped = 0
        self._yielded_in_step = 0
        self._not_taken: deque[IndexArray] = deque()

    def skip(self, batches: int) -> None:
        """Let the next pass begin with this many empty batches, which draw nothing.

        A trainer that resumes passes over the batches of its pass that were trained on before.
        """
        self._skipped = batches

    def take(self) -> IndexArray:
        """The generation batch that was drawn first of those not taken in this pass, shape (batch_size,).

        A trainer that accumulates gradients over several has them all drawn before it makes rollouts of the first.
        """
        return self._not_taken.popleft()

    @property
    def next_taken(self) -> IndexArray:
        """What [`~CurriculumBatchSampler.take`] returns next."""
        return self._not_taken[0]

    def __iter__(self) -> Iterator[list[int]]:
        skipped, self._skipped = self._skipped, 0
        self._not_taken.clear()  # a step that was left in the middle makes no rollouts any more
        for number in range(len(self)):
            yield [] if number < skipped else self._next()

    def _next(self) -> list[int]:
        """This rank's rows of the next batch."""
        if self.uses_left == 0:
            self.curriculum.next_batch()
            self.uses_left = self.repeat_count
        if self.uses_left == self.repeat_count:
            self._not_taken.append(self.curriculum.batch[: self.curriculum.batch_size])
        self.uses_left -= 1
        self._yielded_in_step += 1
        rows = np.repeat(self.curriculum.batch[: self.curriculum.batch_size], self.group_size)
        return rows[self.rank * self.local_size : (self.rank + 1) * self.local_size].tolist()

    def step_done(self) -> None:
        """Told that an optimizer step has used what was yielded."""
        self._yielded_in_step = 0

    def take_back(self) -> int:
        """Have what was yielded for a step that is not done yielded again, as far as the generation batch goes.

        Returns:
            `int`: batches that are passed over: those of generation batches drawn for the same step before the last.
        """
        back = min(self._yielded_in_step, self.repeat_count - self.uses_left)
        passed_over, self._yielded_in_step = self._yielded_in_step - back, 0
        self.uses_left += back
        return passed_over

    @property
    def untouched(self) -> IndexArray:
        """The generation batch if it was drawn for a step that did not use it, else nothing."""
        drawn = self.uses_left == self.repeat_count
        return self.curriculum.batch[: self.curriculum.batch_size if drawn else 0]

    def state_dict(self) -> dict[str, Any]:
        """What is left of the generation batch, and the settings it was made with."""
        return {"uses_left": self.uses_left, "settings": self.settings}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what [`~CurriculumBatchSampler.state_dict`] returned, once the curriculum is restored.

        Raises:
            ConfigurationError: A generation batch is not used up, or the next one drawn already, and a setting it was
                made with is another.
        """
        uses_left, settings = whole(state, "uses_left"), entry(state, "settings")
        changed = changed_settings(settings, self.settings)
        if len(self.curriculum.ahead) and changed:
            raise ConfigurationError(
                f"The checkpoint was made with {'; '.join(changed.values())}, and with rollouts_ahead: the prompts of "
                "its next generation batch are drawn. Resume with the same settings."
            )
        if uses_left and changed:
            raise ConfigurationError(
                f"The checkpoint was made with {'; '.join(changed.values())}, and it lies within a generation batch: "
                f"{uses_left} of its uses are left. Resume with the same, or from a checkpoint between two generation "
                "batches."
            )
        self.uses_left = whole(state, "uses_left", most=self.repeat_count) if uses_left else 0
        if uses_left and len(self.curriculum.batch) < self.curriculum.batch_size:
            raise StateError(("uses_left",), f"is {uses_left}, of a batch of {len(self.curriculum.batch)} prompts")
        if len(self.curriculum.ahead) not in (0, self.curriculum.batch_size):
            raise StateError((), f"belongs to a next batch of {len(self.curriculum.ahead)} prompts")

    def __len__(self) -> int:
        return len(self.curriculum.pool) // self.curriculum.batch_size * self.repeat_count
