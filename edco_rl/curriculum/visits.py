"""Which prompts were drawn, and how many of them again from one curriculum to the next."""

from typing import Any

import numpy as np

from .pool import IndexArray, Pool
from .pool_state import drawn_prompts, restore_pool


class Visits:
    """Counts each time a prompt is drawn.

    Args:
        pool (`Pool`):
            The prompts; its `visits` are counted up.
    """

    def __init__(self, pool: Pool) -> None:
        self.prompts = 0
        """Different prompts drawn so far."""
        self._pool = pool
        # Prompts drawn since the last renewal, and between the one before and it.
        self._latest: set[int] = set()
        self._before: set[int] = set()

    def draw(self, chosen: IndexArray) -> None:
        """Count prompts that were drawn."""
        self.prompts += int(np.count_nonzero(self._pool.visits[chosen] == 0))
        self._pool.visits[chosen] += 1
        self._latest.update(chosen.tolist())

    def renew(self) -> None:
        """Told that a curriculum begins."""
        self._latest, self._before = set(), self._latest

    def metrics(self) -> dict[str, float]:
        """`visited`, the share of the pool drawn so far; and `overlap`, the share of the prompts drawn since the last
        renewal that had been drawn between it and the one before."""
        found = {"visited": self.prompts / len(self._pool)}
        if self._latest and self._before:
            found["overlap"] = len(self._latest & self._before) / len(self._latest)
        return found

    def state_dict(self) -> dict[str, Any]:
        """The whole state, that of the pool with it."""
        return {
            "keys": self._pool.keys,
            "visits": self._pool.visits.copy(),
            "drawn": np.array(sorted(self._latest), dtype=np.int64),
            "drawn_before": np.array(sorted(self._before), dtype=np.int64),
        }

    def load_state_dict(self, state: Any) -> None:
        """Restore what [`~Visits.state_dict`] returned, entries of others beside it.

        Raises:
            ConfigurationError: Prompts are gone, or an entry cannot be right.
        """
        restore_pool(state, self._pool)
        self.prompts = int(np.count_nonzero(self._pool.visits))
        self._latest = set(drawn_prompts(state, "drawn", self._pool, ascending=True).tolist())
        self._before = set(drawn_prompts(state, "drawn_before", self._pool, ascending=True).tolist())
