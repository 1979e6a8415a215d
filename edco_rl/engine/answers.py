"""What a vLLM server answers, checked before it is used: nothing malformed, cut short or out of range gets through."""

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from typing_extensions import TypedDict

from .protocol import Completion, EngineError, Sampling

AnswerT = TypeVar("AnswerT", bound=BaseModel)
_TOKEN_PREFIX = "token_id:"
_TOKEN_ID = re.compile("0|[1-9][0-9]{0,9}", re.ASCII)
_ROUNDING = 1e-5
"""Nats by which a log-probability may exceed 0, in float32."""
_EXCESS = 1e-3
"""By how much the probabilities at a position may sum to more than 1."""


class Answer(BaseModel):
    """Base of all answers: types as they are, numbers finite, and room for fields of later versions."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class Served(Answer):
    """A model or adapter the server answers with."""

    id: str
    max_model_len: Annotated[int, Field(ge=1)] | None = None


class Models(Answer):
    """`/v1/models`."""

    data: Annotated[list[Served], Field(min_length=1)]


class ServerInfo(Answer):
    """`/server_info`."""

    vllm_config: dict[str, Any]


class WeightInfo(Answer):
    """`/weight_info`."""

    weight_version: str


class WorldSize(Answer):
    """`/get_world_size`."""

    world_size: Annotated[int, Field(ge=1)]


class _Logprobs(Answer):
    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]] | None


class _Generated(Answer):
    index: int
    token_ids: Annotated[list[int], Field(min_length=1)]
    logprobs: _Logprobs
    finish_reason: Literal["stop", "length", "repetition"]
    prompt_token_ids: list[int] | None = None


class Generations(Answer):
    """`/v1/completions` of prompts that are continued."""

    choices: list[_Generated]


class _Entry(TypedDict):
    logprob: float


class _Read(Answer):
    index: int
    prompt_logprobs: list[dict[str, _Entry] | None]


class Readings(Answer):
    """`/v1/completions` of sequences that are read."""

    choices: list[_Read]


def parse(kind: type[AnswerT], content: bytes, what: str) -> AnswerT:
    """An answer as what it should be.

    Args:
        kind (`type[Answer]`):
            Its class.
        content (`bytes`):
            JSON.
        what (`str`):
            Who answered what, for the error.

    Raises:
        EngineError: It names the first field that is wrong.
    """
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"])) or "the whole"
        raise EngineError(
            f"{what} answered what cannot be used: {field}: {first['msg']}; it begins with {content[:200]!r}."
        ) from None


class AnswerChecker:
    """Turns choices of a server into completions and log-probabilities, and refuses those that cannot be right.

    Args:
        what (`str`):
            Who answers, for errors.
        vocabulary_size (`int`, *optional*):
            Tokens there are, where that is known.
        max_model_len (`int`, *optional*):
            Tokens a sequence can have, where that is known.
    """

    def __init__(self, what: str, vocabulary_size: int | None = None, max_model_len: int | None = None) -> None:
        self.what = what
        self.vocabulary_size = vocabulary_size
        self.max_model_len = max_model_len

    def completions(
        self, answer: Generations, prompts: Sequence[Sequence[int]], sampling: Sampling
    ) -> list[Completion]:
        """`sampling.n` completions a prompt, flat, in the order of the prompts.

        Raises:
            EngineError: It says what is wrong with which.
        """
        most = sampling.parameters()["max_tokens"]
        choices = self._in_order(answer.choices, sampling.n * len(prompts))
        return [
            self._completion(choice, prompts[number // sampling.n], most, sampling)
            for number, choice in enumerate(choices)
        ]

    def readings(
        self, answer: Readings, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]], k: int
    ) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """For each completion, log-probabilities of its tokens, shape (T,), and the k largest at each, shape (T, k).

        Raises:
            EngineError: It says what is wrong with which.
        """
        found = []
        for number, choice in enumerate(self._in_order(answer.choices, len(prompts))):
            length, completion = len(prompts[number]) + len(completions[number]), completions[number]
            if len(choice.prompt_logprobs) != length:
                self._refuse(number, f"log-probabilities of {len(choice.prompt_logprobs)} tokens for {length}")
            read = choice.prompt_logprobs[-len(completion) :]
            rows = [{name: entry["logprob"] for name, entry in (row or {}).items()} for row in read]
            rows = self._rows(number, rows, "")
            found.append((self._own(number, rows, completion), self._largest(number, rows, k)))
        return found

    def _in_order(self, choices: Sequence[Any], expected: int) -> list[Any]:
        choices = sorted(choices, key=lambda choice: choice.index)
        indices = [choice.index for choice in choices]
        if indices != list(range(expected)):
            raise EngineError(
                f"{self.what} was asked for {expected} completions, numbered from 0, and answered with "
                f"{len(indices)}: {_shortened(indices)}."
            )
        return choices

    def _completion(self, choice: _Generated, prompt: Sequence[int], most: int, sampling: Sampling) -> Completion:
        number, ids, logprobs = choice.index, choice.token_ids, choice.logprobs
        length = len(ids)
        if choice.prompt_token_ids is not None and choice.prompt_token_ids != list(prompt):
            self._refuse(number, "another prompt than was asked")
        if length > most:
            self._refuse(number, f"{length} tokens where at most {most} were asked for")
        full = self.max_model_len is None or len(prompt) + length >= self.max_model_len
        if choice.finish_reason == "length" and length < most and not full:
            self._refuse(number, f"{length} tokens of {most}, cut off at the limit it did not reach")
        if len(logprobs.token_logprobs) != length:
            self._refuse(number, f"{len(logprobs.token_logprobs)} log-probabilities for {length} tokens")
        if logprobs.tokens != [f"{_TOKEN_PREFIX}{token}" for token in ids]:
            self._refuse(number, "log-probabilities of other tokens than it generated")
        self._check_tokens(number, ids)
        own = self._checked(number, logprobs.token_logprobs)
        top = np.empty((length, 0))
        if sampling.width:
            if logprobs.top_logprobs is None or len(logprobs.top_logprobs) != length:
                self._refuse(number, f"top_logprobs of another length than its {length} tokens")
            rows = self._rows(number, logprobs.top_logprobs or (), _TOKEN_PREFIX)
            if not np.array_equal(self._own(number, rows, ids), own):
                self._refuse(number, "two log-probabilities for one token")
            wanted = sampling.logprob_token_ids
            top = self._largest(number, rows, sampling.width) if wanted is None else self._of(number, rows, wanted)
        return Completion(ids, own, top, finished=choice.finish_reason == "stop")

    def _rows(self, number: int, rows: Sequence[Mapping[str, float]], prefix: str) -> list[dict[int, float]]:
        """Log-probabilities at each position, by token id."""
        if not all(rows):
            self._refuse(number, "a position without log-probabilities")
        names = [name[len(prefix) :] if name.startswith(prefix) else "" for row in rows for name in row]
        wrong = next((name for name in names if not _TOKEN_ID.fullmatch(name)), None)
        if wrong is not None:
            self._refuse(number, f"log-probabilities of what is no token id: {_shortened(list(rows[0]))}, ...")
        tokens = list(map(int, names))
        self._check_tokens(number, tokens)
        values = self._checked(number, [value for row in rows for value in row.values()])
        ends = np.cumsum(list(map(len, rows)))
        masses = np.add.reduceat(np.exp(values), [0, *ends[:-1]])
        if masses.max() > 1 + _EXCESS:
            self._refuse(number, f"probabilities that sum to {masses.max():.3f}")
        pairs = zip(tokens, values.tolist(), strict=True)
        return [dict(itertools.islice(pairs, len(row))) for row in rows]

    def _own(self, number: int, rows: Sequence[Mapping[int, float]], tokens: Sequence[int]) -> NDArray[np.float64]:
        if not all(token in row for token, row in zip(tokens, rows, strict=True)):
            self._refuse(number, "no log-probability of one of its tokens")
        return np.array([row[token] for token, row in zip(tokens, rows, strict=True)], dtype=np.float64)

    def _of(self, number: int, rows: Sequence[Mapping[int, float]], wanted: Sequence[int]) -> NDArray[np.float64]:
        missing = [token for row in rows for token in wanted if token not in row]
        if missing:
            self._refuse(number, f"no log-probability of token {missing[0]}, which was asked for")
        return np.array([[row[token] for token in wanted] for row in rows], dtype=np.float64)

    def _largest(self, number: int, rows: Sequence[Mapping[int, float]], k: int) -> NDArray[np.float64]:
        """The server adds the token itself where it is not among the largest k: only those are wanted."""
        for row in rows:
            if not min(k, self.vocabulary_size or k) <= len(row) <= k + 1:
                self._refuse(number, f"{len(row)} log-probabilities at one position where {k} were asked for")
        largest = np.full((len(rows), k), -np.inf)
        for place, row in enumerate(rows):
            values = sorted(row.values(), reverse=True)[:k]
            largest[place, : len(values)] = values
        return largest

    def _check_tokens(self, number: int, tokens: Sequence[int]) -> None:
        limit = self.vocabulary_size or 2**31
        if min(tokens) < 0 or max(tokens) >= limit:
            wrong = next(token for token in tokens if not 0 <= token < limit)
            self._refuse(number, f"token {wrong}, outside the vocabulary of {limit}")

    def _checked(self, number: int, logprobs: Sequence[float]) -> NDArray[np.float64]:
        """Log-probabilities as an array; what rounding has put above 0 is 0."""
        values = np.array(logprobs, dtype=np.float64)
        if not np.isfinite(values).all() or (values > _ROUNDING).any():
            wrong = values[~np.isfinite(values) | (values > _ROUNDING)][0]
            self._refuse(number, f"log-probability {wrong}; it must be finite and at most 0")
        return np.minimum(values, 0.0)

    def _refuse(self, number: int, problem: str) -> None:
        raise EngineError(f"{self.what} answered what cannot be used: completion {number} has {problem}.")


def check_groups(groups: Sequence[Sequence[Completion]], prompts: int, n: int) -> None:
    """Refuse what an engine of any kind returns where it cannot be completions of that many prompts.

    Raises:
        EngineError: It says what is wrong with which.
    """
    if [len(group) for group in groups] != [n] * prompts:
        raise EngineError(f"The engine was asked for {n} completions of {prompts} prompts, and made others.")
    for number, one in enumerate(completion for group in groups for completion in group):
        own, top = np.asarray(one.logprobs), np.asarray(one.top_logprobs)
        if not len(one.token_ids) == len(own) == len(top) or not one.token_ids:
            raise EngineError(
                f"The engine's completion {number} has log-probabilities of another length than its own."
            )
        if not np.isfinite(own).all() or np.isnan(top).any() or max(own.max(), top.max(initial=-1.0)) > _ROUNDING:
            raise EngineError(f"The engine's completion {number} has log-probabilities that are none: {own}.")


def _shortened(values: Sequence[Any]) -> str:
    shown = ", ".join(str(value)[:40] for value in values[:8])
    return f"{shown}, ..." if len(values) > 8 else shown
