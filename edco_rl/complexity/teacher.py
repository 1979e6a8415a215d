"""A teacher behind an OpenAI-compatible endpoint: asked in parallel, patiently, and within a budget."""

import asyncio
import json
import logging
import math
import random
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any

from openai import APIConnectionError, APIStatusError, AsyncOpenAI

from ..config import ComplexityConfig
from ..errors import EdcoRLError
from .teacher_cache import Reply, TeacherCache, question_key

logger = logging.getLogger(__name__)

_LONGEST_BACKOFF = 60.0
_REPEATED_STATUSES = (408, 409, 429)
# The endpoint will not answer any question: who asks, or for which model, is wrong.
_HOPELESS_STATUSES = (401, 402, 403, 404)
# Tokens a chat template may add to a message.
_TEMPLATE_TOKENS = 64

Messages = Sequence[Mapping[str, str]]


class TeacherError(EdcoRLError, RuntimeError):
    """The teacher cannot go on; the message says why, and what has become of the rows."""


@dataclass
class Asked:
    """What came of asking.

    Args:
        replies (`dict[str, Reply]`):
            Replies by key, those of earlier runs included.
        failed (`dict[str, str]`):
            Why a question has no reply though it was asked, by key.
        pending (`list[str]`):
            Keys of questions that were not asked.
        stopped (`str`, *optional*):
            Why they were not.
        refused (`bool`):
            Whether that was the endpoint's refusal to answer anything: who asks, or for which model, is wrong.
        sent (`int`):
            Requests sent, repeated ones included.
    """

    replies: dict[str, Reply] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    pending: list[str] = field(default_factory=list)
    stopped: str | None = None
    refused: bool = False
    sent: int = 0


class Teacher:
    """Asks an OpenAI-compatible endpoint for chat completions.

    Each reply is in the cache before anything else happens, so that a run that ends at any moment has paid for nothing
    twice. What was charged for a request that timed out or whose answer could not be read is unknown, and not counted.

    Args:
        url (`Callable[[], str]`):
            Gives the base URL, as `http://localhost:8000/v1`, when there is something to ask.
        model (`str`):
            Name of the model there.
        identity (`Any`):
            What stands for the teacher in the cache, as JSON values.
        config (`ComplexityConfig`):
            Its settings that begin with `teacher_`.
        cache (`TeacherCache`):
            Keeps the replies.
        key (`str`, *optional*, defaults to `"none"`):
            Key of the endpoint.
    """

    def __init__(
        self,
        url: Callable[[], str],
        model: str,
        identity: Any,
        config: ComplexityConfig,
        cache: TeacherCache,
        key: str = "none",
    ) -> None:
        self.url = url
        self.model = model
        self.identity = identity
        self.config = config
        self.cache = cache
        self._api_key = key

    def key(self, messages: Messages) -> str:
        """The cache's key for a question."""
        body = {name: value for name, value in self._body(messages).items() if name != "model"}
        return question_key(self.identity, body)

    def ask(self, questions: Mapping[str, Messages], report: Callable[[int], Any] = lambda done: None) -> Asked:
        """Ask questions that have no reply in the cache.

        Args:
            questions (`Mapping[str, Sequence[Mapping]]`):
                Messages by their [`~Teacher.key`].
            report (`Callable`, *optional*):
                Called with the number of questions that are done.
        """
        asked = Asked()
        waiting = deque[str]()
        for key in questions:
            reply = self.cache.get(key)
            if reply is None:
                waiting.append(key)
            else:
                asked.replies[key] = reply
        report(len(asked.replies))
        if waiting:
            asyncio.run(self._ask(self.url(), questions, waiting, asked, report))
        return asked

    async def _ask(
        self,
        url: str,
        questions: Mapping[str, Messages],
        waiting: deque[str],
        asked: Asked,
        report: Callable[[int], Any],
    ) -> None:
        budget = _Budget(self.config, *self.cache.paid())
        pace = _Pace(self.config.teacher_requests_per_minute)
        failures_in_a_row = 0

        async def work(client: AsyncOpenAI) -> None:
            nonlocal failures_in_a_row
            while waiting and asked.stopped is None:
                key = waiting.popleft()
                messages = questions[key]
                most = _most_tokens(messages), self.config.teacher_answer_tokens
                if not await budget.reserve(*most):
                    waiting.appendleft(key)
                    asked.stopped = asked.stopped or "the budget is used up"
                    return
                try:
                    answer = await self._answer(client, messages, pace, asked)
                    if isinstance(answer, Reply):
                        self.cache.put(key, answer)
                        asked.replies[key] = answer
                        budget.pay(answer.prompt_tokens, answer.answer_tokens)
                        failures_in_a_row = 0
                    else:
                        asked.failed[key] = answer
                        failures_in_a_row += 1
                        if failures_in_a_row >= self.config.teacher_max_failures:
                            asked.stopped = f"{failures_in_a_row} questions in a row failed, the last with {answer}"
                except PermissionError as error:
                    waiting.appendleft(key)
                    asked.stopped, asked.refused = str(error), True
                finally:
                    await budget.release(*most)
                report(len(asked.replies) + len(asked.failed))

        # Attempts are counted, paced and timed here, those whose answer cannot be read among them.
        async with (
            AsyncOpenAI(
                base_url=url, api_key=self._api_key, max_retries=0, timeout=self.config.teacher_timeout
            ) as client,
            asyncio.TaskGroup() as group,
        ):
            for _ in range(min(self.config.teacher_concurrency, len(waiting))):
                group.create_task(work(client))
        asked.pending = list(waiting)

    async def _answer(self, client: AsyncOpenAI, messages: Messages, pace: "_Pace", asked: Asked) -> Reply | str:
        """A reply, or why there is none after the last attempt. `PermissionError`: there will be none for any."""
        problem = ""
        for attempt in range(self.config.teacher_attempts):
            if attempt:
                wait = min(self.config.teacher_backoff * 2 ** (attempt - 1), _LONGEST_BACKOFF)
                await asyncio.sleep(wait * random.uniform(0.75, 1.25))
            await pace.turn()
            asked.sent += 1
            try:
                raw = await client.chat.completions.with_raw_response.create(**self._body(messages))
                return parse_reply(raw.http_response.text, messages)
            except APIStatusError as error:
                problem = f"HTTP {error.status_code}"
                if error.status_code in _HOPELESS_STATUSES:
                    text = f"the teacher at {client.base_url} answers {problem}: {error.message[:500]}"
                    raise PermissionError(text) from error
                if error.status_code not in _REPEATED_STATUSES and error.status_code < 500:
                    return f"{problem}: {error.message[:200]}"
                pause = retry_after(error.response.headers.get("retry-after"))
                if pause > _LONGEST_BACKOFF:
                    logger.warning("The teacher at %s asks to wait %.0f seconds.", client.base_url, pause)
                pace.hold(pause)
            except APIConnectionError as error:
                problem = type(error).__name__
            except UnreadableReplyError as error:
                problem = str(error)
        return problem

    def _body(self, messages: Messages) -> dict[str, Any]:
        assert not isinstance(self.config.teacher_request, str)  # the configuration has parsed it
        return {
            "model": self.model,
            "messages": [dict(message) for message in messages],
            "temperature": self.config.teacher_temperature,
            "max_tokens": self.config.teacher_answer_tokens,
            "extra_body": self.config.teacher_request or {},
        }


class UnreadableReplyError(ValueError):
    """An endpoint answered with something that is no chat completion."""


def parse_reply(text: str, messages: Messages) -> Reply:
    """A reply from the body of a chat completion. One without a choice, or without text, is an empty reply.

    Tokens the endpoint does not count are taken as one a byte, so that a budget holds.

    Args:
        text (`str`):
            The body.
        messages (`Sequence[Mapping]`):
            The question.

    Raises:
        UnreadableReplyError: The body is not JSON, or not of that form.
    """
    try:
        body = json.loads(text)
        usage = body.get("usage") or {}
        choice = (body["choices"] or [{}])[0]
        message = choice.get("message") or {}
        answer = str(message.get("content") or "").strip()
        reasoning = str(message.get("reasoning_content") or message.get("reasoning") or "").strip()
        return Reply(
            text=answer,
            reasoning=reasoning,
            finish_reason=str(choice.get("finish_reason") or "none"),
            prompt_tokens=int(usage.get("prompt_tokens", _most_tokens(messages))),
            answer_tokens=int(usage.get("completion_tokens", len((reasoning + answer).encode()))),
        )
    except (json.JSONDecodeError, KeyError, AttributeError, TypeError, ValueError, IndexError) as error:
        raise UnreadableReplyError(f"an answer that is no chat completion ({type(error).__name__})") from error


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


def _most_tokens(messages: Messages) -> int:
    """More tokens than a prompt can have: none is shorter than a byte."""
    return sum(len(message["content"].encode()) + _TEMPLATE_TOKENS for message in messages)


class _Pace:
    """Lets requests pass at most so often, and none while the endpoint asks to wait."""

    def __init__(self, requests_per_minute: float | None) -> None:
        self._interval = 60.0 / requests_per_minute if requests_per_minute else 0.0
        self._next = 0.0

    async def turn(self) -> None:
        while (wait := self._next - time.monotonic()) > 0:
            await asyncio.sleep(wait)
        self._next = time.monotonic() + self._interval

    def hold(self, seconds: float) -> None:
        self._next = max(self._next, time.monotonic() + seconds)


class _Budget:
    """Tokens and price that may be paid. A request is let through when its longest answer fits into what is left."""

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
        self._paid = self._paid[0] + prompt, self._paid[1] + answer

    async def release(self, prompt: int, answer: int) -> None:
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
