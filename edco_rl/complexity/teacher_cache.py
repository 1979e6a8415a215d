"""Every answer a teacher was paid for, on disk, by the content of its question."""

import hashlib
import json
import sqlite3
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError


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


class TeacherCache:
    """Replies in an SQLite file, each committed before the next request is sent.

    Args:
        path (`Path`):
            The file; it is made where there is none.

    Raises:
        ConfigurationError: There is something else.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(path)
        try:
            self._database.execute(
                "CREATE TABLE IF NOT EXISTS replies "
                "(key TEXT PRIMARY KEY, reply TEXT, prompt_tokens INTEGER, answer_tokens INTEGER)"
            )
        except sqlite3.DatabaseError as error:
            self._database.close()
            raise ConfigurationError(f"teacher_cache {path} cannot be used: {error}.") from error

    def get(self, key: str) -> Reply | None:
        """The reply to a question, if it was asked before."""
        found = self._database.execute("SELECT reply FROM replies WHERE key = ?", (key,)).fetchone()
        return None if found is None else Reply(**json.loads(found[0]))

    def put(self, key: str, reply: Reply) -> None:
        """Keep a reply."""
        values = (key, json.dumps(asdict(reply)), reply.prompt_tokens, reply.answer_tokens)
        with self._database:
            self._database.execute("INSERT OR REPLACE INTO replies VALUES (?, ?, ?, ?)", values)

    def paid(self) -> tuple[int, int]:
        """Tokens of prompts and of answers, of all replies."""
        query = "SELECT COALESCE(SUM(prompt_tokens), 0), COALESCE(SUM(answer_tokens), 0) FROM replies"
        prompt, answer = self._database.execute(query).fetchone()
        return prompt, answer

    def close(self) -> None:
        """Close the file."""
        self._database.close()


def question_key(identity: Any, body: dict[str, Any]) -> str:
    """A hash of all that an answer depends on: who is asked, and the whole request.

    Args:
        identity (`Any`):
            Who answers, as JSON values.
        body (`dict`):
            The request, messages and sampling parameters included.
    """
    return hashlib.sha256(json.dumps([identity, body], sort_keys=True).encode()).hexdigest()
