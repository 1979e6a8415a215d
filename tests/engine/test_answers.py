"""Answers of a server that cannot be right are refused, each with what is wrong; `tests.benchmarks.fuzz` has more."""

import copy
import json

import numpy as np
import pytest

from edco_rl.engine import Completion, EngineError, Sampling
from edco_rl.engine.answers import check_groups

from ..benchmarks.fuzz_answers import answering, asked, fuzz, generated, read

PROMPTS, SAMPLING = [[1, 2], [3]], Sampling(3, 2, top_logprobs=2)
LABELS = Sampling(1, logprob_token_ids=(4, 9))
COMPLETIONS = [[5, 6], [7]]


@pytest.fixture(scope="module")
def client():
    with answering() as client:
        yield client


def choice(answer, number=0):
    return answer["choices"][number]


def logprobs(answer):
    return choice(answer)["logprobs"]


def cut_short(answer):
    one = choice(answer)
    one["finish_reason"] = "length"
    del one["token_ids"][1:], logprobs(answer)["tokens"][1:]
    del logprobs(answer)["token_logprobs"][1:], logprobs(answer)["top_logprobs"][1:]


def rename(answer, name):
    """Gives the first token another name, wherever it is named."""
    row = logprobs(answer)["top_logprobs"][0]
    row[f"token_id:{name}"] = row.pop(logprobs(answer)["tokens"][0])
    logprobs(answer)["tokens"][0] = f"token_id:{name}"
    choice(answer)["token_ids"][0] = name


def at_first(answer, value):
    """Gives the first token another log-probability, wherever it has one."""
    logprobs(answer)["token_logprobs"][0] = value
    logprobs(answer)["top_logprobs"][0][logprobs(answer)["tokens"][0]] = value


GENERATED = {
    "a completion is missing": (lambda a: a["choices"].pop(), "was asked for 4 completions"),
    "one is there twice": (lambda a: a["choices"].append(copy.deepcopy(choice(a))), "answered with 5: 0, 0, 1"),
    "two have one number": (lambda a: choice(a).update(index=1), "answered with 4: 1, 1, 2, 3"),
    "a number is beyond the last": (lambda a: choice(a).update(index=4), "answered with 4: 1, 2, 3, 4"),
    "they are of another prompt": (
        lambda a: (choice(a, 0).update(index=2), choice(a, 2).update(index=0)),
        "has another prompt than was asked",
    ),
    "a token is missing": (lambda a: choice(a)["token_ids"].pop(), "log-probabilities for"),
    "there is no token": (lambda a: choice(a)["token_ids"].clear(), "token_ids: List should have at least 1 item"),
    "more tokens than asked": (lambda a: choice(a)["token_ids"].extend([1] * 3), "tokens where at most 3"),
    "it was cut off before the limit": (cut_short, "cut off at the limit it did not reach"),
    "a token is another": (lambda a: choice(a)["token_ids"].__setitem__(0, 49), "of other tokens than it generated"),
    "a token is beyond the vocabulary": (lambda a: rename(a, 50), "token 50, outside the vocabulary of 50"),
    "a token is negative": (lambda a: rename(a, -1), "token"),
    "a token is no whole number": (lambda a: rename(a, 1.5), "token_ids.0: Input should be a valid integer"),
    "a token is text": (lambda a: choice(a)["token_ids"].__setitem__(0, "7"), "token_ids.0: Input should be a valid"),
    "a log-probability is above 0": (lambda a: at_first(a, 0.25), "log-probability 0.25; it must be"),
    "one is not a number": (lambda a: at_first(a, float("nan")), "should be a finite number"),
    "one is infinite": (lambda a: at_first(a, float("-inf")), "should be a finite number"),
    "one is nothing": (lambda a: at_first(a, None), "Input should be a valid number"),
    "one is missing": (lambda a: logprobs(a)["token_logprobs"].pop(), "log-probabilities for"),
    "one differs from itself": (
        lambda a: logprobs(a)["token_logprobs"].__setitem__(0, -0.125),
        "two log-probabilities for one token",
    ),
    "too few of the largest": (lambda a: logprobs(a)["top_logprobs"][0].popitem(), "log-prob"),
    "too many of the largest": (
        lambda a: logprobs(a)["top_logprobs"][0].update({"token_id:48": -99.0, "token_id:49": -99.0}),
        "log-probabilities at one position where 2 were asked for",
    ),
    "the largest of a position are missing": (lambda a: logprobs(a)["top_logprobs"].pop(), "of another length"),
    "there are none of the largest": (
        lambda a: [row.clear() for row in logprobs(a)["top_logprobs"]],
        "a position without log-probabilities",
    ),
    "the largest are nothing": (lambda a: logprobs(a).update(top_logprobs=None), "of another length"),
    "their names are no tokens": (
        lambda a: logprobs(a)["top_logprobs"][0].update({"the": -99.0}),
        "of what is no token id",
    ),
    "they sum to more than 1": (
        lambda a: logprobs(a)["top_logprobs"][0].update({"token_id:48": 0.0, "token_id:49": 0.0}),
        "probabilities that sum to",
    ),
    "it was ended from outside": (lambda a: choice(a).update(finish_reason="abort"), "finish_reason"),
    "it has no log-probabilities": (lambda a: choice(a).update(logprobs=None), "logprobs"),
    "there are no choices": (lambda a: a.pop("choices"), "choices: Field required"),
}
READ = {
    "a completion is missing": (lambda a: a["choices"].pop(), "was asked for 2 completions"),
    "a position is missing": (lambda a: choice(a)["prompt_logprobs"].pop(), "log-probabilities of 3 tokens for 4"),
    "a position is empty": (lambda a: choice(a)["prompt_logprobs"].__setitem__(3, None), "a position without"),
    "a token is another": (
        lambda a: choice(a)["prompt_logprobs"][3].update({"49": choice(a)["prompt_logprobs"][3].pop("6")}),
        "no log-probability of one of its tokens",
    ),
    "one is above 0": (lambda a: choice(a)["prompt_logprobs"][3]["6"].update(logprob=0.5), "log-probability 0.5"),
    "one is missing": (lambda a: choice(a)["prompt_logprobs"][3]["6"].pop("logprob"), "logprob: Field required"),
    "a token is there twice": (
        lambda a: choice(a)["prompt_logprobs"][3].update({"06": {"logprob": -1.0}}),
        "of what is no token id",
    ),
}


def change(client, request, answer, way):
    answer = copy.deepcopy(answer)
    way(answer)
    return asked(client, request, 200, json.dumps(answer).encode())


@pytest.mark.parametrize("name", GENERATED)
def test_a_completion_that_cannot_be_right_is_refused(client, name):
    way, problem = GENERATED[name]
    answer = generated(PROMPTS, SAMPLING, seed=1)
    assert len(choice(answer)["token_ids"]) > 1 and choice(answer)["finish_reason"] == "stop"
    change(client, (PROMPTS, SAMPLING), answer, lambda same: None)
    with pytest.raises(EngineError, match=problem):
        change(client, (PROMPTS, SAMPLING), answer, way)


@pytest.mark.parametrize("name", READ)
def test_log_probabilities_that_cannot_be_right_are_refused(client, name):
    way, problem = READ[name]
    answer, request = read(PROMPTS, COMPLETIONS, 2, seed=1), (PROMPTS, COMPLETIONS, 2)
    change(client, request, answer, lambda same: None)
    with pytest.raises(EngineError, match=problem):
        change(client, request, answer, way)


def test_tokens_that_were_asked_for_have_to_be_there(client):
    answer = generated(PROMPTS, LABELS, seed=1)
    change(client, (PROMPTS, LABELS), answer, lambda same: None)
    other = next(token for token in (4, 9) if token != choice(answer)["token_ids"][0])
    with pytest.raises(EngineError, match=f"no log-probability of token {other}, which was asked for"):
        change(client, (PROMPTS, LABELS), answer, lambda a: logprobs(a)["top_logprobs"][0].pop(f"token_id:{other}"))


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"{", b"\xff", b'{"choices": {}}', b"[" * 10_000])
def test_what_is_no_answer_is_refused(client, body):
    with pytest.raises(EngineError, match="answered what cannot be used"):
        asked(client, (PROMPTS, SAMPLING), 200, body)


@pytest.mark.parametrize(
    ("ids", "own", "top"),
    [
        ([1, 2], [-0.5], [[-0.5]]),
        ([1], [-0.5], []),
        ([], [], []),
        ([1], [0.5], [[-0.5]]),
        ([1], [np.nan], [[-0.5]]),
        ([1], [-np.inf], [[-0.5]]),
        ([1], [-0.5], [[np.nan]]),
    ],
    ids=str,
)
def test_completions_of_any_engine_have_to_be_some(ids, own, top):
    right = Completion([1], np.array([-0.5]), np.array([[-0.5, -np.inf]]), finished=True)
    check_groups([[right], [right]], 2, 1)
    with pytest.raises(EngineError, match="completion 1 has log-probabilities"):
        check_groups([[right], [Completion(ids, np.array(own), np.array(top), finished=True)]], 2, 1)
    with pytest.raises(EngineError, match="asked for 2 completions of 1 prompts"):
        check_groups([[right]], 1, 2)


def test_random_changes_are_refused_or_leave_something_that_can_be_right():
    outcomes = fuzz(60, start=0)
    assert sum(outcomes.values()) >= 60 and outcomes["refused"] > 10 and outcomes["right and used"] > 5
