"""A teacher behind an OpenAI-compatible endpoint: asked in parallel, patiently, and within a budget."""

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from openai import APIConnectionError, APIStatusError, AsyncOpenAI, DefaultAsyncHttpxClient
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ..config import ComplexityConfig
from ..engine.http import is_here
from ..errors import EdcoRLError
from ..store import fingerprint
from .budget import Budget, Pace, retry_after
from .replies import KeptReplies, Messages, Reply, UnreadableReplyError, most_tokens, parse_reply

logger = logging.getLogger(__name__)

_LONGEST_BACKOFF = 60.0
_REPEATED_STATUSES = (408, 409, 429)
# The endpoint will not answer any question: who asks, or for which model, is wrong.
_HOPELESS_STATUSES = (401, 402, 403, 404)


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
            Whether it will answer nothing: who asks, or for which model, is wrong, or its server is gone for good.
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

    Each reply is kept before anything else happens, so that a run that ends at any moment has paid for nothing
    twice. What was charged for a request that timed out or whose answer could not be read is unknown, and not counted.

    Args:
        url (`Callable[[], str]`):
            Gives the base URL, as `http://localhost:8000/v1`, when there is something to ask. Called again, from other
            threads, where the endpoint cannot be reached: it may wait for one that comes back.
        model (`str`):
            Name of the model there.
        identity (`Any`):
            What stands for the teacher in the questions kept, as JSON values.
        config (`ComplexityConfig`):
            Its settings that begin with `teacher_`.
        kept (`KeptReplies`):
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
        kept: KeptReplies,
        key: str = "none",
    ) -> None:
        self.url = url
        self.model = model
        self.identity = identity
        self.config = config
        self.kept = kept
        self._api_key = key

    def key(self, messages: Messages) -> str:
        """The same for questions that are the same to the teacher."""
        return fingerprint(self._question(messages))

    def ask(self, questions: Mapping[str, Messages], report: Callable[[int], Any] = lambda done: None) -> Asked:
        """Ask questions that have no reply yet.

        Args:
            questions (`Mapping[str, Sequence[Mapping]]`):
                Messages by their [`~Teacher.key`].
            report (`Callable`, *optional*):
                Called with the number of questions that are done.
        """
        asked = Asked()
        waiting = deque[str]()
        for key, messages in questions.items():
            reply = self.kept.get(self._question(messages))
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
        budget = Budget(self.config, *self.kept.paid())
        pace = Pace(self.config.teacher_requests_per_minute)
        failures_in_a_row = 0

        async def work(client: AsyncOpenAI) -> None:
            nonlocal failures_in_a_row
            while waiting and asked.stopped is None:
                key = waiting.popleft()
                messages = questions[key]
                most = most_tokens(messages), self.config.teacher_answer_tokens
                if not await budget.reserve(*most):
                    waiting.appendleft(key)
                    asked.stopped = asked.stopped or "the budget is used up"
                    return
                try:
                    answer = await self._answer(client, messages, pace, asked)
                    if isinstance(answer, Reply):
                        self.kept.put(self._question(messages), answer)
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
                base_url=url,
                api_key=self._api_key,
                max_retries=0,
                timeout=self.config.teacher_timeout,
                http_client=DefaultAsyncHttpxClient(trust_env=not is_here(url)),  # no proxy to this machine
            ) as client,
            asyncio.TaskGroup() as group,
        ):
            for _ in range(min(self.config.teacher_concurrency, len(waiting))):
                group.create_task(work(client))
        asked.pending = list(waiting)

    async def _answer(self, client: AsyncOpenAI, messages: Messages, pace: Pace, asked: Asked) -> Reply | str:
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
                try:
                    await asyncio.to_thread(self.url)
                except EdcoRLError as gone:
                    raise PermissionError(str(gone)) from error
            except UnreadableReplyError as error:
                problem = str(error)
        return problem

    def _question(self, messages: Messages) -> dict[str, Any]:
        """All that an answer depends on; the name the model has at the endpoint is part of the identity or nothing."""
        body = {name: value for name, value in self._body(messages).items() if name != "model"}
        return {"teacher": self.identity, "request": body}

    def _body(self, messages: Messages) -> dict[str, Any]:
        assert not isinstance(self.config.teacher_request, str)  # the configuration has parsed it
        return {
            "model": self.model,
            "messages": [dict(message) for message in messages],
            "temperature": self.config.teacher_temperature,
            "max_tokens": self.config.teacher_answer_tokens,
            "extra_body": self.config.teacher_request or {},
        }


@contextmanager
def asking_bar(description: str, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar on standard error; what it gives is told how many questions are done."""
    columns = (TextColumn(description), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda done: bar.update(task, completed=done)
