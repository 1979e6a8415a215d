"""Prompts that are not drawn again because of a number that was not finite, and how long no step has gone well."""

from collections.abc import Iterable
from typing import Any

from .pool import Pool
from .state import entry, flag, known_only, step_number, whole, within


class Quarantine:
    """What numbers that are not finite have cost a run so far; the same on every rank, and kept in checkpoints.

    A loss that is not finite can be a prompt's fault or the weights'. So the prompts of such a step are suspects until
    a later step goes well: then it was not the weights.

    Args:
        pool (`Pool`):
            The prompts.

    Attributes:
        entries (`dict[str, dict]`): `step` and `reason` of each prompt in quarantine, by its id.
        skipped (`int`): Optimizer steps left out so far.
        skipped_in_a_row (`int`): Those since the last that was done.
        rewarded (`bool`): Whether any completion has got a reward yet.
        unrewarded_in_a_row (`int`): Generation batches without any reward since the last that had one.
    """

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.entries: dict[str, dict[str, Any]] = {}
        self.skipped = 0
        self.skipped_in_a_row = 0
        self.rewarded = False
        self.unrewarded_in_a_row = 0
        self._suspects: dict[str, dict[str, Any]] = {}

    def add(self, index: int, step: int, reason: str) -> bool:
        """Put a prompt in quarantine at an optimizer step; `False` where it is there already."""
        return self._add(self.pool.ids[index], {"step": step, "reason": reason})

    def _add(self, prompt_id: str, entry: dict[str, Any]) -> bool:
        new = prompt_id not in self.entries
        self.entries.setdefault(prompt_id, entry)
        self.pool.quarantined[self.pool.index[prompt_id]] = True
        return new

    def skip(self, step: int, suspects: Iterable[tuple[int, str]]) -> None:
        """Count an optimizer step that was left out, and suspect prompts, each for a reason."""
        self.skipped += 1
        self.skipped_in_a_row += 1
        for index, reason in suspects:
            self._suspects.setdefault(self.pool.ids[index], {"step": step, "reason": reason})

    def done(self) -> list[str]:
        """Count an optimizer step that was done, and return the suspects that it put in quarantine, by their ids."""
        self.skipped_in_a_row = 0
        suspects, self._suspects = self._suspects, {}
        return [prompt_id for prompt_id, entry in suspects.items() if self._add(prompt_id, entry)]

    def reward(self, given: bool) -> None:
        """Count a generation batch, with any reward or without."""
        self.rewarded |= given
        self.unrewarded_in_a_row = 0 if given else self.unrewarded_in_a_row + 1

    def state_dict(self) -> dict[str, Any]:
        """The whole state, as plain values, by prompt id."""
        return {
            "entries": dict(self.entries),
            "suspects": dict(self._suspects),
            "skipped": self.skipped,
            "skipped_in_a_row": self.skipped_in_a_row,
            "rewarded": self.rewarded,
            "unrewarded_in_a_row": self.unrewarded_in_a_row,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what [`~Quarantine.state_dict`] returned."""
        self.entries, self.pool.quarantined[:] = {}, False
        for prompt_id, kept in self._kept(state, "entries").items():
            self._add(prompt_id, kept)
        self._suspects = self._kept(state, "suspects")
        self.skipped, self.skipped_in_a_row = whole(state, "skipped"), whole(state, "skipped_in_a_row")
        self.rewarded, self.unrewarded_in_a_row = flag(state, "rewarded"), whole(state, "unrewarded_in_a_row")

    def _kept(self, state: dict[str, Any], name: str) -> dict[str, dict[str, Any]]:
        """Step and reason of prompts, by their ids, as a state has them."""
        with within(name):
            known_only(entry(state, name), self.pool.ids)
            for prompt_id, kept in state[name].items():
                with within(prompt_id):
                    known_only(kept, ("step", "reason"))
                    step_number(kept, "step")
                    if not isinstance(entry(kept, "reason"), str):
                        raise TypeError("a reason is text")
            return dict(state[name])
