"""What a teacher answered: read from an endpoint's response, and kept by its question, so that none is paid twice."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError
from ..store import fingerprint, load, save_value

Messages = Sequence[Mapping[str, str]]

# Tokens a chat template may add to a message.
_TEMPLATE_TOKENS = 64


@dataclass(frozen=True)
class Reply:
    """What a teacher answered.

    Args:
        text (`str`):
            The answer; empty where the endpoint gave none.
        reasoning (`str`):
            Reasoning the endpoint returned apart from it.
        finish_reason (`str`):
            Why it ended, as the endpoint says; `"length"` where the token limit cut it off.
        prompt_tokens (`int`), answer_tokens (`int`):
            Tokens paid, as the endpoint counts them.
    """

    text: str
    reasoning: str
    finish_reason: str
    prompt_tokens: int
    answer_tokens: int


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
            prompt_tokens=int(usage.get("prompt_tokens", most_tokens(messages))),
            answer_tokens=int(usage.get("completion_tokens", len((reasoning + answer).encode()))),
        )
    except (json.JSONDecodeError, KeyError, AttributeError, TypeError, ValueError, IndexError) as error:
        raise UnreadableReplyError(f"an answer that is no chat completion ({type(error).__name__})") from error


def most_tokens(messages: Messages) -> int:
    """More tokens than a prompt can have: none is shorter than a byte."""
    return sum(len(message["content"].encode()) + _TEMPLATE_TOKENS for message in messages)


class KeptReplies:
    """Replies in a folder, each with its question an artefact of its own; several runs can share the folder.

    Args:
        folder (`Path`):
            The folder; it is made where there is none.

    Raises:
        ConfigurationError: There is something else.
    """

    def __init__(self, folder: Path) -> None:
        if folder.exists() and not folder.is_dir():
            raise ConfigurationError(f"teacher_cache {folder} cannot be used: it is a file; expected a folder.")
        self.folder = folder

    def get(self, question: dict[str, Any]) -> Reply | None:
        """The reply to a question, if it was asked before.

        Args:
            question (`dict`):
                All that an answer depends on, as JSON values: who is asked, and the whole request.
        """
        found = load(self._path(question))
        return None if found is None else Reply(**found.value)

    def put(self, question: dict[str, Any], reply: Reply) -> None:
        """Keep a reply: when this returns, it is on disk."""
        save_value(self._path(question), question, asdict(reply))

    def paid(self) -> tuple[int, int]:
        """Tokens of prompts and of answers, of all replies."""
        found = [load(manifest.with_suffix("")) for manifest in self.folder.glob("*/*.json")]
        values = [artefact.value for artefact in found if artefact is not None]
        return sum(value["prompt_tokens"] for value in values), sum(value["answer_tokens"] for value in values)

    def _path(self, question: dict[str, Any]) -> Path:
        key = fingerprint(question)
        return self.folder / key[:2] / key
