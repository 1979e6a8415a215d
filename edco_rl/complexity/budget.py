"""What asking a teacher may cost: requests a minute, tokens and their price."""

import asyncio
import math
import time
from email.utils import parsedate_to_datetime

from ..config import ComplexityConfig


class Pace:
    """Lets requests pass at most so often, and none while the endpoint asks to wait.

    Args:
        requests_per_minute (`float`, *optional*):
            Most requests a minute; by default no limit.
    """

    def __init__(self, requests_per_minute: float | None) -> None:
        self._interval = 60.0 / requests_per_minute if requests_per_minute else 0.0
        self._next = 0.0

    async def turn(self) -> None:
        """Wait until the next request may be sent."""
        while (wait := self._next - time.monotonic()) > 0:
            await asyncio.sleep(wait)
        self._next = time.monotonic() + self._interval

    def hold(self, seconds: float) -> None:
        """Let none pass for so long."""
        self._next = max(self._next, time.monotonic() + seconds)


class Budget:
    """Tokens and price that may be paid. A request is let through when its longest answer fits into what is left.

    Args:
        config (`ComplexityConfig`):
            The budgets and prices.
        prompt_tokens (`int`), answer_tokens (`int`):
            Tokens that were paid before.
    """

    def __init__(self, config: ComplexityConfig, prompt_tokens: int, answer_tokens: int) -> None:
        self._config = config
        self._paid = prompt_tokens, answer_tokens
        self._reserved = 0, 0
        self._changed = asyncio.Condition()

    async def reserve(self, prompt: int, answer: int) -> bool:
        """Wait until a request fits in beside those under way; `False` when it does not fit in at all."""
        async with self._changed:
            while not self._fits(prompt, answer):
                if self._reserved == (0, 0):
                    return False
                await self._changed.wait()
            self._reserved = self._reserved[0] + prompt, self._reserved[1] + answer
            return True

    def pay(self, prompt: int, answer: int) -> None:
        """Count what a request has cost."""
        self._paid = self._paid[0] + prompt, self._paid[1] + answer

    async def release(self, prompt: int, answer: int) -> None:
        """Give back what was reserved for a request that is done."""
        async with self._changed:
            self._reserved = self._reserved[0] - prompt, self._reserved[1] - answer
            self._changed.notify_all()

    def _fits(self, prompt: int, answer: int) -> bool:
        config = self._config
        prompt += self._paid[0] + self._reserved[0]
        answer += self._paid[1] + self._reserved[1]
        if config.teacher_token_budget is not None and prompt + answer > config.teacher_token_budget:
            return False
        price = price_of(config, prompt, answer)
        return config.teacher_price_budget is None or price <= config.teacher_price_budget


def price_of(config: ComplexityConfig, prompt_tokens: int, answer_tokens: int) -> float:
    """Price of tokens, as configured."""
    return (prompt_tokens * config.teacher_prompt_price + answer_tokens * config.teacher_answer_price) / 1e6


def retry_after(header: str | None) -> float:
    """Seconds a `Retry-After` header asks to wait: a number, or a date (RFC 9110); 0 without one that can be read."""
    if not header:
        return 0.0
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(header).timestamp() - time.time()
        except (TypeError, ValueError):
            return 0.0
    return max(seconds, 0.0) if math.isfinite(seconds) else 0.0
