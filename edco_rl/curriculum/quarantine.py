"""Prompts that are not drawn again because of a number that was not finite, and how long no step has gone well."""

from collections.abc import Iterable
from typing import Any

from .pool import Pool
from .state import StateError, flag, sequence, step_number, whole, within


class Quarantine:
    """What numbers that are not finite have cost a run so far; the same on every rank, and kept in checkpoints.

    A loss that is not finite can be a prompt's fault or the weights'. So the prompts of such a step are suspects until
    a later step goes well: then it was not the weights.

    Args:
        pool (`Pool`):
            The prompts.

    Attributes:
        skipped (`int`): Optimizer steps left out so far.
        skipped_in_a_row (`int`): Those since the last that was done.
        rewarded (`bool`): Whether any completion has got a reward yet.
        unrewarded_in_a_row (`int`): Generation batches without any reward since the last that had one.
    """

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.skipped = 0
        self.skipped_in_a_row = 0
        self.rewarded = False
        self.unrewarded_in_a_row = 0
        self._entries: dict[int, dict[str, Any]] = {}
        self._suspects: dict[int, dict[str, Any]] = {}

    @property
    def entries(self) -> dict[str, dict[str, Any]]:
        """`step` and `reason` of each prompt in quarantine, by its id."""
        return {self.pool.ids[index]: entry for index, entry in self._entries.items()}

    def add(self, index: int, step: int, reason: str) -> bool:
        """Put a prompt in quarantine at an optimizer step; `False` where it is there already."""
        return self._add(index, {"step": step, "reason": reason})

    def _add(self, index: int, entry: dict[str, Any]) -> bool:
        new = index not in self._entries
        self._entries.setdefault(index, entry)
        self.pool.quarantined[index] = True
        return new

    def skip(self, step: int, suspects: Iterable[tuple[int, str]]) -> None:
        """Count an optimizer step that was left out, and suspect prompts, each for a reason."""
        self.skipped += 1
        self.skipped_in_a_row += 1
        for index, reason in suspects:
            self._suspects.setdefault(index, {"step": step, "reason": reason})

    def done(self) -> list[str]:
        """Count an optimizer step that was done, and return the suspects that it put in quarantine, by their ids."""
        self.skipped_in_a_row = 0
        suspects, self._suspects = self._suspects, {}
        return self.pool.ids_of([index for index, entry in suspects.items() if self._add(index, entry)])

    def reward(self, given: bool) -> None:
        """Count a generation batch, with any reward or without."""
        self.rewarded |= given
        self.unrewarded_in_a_row = 0 if given else self.unrewarded_in_a_row + 1

    def state_dict(self) -> dict[str, Any]:
        """The whole state, as plain values; prompts by their positions."""
        return {
            "entries": [[index, entry["step"], entry["reason"]] for index, entry in self._entries.items()],
            "suspects": [[index, entry["step"], entry["reason"]] for index, entry in self._suspects.items()],
            "skipped": self.skipped,
            "skipped_in_a_row": self.skipped_in_a_row,
            "rewarded": self.rewarded,
            "unrewarded_in_a_row": self.unrewarded_in_a_row,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what [`~Quarantine.state_dict`] returned."""
        self._entries, self.pool.quarantined[:] = {}, False
        for index, kept in self._kept(state, "entries").items():
            self._add(index, kept)
        self._suspects = self._kept(state, "suspects")
        self.skipped, self.skipped_in_a_row = whole(state, "skipped"), whole(state, "skipped_in_a_row")
        self.rewarded, self.unrewarded_in_a_row = flag(state, "rewarded"), whole(state, "unrewarded_in_a_row")

    def _kept(self, state: dict[str, Any], name: str) -> dict[int, dict[str, Any]]:
        """Step and reason of prompts, by their positions, as a state has them."""
        found: dict[int, dict[str, Any]] = {}
        for place, row in enumerate(sequence(state, name)):
            with within(f"{name}[{place}]"):
                kept = dict(zip(("prompt", "step", "reason"), row, strict=True))
                index = int(self.pool.moved([whole(kept, "prompt", most=self.pool.saved - 1)])[0])
                if index in found or not isinstance(kept["reason"], str):
                    raise StateError((), f"must be another prompt, a step and a reason; got {row}")
                found[index] = {"step": step_number(kept, "step"), "reason": kept["reason"]}
        return found
