"""The pool: the prompts a curriculum chooses from, known by stable ids."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

IndexArray = NDArray[np.int64]


class Pool:
    """The prompts of a training set.

    Args:
        ids (`Sequence[str]`):
            One id a prompt, all different. State is kept by id, so that a data set that grew or was
            re-ordered resumes.
        order (`Callable[[int], IndexArray]`, *optional*):
            The shuffled order of the pool in pass 0, 1, ...: a permutation of its indices. A trainer gives its own
            sampler's, so that `random` is what it would have done without a curriculum.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the default order.

    Raises:
        ValueError: There are no prompts, or two have the same id.
    """

    def __init__(self, ids: Sequence[str], order: Callable[[int], IndexArray] | None = None, seed: int = 0) -> None:
        self.ids = tuple(ids)
        if not self.ids:
            raise ValueError("The pool has no prompts.")
        self.index = {prompt_id: index for index, prompt_id in enumerate(self.ids)}
        if len(self.index) < len(self.ids):
            seen: set[str] = set()
            double = next(i for i in self.ids if i in seen or seen.add(i))  # type: ignore[func-returns-value]
            raise ValueError(f"Two prompts of the pool have the id {double!r}.")
        self.seed = seed
        self.order = order or self._numpy_order

    def _numpy_order(self, epoch: int) -> IndexArray:
        return np.random.default_rng((self.seed, epoch)).permutation(len(self.ids))

    def __len__(self) -> int:
        return len(self.ids)
