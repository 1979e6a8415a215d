"""Gates: which groups of rollouts the optimizer gets to see."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from ..errors import ConfigurationError
from ..plugins import Registry
from .strategy import Outcome


class Gate(ABC):
    """Base class of gates: decides on one group at a time, and the same on every rank.

    Example:

    ```python
    >>> class NotTooEasy(Gate):
    ...     needs_group = True
    ...
    ...     def admit(self, group):
    ...         return min(group.rewards) < 1.0
    ```
    """

    needs_group: ClassVar[bool] = False
    """Whether it compares the completions of a prompt, and so needs more than one."""

    @abstractmethod
    def admit(self, group: Outcome) -> bool:
        """Whether the optimizer may train on the group; `group.rewards` and `group.truncated` are set."""


class EqualRewards(Gate):
    """Drops groups whose rewards are all equal: their advantage is zero (DAPO, arXiv 2503.14476, dynamic sampling).

    Args:
        tolerance (`float`, *optional*, defaults to `1e-6`):
            Largest difference between two rewards that still counts as equal.
    """

    needs_group = True

    def __init__(self, tolerance: float = 1e-6) -> None:
        self.tolerance = tolerance

    def admit(self, group: Outcome) -> bool:
        assert group.rewards is not None
        return max(group.rewards) - min(group.rewards) > self.tolerance


class Truncated(Gate):
    """Drops groups with too many completions that the token limit cut off.

    Args:
        most (`float`, *optional*, defaults to `0.5`):
            Largest share of truncated completions that is admitted.
    """

    def __init__(self, most: float = 0.5) -> None:
        if not 0 <= most < 1:
            raise ConfigurationError(f"gate truncated: most must be at least 0 and below 1; got {most}.")
        self.most = most

    def admit(self, group: Outcome) -> bool:
        assert group.truncated is not None
        return sum(group.truncated) / len(group.truncated) <= self.most


GATES = Registry("gate", Gate, {"equal_rewards": EqualRewards, "truncated": Truncated})  # type: ignore[type-abstract]


def available_gates() -> list[str]:
    """Names of the gates of the package."""
    return GATES.names()


def make_gates(names: Sequence[str], kwargs: Mapping[str, Mapping[str, Any]], group_size: int) -> dict[str, Gate]:
    """The gates of those names, or a user's own by their import paths.

    Args:
        names (`Sequence[str]`):
            Names of [`available_gates`], or import paths (`package.module:Class`).
        kwargs (`Mapping[str, Mapping[str, Any]]`):
            Keyword arguments of the gates' constructors, by the same names.
        group_size (`int`):
            Completions a prompt.

    Raises:
        ConfigurationError: There is no such gate or argument, or a gate needs a group and there is none.
    """
    unknown = set(kwargs) - set(names)
    if unknown:
        raise ConfigurationError(f"gate_kwargs names {sorted(unknown)}, but gates are {list(names)}.")
    for name in names:
        if GATES.find(name).needs_group and group_size < 2:
            raise ConfigurationError(
                f"Gate {name!r} compares the completions of a prompt, but num_generations is {group_size}."
            )
    return {name: GATES.make(name, settings=kwargs.get(name)) for name in names}
