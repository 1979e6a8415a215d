"""Which answers are right."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

from ..config import RunConfig
from ..errors import ConfigurationError
from ..rewards import RewardFunction, default_reward, get_reward
from ..runs.held_out import reward_kwargs


@dataclass(frozen=True)
class Judge:
    """A reward by name, whose 1 is a right answer, and its keyword arguments."""

    name: str
    kwargs: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, run: RunConfig, columns: Sequence[str]) -> Self:
        """The reward of held-out answers: the one that is named, or fits the rows' columns.

        Raises:
            ConfigurationError: The rows have no right answer.
        """
        name = run.held_out_reward or default_reward(columns)
        if name is None or "completion" not in columns:
            raise ConfigurationError(
                f"complexity-aware needs rows with a right answer; the data set has the columns {list(columns)}."
            )
        return cls(name, reward_kwargs(run).get(name, {}))

    @cached_property
    def reward(self) -> RewardFunction:
        """The reward itself."""
        return get_reward(self.name, **self.kwargs)
