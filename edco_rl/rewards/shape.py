"""Rewards of a completion's form: its tags and its length."""

from typing import Any, Literal

from ..errors import ConfigurationError
from .text import completion_text

_OPEN, _CLOSE = "<answer>", "</answer>"


def answer_format_reward(completions: list[Any], **kwargs: Any) -> list[float | None]:
    """1 where a completion ends with its one `<answer>...</answer>`, and something is in it; else 0.

    Args:
        completions (`list[str]` or `list[list[dict]]`):
            Completions; any reasoning stands before the tag.
    """
    scores: list[float | None] = []
    for completion in completions:
        text = completion_text(completion).rstrip()
        once = text.count(_OPEN) == text.count(_CLOSE) == 1
        inside = text.removesuffix(_CLOSE).partition(_OPEN)[2]
        scores.append(float(once and text.endswith(_CLOSE) and bool(inside.strip())))
    return scores


class LengthReward:
    """A reward of a completion's length: `inside` within the bounds, falling linearly to `outside` beyond them.

    With the defaults it only punishes: 0 within the bounds, down to -1. TRL's `get_soft_overlong_punishment` is the
    one of DAPO (arXiv 2503.14476, equation 13), for an upper bound alone.

    Args:
        minimum (`int`, *optional*), maximum (`int`, *optional*):
            Bounds, both included; at least one.
        margin (`int`, *optional*, defaults to `0`):
            Units beyond a bound over which the reward falls; 0 lets it fall at once.
        inside (`float`, *optional*, defaults to `0.0`), outside (`float`, *optional*, defaults to `-1.0`):
            Rewards within the bounds, and `margin` or more beyond them.
        unit (`str`, *optional*, defaults to `"tokens"`):
            `"tokens"` or `"characters"`.

    Raises:
        ConfigurationError: A value that makes no sense.

    Example:

    ```python
    >>> reward = LengthReward(maximum=80, margin=20)
    >>> reward(completions=["..."], completion_ids=[[1] * 90])
    [-0.5]
    ```
    """

    __name__ = "length_reward"  # TRL names its metrics by it

    def __init__(
        self,
        minimum: int | None = None,
        maximum: int | None = None,
        *,
        margin: int = 0,
        inside: float = 0.0,
        outside: float = -1.0,
        unit: Literal["tokens", "characters"] = "tokens",
    ) -> None:
        if minimum is None and maximum is None:
            raise ConfigurationError("reward length needs bounds: reward_kwargs: {length: {maximum: 256}}.")
        if unit not in ("tokens", "characters"):
            raise ConfigurationError(f"reward length: unit must be tokens or characters; got {unit!r}.")
        self.minimum = 0 if minimum is None else minimum
        self.maximum = float("inf") if maximum is None else maximum
        if not 0 <= self.minimum <= self.maximum or margin < 0 or outside > inside:
            raise ConfigurationError(
                "reward length: expected 0 <= minimum <= maximum, margin >= 0 and outside <= inside; got minimum "
                f"{minimum}, maximum {maximum}, margin {margin}, inside {inside}, outside {outside}."
            )
        self.margin, self.inside, self.outside, self.unit = margin, inside, outside, unit

    def __call__(
        self, completions: list[Any], completion_ids: list[list[int]] | None = None, **kwargs: Any
    ) -> list[float | None]:
        if self.unit == "characters":
            return [self._reward(len(completion_text(completion))) for completion in completions]
        if completion_ids is None:
            raise ConfigurationError("reward length counts tokens, and there are none here: set unit to characters.")
        return [self._reward(len(ids)) for ids in completion_ids]

    def _reward(self, length: int) -> float:
        beyond = max(self.minimum - length, length - self.maximum, 0)
        share = min(beyond / self.margin, 1.0) if self.margin else float(beyond > 0)
        return self.inside + share * (self.outside - self.inside)
