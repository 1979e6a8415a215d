"""The teacher against an HTTP server that misbehaves on script: every row accounted for, nothing paid twice."""

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
import requests
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from edco_rl import EngineConfig
from edco_rl.complexity.budget import retry_after
from edco_rl.complexity.connection import TeacherConnection
from edco_rl.complexity.reasoning import chains_of_teacher, count
from edco_rl.complexity.replies import KeptReplies, Reply, UnreadableReplyError, parse_reply
from edco_rl.complexity.student import Student
from edco_rl.complexity.teacher import Teacher
from edco_rl.config import ComplexityConfig
from edco_rl.engine import client as client_module
from edco_rl.engine.supervisor import Supervisor
from edco_rl.errors import ConfigurationError
from edco_rl.rewards import multiple_choice_reward

from ..engine.own_server import StandInServer
from .conftest import question_rows

QUESTION = [{"role": "user", "content": "Question 1."}]


def ask(url, folder, dataset, **settings):
    """One run: statuses by question, and what came of asking."""
    quick = {"teacher_backoff": 0.01, "teacher_timeout": 1.5, "teacher_attempts": 2, "teacher_answer_tokens": 20}
    endpoint = {"teacher": "endpoint", "teacher_url": url, "teacher_model": "m"}
    config = ComplexityConfig(**endpoint | quick | settings)
    kept = KeptReplies(folder)
    teacher = Teacher(lambda: url, "m", "the same teacher", config, kept)
    chains, asked = chains_of_teacher(dataset, teacher, config, multiple_choice_reward)
    paid = sum(kept.paid())
    assert [chain.id for chain in chains] == dataset["id"]
    assert sum(count(chains).values()) == len(dataset)
    assert all(chain.problem for chain in chains if chain.status != "right")
    return chains, asked, paid


BEHAVIOURS = {
    0: (["right"], "right", 1),
    1: (["wrong"], "wrong", 1),
    2: ([503, "right"], "right", 2),
    3: ([429, "right"], "right", 2),
    4: (["time out", "right"], "right", 2),
    5: (["malformed", "right"], "right", 2),
    6: (["empty"], "failed", 1),
    7: (["no choice"], "failed", 1),
    8: (["cut off"], "wrong", 1),
    9: ([500], "failed", 2),
    10: (["time out"], "failed", 2),
    11: (["malformed"], "failed", 2),
    12: (["hang up", "right"], "right", 2),
    13: ([400], "failed", 1),
    14: (["another form", "right"], "right", 2),
    15: (["no usage"], "right", 1),
}


def test_every_row_of_a_misbehaving_teacher_is_accounted_for_and_nothing_is_paid_twice(scripted_teacher, tmp_path):
    teacher = scripted_teacher({question: behaviours for question, (behaviours, _, _) in BEHAVIOURS.items()})
    with teacher.serve() as url:
        chains, asked, _ = ask(url, tmp_path / "replies", question_rows(len(BEHAVIOURS)))
        for question, (_, status, sent) in BEHAVIOURS.items():
            assert (chains[question].status, teacher.sent(question)) == (status, sent), question
        assert not asked.pending and asked.sent == len(teacher.requests)
        assert max(teacher.paid.values()) == 1
        texts = {chain.id: chain.text for chain in chains}
        assert texts["q2"] == "It is even or odd.\nAnswer: A" and texts["q9"] == ""

        # A restart asks again for what was never answered, and for nothing else.
        before, teacher.script[10] = len(teacher.requests), ["right"]
        again, _, _ = ask(url, tmp_path / "replies", question_rows(len(BEHAVIOURS)))
        assert {question for question, _, _ in teacher.requests[before:]} == {9, 10, 11, 13}
        assert max(teacher.paid.values()) == 1 and again[10].status == "right"
        del chains[10], again[10]
        assert again == chains


def test_no_proxy_is_asked_for_a_teacher_on_this_machine(scripted_teacher, tmp_path, monkeypatch):
    for variable in ("http_proxy", "all_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")  # nobody listens there
    with scripted_teacher().serve() as url:
        chains, _, _ = ask(url, tmp_path / "replies", question_rows(3))
    assert count(chains)["right"] == 3


def test_a_teacher_that_dies_half_way_leaves_the_rest_pending_and_is_continued(scripted_teacher, tmp_path):
    teacher = scripted_teacher()
    with teacher.serve() as url:
        half = question_rows(40).select(range(7))
        ask(url, tmp_path / "replies", half)
    chains, asked, _ = ask(
        url, tmp_path / "replies", question_rows(40), teacher_concurrency=2, teacher_max_failures=3, teacher_attempts=2
    )
    counts = count(chains)
    assert counts["right"] == 7 and 3 <= counts["failed"] <= 4 and counts["pending"] == 40 - 7 - counts["failed"]
    assert "questions in a row failed" in asked.stopped and "APIConnectionError" in asked.stopped
    with teacher.serve() as url:
        chains, _, _ = ask(url, tmp_path / "replies", question_rows(40))
    assert count(chains)["right"] == 40 and set(teacher.paid.values()) == {1}


def test_a_teacher_that_dies_while_answers_are_under_way_loses_none_of_those_that_came(scripted_teacher, tmp_path):
    teacher = scripted_teacher({i: ["hang up", "right"] for i in range(9, 30)})
    with teacher.serve() as url:
        first, _, _ = ask(url, tmp_path / "replies", question_rows(30), teacher_attempts=1, teacher_max_failures=5)
        assert count(first)["right"] == 9 and count(first)["pending"] > 0
        second, _, _ = ask(url, tmp_path / "replies", question_rows(30))
    assert count(second)["right"] == 30 and set(teacher.paid.values()) == {1}


def test_a_token_budget_is_never_exceeded_and_what_is_left_is_pending(scripted_teacher, tmp_path):
    teacher = scripted_teacher()
    teacher.seconds = 0.02
    with teacher.serve() as url:
        for budget, least in ((600, 5), (1200, 14), (10_000, 30)):
            chains, asked, paid = ask(url, tmp_path / "replies", question_rows(30), teacher_token_budget=budget)
            counts = count(chains)
            assert paid == 50 * counts["right"] <= budget and counts["right"] >= least
            assert counts["pending"] == 30 - counts["right"] == len(asked.pending)
            assert (asked.stopped == "the budget is used up") == (counts["pending"] > 0)
    assert set(teacher.paid.values()) == {1} and len(teacher.requests) == 30


def test_a_price_budget_counts_prompts_and_answers_at_their_price(scripted_teacher, tmp_path):
    prices = {"teacher_prompt_price": 1.0, "teacher_answer_price": 100.0, "teacher_price_budget": 0.01}
    with scripted_teacher().serve() as url:
        chains, _, _ = ask(url, tmp_path / "replies", question_rows(30), **prices)
    right = count(chains)["right"]
    each = (40 * 1.0 + 10 * 100.0) / 1e6
    assert right * each <= 0.01 < (right + 3) * each


def test_answers_without_a_token_count_still_use_up_the_budget(scripted_teacher, tmp_path):
    with scripted_teacher({i: ["no usage"] for i in range(30)}).serve() as url:
        chains, _, paid = ask(url, tmp_path / "replies", question_rows(30), teacher_token_budget=2000)
    assert 0 < count(chains)["right"] < 30 and paid <= 2000


def test_rows_with_the_same_question_are_asked_about_once(scripted_teacher, tmp_path):
    same = Dataset.from_list([{**row, "id": f"{row['id']}-{copy}"} for row in question_rows(3) for copy in range(3)])
    teacher = scripted_teacher()
    with teacher.serve() as url:
        chains, _, _ = ask(url, tmp_path / "replies", same)
    assert teacher.paid == Counter({0: 1, 1: 1, 2: 1}) and count(chains)["right"] == 9


def test_requests_in_flight_are_bounded(scripted_teacher, tmp_path):
    teacher = scripted_teacher()
    teacher.seconds = 0.1
    with teacher.serve() as url:
        ask(url, tmp_path / "replies", question_rows(12), teacher_concurrency=3)
    assert 1 < teacher.most_in_flight <= 3


def test_the_rate_limit_holds_for_repeated_requests_too(scripted_teacher, tmp_path):
    teacher = scripted_teacher({1: [500, "right"], 2: [502, "right"]})
    with teacher.serve() as url:
        ask(url, tmp_path / "replies", question_rows(4), teacher_requests_per_minute=600)
    times = [arrived for _, _, arrived in teacher.requests]
    assert len(times) == 6 and times[-1] - times[0] > 0.4  # five intervals of 0.1 s, less what threads are late


def test_a_retry_after_holds_all_requests(scripted_teacher, tmp_path):
    teacher = scripted_teacher({0: [429, "right"]})
    with teacher.serve() as url:
        ask(url, tmp_path / "replies", question_rows(4), teacher_concurrency=1)
    times = [arrived for _, _, arrived in teacher.requests]
    assert times[1] - times[0] >= 0.29


@pytest.mark.parametrize("status", [401, 404])
def test_an_endpoint_that_refuses_everything_is_not_asked_on_and_what_it_gave_is_kept(
    scripted_teacher, tmp_path, status
):
    teacher = scripted_teacher({i: [status] for i in range(9, 30)})
    with teacher.serve() as url:
        chains, asked, _ = ask(url, tmp_path / "replies", question_rows(30), teacher_concurrency=2)
    assert asked.refused and f"answers HTTP {status}" in asked.stopped
    assert count(chains) == {"right": 9, "wrong": 0, "failed": 0, "pending": 21}
    assert len(teacher.requests) <= 9 + 2


def test_another_request_or_teacher_is_another_question(tmp_path):
    def key(identity="a", **settings):
        return Teacher(lambda: "", "m", identity, ComplexityConfig(**settings), KeptReplies(tmp_path)).key(QUESTION)

    keys = [key(), key("b"), key(teacher_temperature=0.5), key(teacher_answer_tokens=3), key(teacher_request={"a": 1})]
    assert len(set(keys)) == len(keys) and key() == key(teacher_concurrency=1)


def test_several_runs_share_the_replies_and_what_was_paid(scripted_teacher, tmp_path):
    teacher = scripted_teacher()
    with teacher.serve() as url:
        ask(url, tmp_path / "replies", question_rows(4))
        later = question_rows(10).select(range(2, 10))
        chains, asked, paid = ask(url, tmp_path / "replies", later, teacher_token_budget=450)
    assert set(teacher.paid.values()) == {1} and paid == sum(teacher.paid.values()) * 50 <= 450
    assert {chain.id for chain in chains if chain.status == "right"} >= {"q2", "q3"}
    assert asked.stopped == "the budget is used up"


def test_a_reply_that_was_altered_is_refused_by_name_and_not_paid_for_again(scripted_teacher, tmp_path):
    teacher = scripted_teacher()
    with teacher.serve() as url:
        ask(url, tmp_path / "replies", question_rows(1))
        [path] = (tmp_path / "replies").glob("??/*.json")
        assert "Question 0." in path.read_text()
        path.write_text(path.read_text().replace("Answer: A", "Answer: B"))
        with pytest.raises(ConfigurationError, match=rf"{path} was altered"):
            ask(url, tmp_path / "replies", question_rows(1))
    assert len(teacher.requests) == 1


def test_a_file_where_the_folder_should_be_is_refused_by_name(tmp_path):
    (tmp_path / "replies").write_text("something else entirely")
    with pytest.raises(ConfigurationError, match=r"teacher_cache .*replies cannot be used"):
        KeptReplies(tmp_path / "replies")


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner)
                    | st.dictionaries(st.sampled_from(["choices", "message", "content", "usage", "prompt_tokens"]),
                                      inner)) | st.text())  # fmt: skip
def test_any_body_is_a_reply_or_unreadable(body):
    text = body if isinstance(body, str) else json.dumps(body)
    try:
        assert isinstance(parse_reply(text, QUESTION), Reply)
    except UnreadableReplyError as error:
        assert "no chat completion" in str(error)


def test_reasoning_an_endpoint_returns_apart_comes_before_the_answer(scripted_teacher, tmp_path):
    message = {"content": "Answer: A", "reasoning_content": "Two is even."}
    reply = parse_reply(json.dumps({"choices": [{"message": message, "finish_reason": "stop"}]}), QUESTION)
    assert (reply.reasoning, reply.text) == ("Two is even.", "Answer: A")


def test_a_retry_after_is_seconds_or_a_date():
    soon = datetime.now(UTC) + timedelta(seconds=30)
    assert retry_after("2.5") == 2.5 and retry_after(None) == retry_after("soon") == retry_after("-3") == 0
    assert retry_after("nan") == retry_after("inf") == 0
    assert 27 < retry_after(format_datetime(soon, usegmt=True)) <= 30


@pytest.mark.parametrize("own", [True, False], ids=["its own", "the student's"])
@pytest.mark.parametrize(("restarts", "status"), [(1, "right"), (0, "pending")])
def test_a_server_of_the_teacher_that_dies_is_started_again_and_the_question_asked_again(
    tiny_model_path, tmp_path, monkeypatch, own, restarts, status
):
    monkeypatch.setattr(client_module, "VLLMServer", StandInServer)
    monkeypatch.setattr(Supervisor, "interval", 0.05)
    model = tiny_model_path
    config = ComplexityConfig(teacher="server", teacher_model=model, teacher_backoff=0.1, teacher_concurrency=1)
    engine = EngineConfig(engine_max_restarts=restarts)
    student = Student("another" if own else model, engine, None, tmp_path / "engine.log")
    connection = TeacherConnection(config, engine, student, tmp_path)
    try:
        teacher = connection.open()
        url = teacher.url().removesuffix("/v1")
        requests.post(f"{url}/fault", json=[["die"]], timeout=5).raise_for_status()
        [chain], asked = chains_of_teacher(question_rows(1), teacher, config, multiple_choice_reward)
        assert chain.status == status and asked.sent == 1 + restarts
        assert restarts or "was ended by SIGKILL, after 0 restarts" in asked.stopped
    finally:
        connection.close()
        student.close()
