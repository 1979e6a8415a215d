"""Which answers are right."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

from ..config import RunConfig
from ..errors import ConfigurationError
from ..rewards import RewardFunction, default_reward, get_reward


@dataclass(frozen=True)
class Judge:
    """A reward by name, with its settings.

    Args:
        name (`str`):
            The reward's; 1 is a right answer.
        kwargs (`dict`, *optional*):
            Its keyword arguments.
    """

    name: str
    kwargs: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, run: RunConfig, columns: Sequence[str]) -> Self:
        """The reward of held-out answers: the one that is named, or fits the rows' columns.

        Raises:
            ConfigurationError: The rows have no right answer.
        """
        name = run.held_out_reward or default_reward(list(columns))
        if name is None or "completion" not in columns:
            raise ConfigurationError(
                f"complexity-aware needs rows with a right answer; the data set has the columns {list(columns)}."
            )
        assert not isinstance(run.reward_kwargs, str)  # the configuration has parsed it
        return cls(name, (run.reward_kwargs or {}).get(name, {}))

    @cached_property
    def reward(self) -> RewardFunction:
        """The reward itself."""
        return get_reward(self.name, **self.kwargs)
