"""Gates: which groups of rollouts the optimizer gets to see."""

from abc import ABC, abstractmethod
from typing import ClassVar

from ..errors import ConfigurationError
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
