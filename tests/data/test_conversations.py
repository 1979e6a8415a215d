"""Messages, preferences and conversations as data sets have them: read right, or refused with file, row and field."""

import json

import pytest
from datasets import Dataset, load_from_disk

from edco_rl.data.load import iter_rows, load_prompts
from edco_rl.data.prompts import check_prompts
from edco_rl.errors import ConfigurationError


def turn(role, content, **more):
    return {"role": role, "content": content, **more}


def user(content):
    return turn("user", content)


def assistant(content, **more):
    return turn("assistant", content, **more)


HI, HELLO, HOW, FINE = user("Hi"), assistant("Hello"), user("How?"), assistant("Fine")
SYSTEM = turn("system", "Be kind.")
SUNNY = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Paris", "days": 2}}}
TIME = {"id": "c1", "type": "function", "function": {"name": "time", "arguments": {"zone": None, "days": "all"}}}
ASKED = [HI, assistant("", tool_calls=[SUNNY]), turn("tool", "sunny", name="weather")]


def load_one(tmp_path, row, **settings):
    """The row as the data set has it, which is as it comes one by one."""
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n")
    [loaded] = load_prompts(str(path), **settings)[0]
    assert [loaded] == list(iter_rows(str(path), **settings))
    check_prompts(Dataset.from_list([{"prompt": loaded["prompt"]}]))
    return loaded


def parts(*texts):
    return [{"type": "text", "text": text} for text in texts]


@pytest.mark.parametrize(
    ("row", "prompt", "completion"),
    [
        ({"messages": [HI, HELLO]}, [HI], [HELLO]),
        ({"messages": [HI]}, [HI], None),
        ({"messages": [SYSTEM, HI, HELLO, HOW, FINE]}, [SYSTEM, HI, HELLO, HOW], [FINE]),
        ({"messages": [user(parts("H", "i")), assistant(parts("Hello"))]}, [HI], [HELLO]),
        ({"messages": [HI | {"name": None, "tool_calls": None}, HELLO | {"tool_calls": []}]}, [HI], [HELLO]),
        ({"prompt": [SYSTEM, HI], "completion": [HELLO]}, [SYSTEM, HI], [HELLO]),
        ({"prompt": [HI], "completion": "Hello"}, [HI], [HELLO]),
        ({"prompt": "Hi", "completion": [HELLO]}, [HI], [HELLO]),
        ({"prompt": [HI], "completion": [HI, HELLO]}, [HI], [HELLO]),
        # UltraChat: the first user's text, and the whole conversation
        ({"prompt": "Hi", "prompt_id": "a", "messages": [HI, HELLO, HOW, FINE]}, [HI, HELLO, HOW], [FINE]),
        ({"prompt": [HI], "messages": [HI, HELLO]}, [HI], [HELLO]),
        ({"prompt": "Hi", "messages": None}, "Hi", None),
        ({"prompt": "Hi", "completion": " Hello", "messages": [HI, FINE]}, "Hi", " Hello"),
        # ShareGPT, which TRL reads with roles that chat templates leave out
        ({"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}, [HI], [HELLO]),
        # as a CSV file has them
        ({"messages": json.dumps([HI, HELLO])}, [HI], [HELLO]),
        ({"prompt": json.dumps([HI]), "completion": json.dumps([HELLO])}, [HI], [HELLO]),
        ({"prompt": "[{ is no JSON"}, "[{ is no JSON", None),
        # calls of tools
        ({"messages": [*ASKED, FINE]}, ASKED, [FINE]),
        ({"prompt": ASKED}, ASKED, None),
        (
            {"messages": [HI, assistant(None, tool_calls=[SUNNY, TIME])]},
            [HI],
            [
                assistant(
                    "",
                    tool_calls=[
                        SUNNY,
                        TIME | {"function": {"name": "time", "arguments": {"days": "all"}}},
                    ],
                )
            ],
        ),
        (
            {"prompt": [HI, {"role": "assistant", "tool_calls": [json.loads(json.dumps(SUNNY))]}, *ASKED[2:]]},
            ASKED,
            None,
        ),
    ],
)
def test_conversations_are_read(tmp_path, row, prompt, completion):
    loaded = load_one(tmp_path, row)
    assert loaded["prompt"] == prompt and loaded.get("completion") == completion
    assert "messages" not in loaded and "conversations" not in loaded


def test_arguments_of_tools_given_as_json_become_the_object_that_templates_write(tmp_path):
    written = {**SUNNY, "function": {**SUNNY["function"], "arguments": json.dumps(SUNNY["function"]["arguments"])}}
    assert load_one(tmp_path, {"prompt": [HI, assistant(None, tool_calls=[written]), ASKED[2]]})["prompt"] == ASKED


def test_rows_with_and_without_tools_keep_their_own_keys(tmp_path):
    """Arrow would give every message a null for each key of any other, and templates write nulls."""
    rows = [{"messages": [HI, HELLO]}, {"messages": [*ASKED, FINE], "tools": [{"name": "weather"}]}]
    rows += [{"messages": [HI, assistant("", tool_calls=[TIME])], "tools": [{"name": "time", "strict": True}]}]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    loaded, _ = load_prompts(str(path))
    assert loaded["prompt"] == [[HI], ASKED, [HI]] and loaded["completion"][0] == [HELLO]
    assert loaded["tools"] == [None, *(row["tools"] for row in rows[1:])]
    for suffix in ("parquet", "arrow"):  # written by `datasets`, they are read as they were
        saved = tmp_path / f"saved.{suffix}"
        if suffix == "parquet":
            loaded.to_parquet(saved)
        else:
            loaded.save_to_disk(tmp_path / "saved")
            assert load_from_disk(tmp_path / "saved")["prompt"] == loaded["prompt"]
            assert load_prompts(str(tmp_path / "saved"))[0]["prompt"] == loaded["prompt"]
            next((tmp_path / "saved").glob("*.arrow")).rename(saved)
        assert load_prompts(str(saved))[0]["prompt"] == loaded["prompt"]


A, B = assistant("A"), assistant("B")


@pytest.mark.parametrize(
    ("row", "prompt", "chosen", "rejected"),
    [
        ({"prompt": "Hi", "chosen": " A", "rejected": " B"}, "Hi", " A", " B"),
        ({"prompt": [HI], "chosen": [A], "rejected": [B]}, [HI], [A], [B]),
        ({"prompt": [HI], "chosen": "A", "rejected": "B"}, [HI], [A], [B]),
        ({"chosen": [SYSTEM, HI, A], "rejected": [SYSTEM, HI, B]}, [SYSTEM, HI], [A], [B]),
        # UltraFeedback: a text, whole conversations, and the better one again
        ({"prompt": "Hi", "chosen": [HI, A], "rejected": [HI, B], "messages": [HI, A]}, [HI], [A], [B]),
        ({"prompt": "Hi", "chosen": [SYSTEM, HI, A], "rejected": [SYSTEM, HI, B]}, [SYSTEM, HI], [A], [B]),
    ],
)
def test_preferences_are_as_trl_wants_them_and_the_better_answer_is_the_reference(
    tmp_path, row, prompt, chosen, rejected
):
    loaded = load_one(tmp_path, row | {"score": 1.0})
    assert (loaded["prompt"], loaded["chosen"], loaded["rejected"]) == (prompt, chosen, rejected)
    assert loaded["completion"] == chosen and "answer" not in loaded and loaded["score"] == 1.0


@pytest.mark.parametrize(
    ("row", "field", "problem"),
    [
        ({"messages": [user(None)]}, "messages", "message 0 (user) has no content: expected text, got null"),
        ({"messages": [HI, assistant([])]}, "messages", "message 1 (assistant) has no content: expected text, got []"),
        ({"prompt": [user(float("nan"))]}, "prompt", "message 0 (user) has no content: expected text, got nan"),
        ({"messages": [user(3)]}, "messages", "message 0 (user): expected text as content, got int"),
        (
            {"prompt": [user([{"type": "image_url", "image_url": {"url": "x"}}])]},
            "prompt",
            "message 0 (user) has a part of type 'image_url'; only parts of type 'text'",
        ),
        ({"prompt": [user(parts(None))]}, "prompt", "message 0 (user) has a part of type 'text'"),
        ({"messages": [turn(None, "Hi")]}, "messages", "message 0: expected a role of system, developer, user"),
        ({"messages": [HI, turn("bot", "Hi")]}, "messages", "message 1: expected a role of system, developer, user"),
        ({"messages": ["Hi"]}, "messages", "expected messages with role and content, got Hi"),
        ({"messages": "Hi"}, "messages", "expected a list of messages, got text"),
        ({"messages": []}, "messages", "the prompt is empty"),
        ({"messages": [SYSTEM, HELLO]}, "messages", "the last message is of role 'system'; expected user or tool"),
        (
            {"prompt": [HI, HELLO]},
            "prompt",
            "the last message is of role 'assistant'; expected user or tool (in a column 'messages', that turn is",
        ),
        ({"prompt": "Bye", "messages": [HI, HELLO]}, "messages", "does not hold the row's 'prompt'"),
        ({"prompt": [HOW], "messages": [HI, HELLO]}, "messages", "does not hold the row's 'prompt'"),
        ({"prompt": [HI], "completion": [HOW]}, "completion", "the completion: the last message is of role 'user'"),
        ({"prompt": [HI], "completion": []}, "completion", "the completion: there are no messages"),
        ({"prompt": [HI], "completion": [assistant(" ")]}, "completion", "the completion: the last message is empty"),
        (
            {"messages": [HI, assistant(None, tool_calls=[{"function": {"arguments": "{}"}}])]},
            "messages",
            "message 1: expected tool calls with a function's name and arguments",
        ),
        (
            {"messages": [HI, assistant(None, tool_calls=[{"function": {"name": "f", "arguments": "{"}}])]},
            "messages",
            "message 1: arguments of 'f': ",
        ),
        ({"messages": [user("caf\udce9")]}, "messages", "broken encoding"),
        ({"messages": [user("A") | {"name": -(2**63) - 1}]}, "messages", "a whole number of more than 64 bits"),
        ({"prompt": [HI], "chosen": [A], "rejected": None}, "rejected", "is missing"),
        ({"prompt": [HI], "chosen": [A], "rejected": [A]}, "rejected", "is the same as 'chosen'"),
        ({"prompt": [HI], "chosen": [A], "rejected": "B"}, "rejected", "expected list, as 'chosen' is"),
        ({"chosen": "Hi A", "rejected": "Hi B"}, "chosen", "expected a column 'prompt'"),
        (
            {"prompt": "Bye", "chosen": [HI, A], "rejected": [HI, B]},
            "chosen",
            "does not begin with the row's 'prompt'",
        ),
    ],
)
def test_what_cannot_be_read_is_named_by_file_row_and_field(tmp_path, row, field, problem):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"prompt": [HI], "messages": [HI, HELLO]}) + "\n" + json.dumps(row) + "\n")
    with pytest.raises(ConfigurationError) as error:
        load_prompts(str(path))
    assert str(error.value).startswith(f"{path}, row 1 (counted from 0), field '{field}': {problem}")


@pytest.mark.parametrize(
    ("columns", "label"),
    [
        ({"choices": {"text": ["x", "y"], "label": ["A", "B"]}, "answerKey": "B"}, "B"),
        ({"choices": {"text": ["x", "y"], "label": ["1", "2"]}, "answerKey": "1"}, "A"),  # no index: ARC has both
        ({"choices": {"text": ["x", "y"], "label": [1, 2]}, "answerKey": 2}, "B"),
        ({"choices": [{"text": "x", "label": "A"}, {"text": "y", "label": "B"}], "answerKey": "A"}, "A"),
        ({"choices": '{"text": ["x", "y"], "label": ["P", "Q"]}', "answerKey": "Q"}, "B"),
    ],
)
def test_options_with_labels_of_their_own(tmp_path, columns, label):
    loaded = load_one(tmp_path, {"question": "Which?", **columns})
    assert (loaded["options"], loaded["answer"]) == (["x", "y"], label)
    assert "A. x\nB. y" in loaded["prompt"][0]["content"]


@pytest.mark.parametrize(
    ("row", "field", "problem"),
    [
        (
            {"choices": {"text": ["x", "y"], "label": ["A", "B"]}, "answerKey": "C"},
            "answerKey",
            "expected one of A, B",
        ),
        ({"choices": {"text": ["x", "y"], "label": ["A"]}, "answerKey": "A"}, "choices", "expected lists 'text' and"),
        ({"choices": {"text": ["x", "y"], "label": ["A", "A"]}, "answerKey": "A"}, "choices", "expected a label of"),
        (
            {"choices": [{"text": "x", "label": "A"}, {"label": "B"}], "answerKey": "A"},
            "choices",
            "expected text, got",
        ),
        ({"answer": float("nan")}, "answer", "is missing: it is NaN"),
        ({"options": ["x", "y"], "answer_index": float("nan")}, "answer_index", "is missing: it is NaN"),
        ({"question": float("nan"), "answer": "1"}, "question", "is missing: it is NaN"),
    ],
)
def test_options_and_missing_values_are_named(tmp_path, row, field, problem):
    with pytest.raises(ConfigurationError) as error:
        load_one(tmp_path, {"question": "Which?", **row})
    assert f"rows.jsonl, row 0 (counted from 0), field '{field}': {problem}" in str(error.value)


def test_a_missing_value_of_a_column_that_may_be_empty_is_empty(tmp_path):
    row = {"question": "Why?", "context": float("nan"), "subject": float("nan"), "answer": 4}
    loaded = load_one(tmp_path, row)
    assert loaded["prompt"] == [user("Why?")] and (loaded["subject"], loaded["answer"]) == ("", "4")


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("Put it in \\boxed{}. {question}", "Replacement index 0 out of range"),
        ('{"question": {question}}', "'\"question\"' cannot be filled in"),
        ("{question.text}", "has no attribute 'text' cannot be filled in"),
        ("{question", "expected '}' before end of string cannot be filled in"),
        ("{{question}}", "no field is named, so that all prompts would be the same"),
        ("Answer.", "no field is named, so that all prompts would be the same"),
    ],
)
@pytest.mark.parametrize("source", ["file", "task"])
def test_a_template_that_cannot_be_filled_in_says_how_braces_are_written(tmp_path, template, problem, source):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"question": "Why?", "answer": "So."}\n')
    with pytest.raises(ConfigurationError) as error:
        load_prompts(
            str(path) if source == "file" else "reasoning_gym:chain_sum", prompt_template=template, train_prompts=1
        )
    assert str(error.value).startswith(f"prompt_template {template!r}: ") and problem in str(error.value)
    assert "{question}" in str(
        error.value
    ) and "; braces that stand for themselves are written twice: {{ and }}." in str(error.value)


def test_braces_written_twice_stand_for_themselves(tmp_path):
    loaded = load_one(
        tmp_path, {"question": "1 {x}?", "answer": "2"}, prompt_template="{question} Write \\boxed{{...}}."
    )
    assert loaded["prompt"] == [user("1 {x}? Write \\boxed{...}.")]


def test_a_value_unlike_those_before_is_named_with_its_row(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(
        "".join(json.dumps({"prompt": f"{i}", "id": i, "extra": i if i < 7 else "x"}) + "\n" for i in range(9))
    )
    with pytest.raises(
        ConfigurationError, match=r"field 'extra': values of different types; that of the row with id '7'"
    ):
        load_prompts(str(path))
