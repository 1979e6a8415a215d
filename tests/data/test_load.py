"""Rows of every form and file, good and bad, to prompts."""

import gzip
import json
import random
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from edco_rl.data.formats import FORMATS, PromptSettings
from edco_rl.data.load import iter_rows, load_prompts
from edco_rl.data.prompts import check_prompts, with_instruction
from edco_rl.data.rows import Row
from edco_rl.errors import ConfigurationError

SHARED = Path(__file__).parents[3] / "shared" / "data"
CHOICE = {"question": "Which is even?", "options": ["one", "two", "three"], "answer_index": 1, "subject": "numbers"}


def write(path, rows):
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (gzip.open if path.suffix == ".gz" else open)(path, "wt").write(text)
    return str(path)


def load_one(tmp_path, row, **settings):
    dataset, _ = load_prompts(write(tmp_path / "rows.jsonl", [row]), **settings)
    return dataset[0]


def test_multiple_choice_becomes_a_message_that_lists_labelled_options(tmp_path):
    row = load_one(tmp_path, CHOICE | {"context": "Small numbers."})
    assert row["prompt"] == [
        {
            "role": "user",
            "content": "Context: Small numbers.\n\nWhich is even?\n\nA. one\nB. two\nC. three\n\n"
            "Answer with the letter of the right option: A, B or C.",
        }
    ]
    assert row["answer"] == "B" and row["options"] == ["one", "two", "three"] and row["subject"] == "numbers"
    assert row["completion"] == [{"role": "assistant", "content": "B"}]


def test_options_can_be_numbered_from_one_as_in_the_layout_of_mmlu_pro(tmp_path):
    options = [f"{10 * i} newtons" for i in range(10)]
    row = {"question_id": 70, "question": "How much?", "options": options, "answer": "J", "answer_index": 9}
    row |= {"cot_content": "", "category": "physics", "src": "own"}
    numbered, lettered = (load_one(tmp_path, row, option_labels=kind) for kind in ("numbers", "letters"))
    [message] = numbered["prompt"]
    assert "\n1. 0 newtons\n2. 10 newtons\n" in message["content"] and "\n10. 90 newtons\n" in message["content"]
    assert message["content"].endswith("Answer with the number of the right option: 1, 2, 3, 4, 5, 6, 7, 8, 9 or 10.")
    assert numbered["answer"] == numbered["completion"][0]["content"] == "10" and lettered["answer"] == "J"
    assert numbered["subject"] == "physics" and numbered["options"] == options


def test_plain_multiple_choice_ends_where_the_label_is_the_next_token(tmp_path, model_path):
    from transformers import AutoTokenizer

    row = load_one(tmp_path, CHOICE, conversational=False)
    assert row["prompt"] == "Question: Which is even?\nA. one\nB. two\nC. three\nAnswer:"
    tokenizer = AutoTokenizer.from_pretrained(model_path)
    prompt, whole = (tokenizer(text)["input_ids"] for text in (row["prompt"], row["prompt"] + row["completion"]))
    assert whole[: len(prompt)] == prompt and len(whole) == len(prompt) + 1


@pytest.mark.parametrize(
    ("columns", "label"),
    [
        ({"answer_index": 0}, "A"),
        ({"answer_idx": "C"}, "C"),
        ({"answer": 2}, "C"),
        ({"answer": "b"}, "B"),
        ({"answer": "two"}, "B"),
        ({"label": "three"}, "C"),
        ({"answer_index": "1", "options": '["1", "2", "3"]'}, "B"),  # as a CSV file has it
        ({"answer": "1", "options": ["3", "2", "1"]}, "C"),
        ({"answer": "B", "options": {"A": "x", "B": "y", "C": None}}, "B"),
        ({"choices": ["x", "y"], "options": None, "answer": "y"}, None),
    ],
)
def test_the_right_option_is_named_by_index_label_or_text(tmp_path, columns, label):
    row = {name: value for name, value in (CHOICE | {"answer_index": None} | columns).items() if value is not None}
    loaded = load_one(tmp_path, row)
    assert loaded["answer"] == (label or "B")


def test_instructions_and_free_form_tasks(tmp_path):
    row = load_one(tmp_path, {"instruction": "Sum up.", "context": "A text.", "response": "Short."})
    assert row["prompt"][0]["content"] == "Context: A text.\n\nSum up."
    assert row["completion"] == [{"role": "assistant", "content": "Short."}] and row["response"] == "Short."
    plain = load_one(tmp_path, {"instruction": "Sum up.", "output": "Short."}, conversational=False)
    assert (plain["prompt"], plain["completion"]) == ("Instruction: Sum up.\nResponse:", " Short.")
    free = load_one(tmp_path, {"problem": "1 + 1", "solution": 2, "level": 3}, conversational=False)
    assert (free["prompt"], free["answer"], free["completion"]) == ("Question: 1 + 1\nAnswer:", "2", " 2")
    assert free["level"] == 3
    assert "completion" not in load_one(tmp_path, {"question": "Why?"})


def test_trls_own_forms_stay_as_they_are(tmp_path):
    user, assistant = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}
    for conversational in (True, False):
        row = load_one(tmp_path, {"prompt": "2 + 2 =", "answer": "4"}, conversational=conversational)
        assert (row["prompt"], row["answer"], row["completion"]) == ("2 + 2 =", "4", " 4")
    row = load_one(tmp_path, {"prompt": "a", "completion": " b", "extra": 1})
    assert (row["completion"], row["answer"], row["extra"]) == (" b", "b", 1)
    row = load_one(tmp_path, {"messages": [user, assistant]})
    assert (row["prompt"], row["completion"], row["answer"]) == ([user], [assistant], "Hello")
    assert load_one(tmp_path, {"messages": [user]})["prompt"] == [user]


def test_template_system_prompt_and_column_names_can_be_set(tmp_path):
    row = load_one(
        tmp_path,
        {"Frage": "Warum?", "antwort": "Darum."},
        column_mapping={"question": "Frage", "answer": "antwort"},
        prompt_template="{question} Bitte kurz.",
        system_prompt="Du bist klug.",
    )
    assert [message["content"] for message in row["prompt"]] == ["Du bist klug.", "Warum? Bitte kurz."]
    assert row["answer"] == "Darum."
    with pytest.raises(ConfigurationError, match="'colour' cannot be filled in"):
        load_one(tmp_path, CHOICE, prompt_template="{colour}")
    with pytest.raises(ConfigurationError, match=r"column_mapping question: .* has no column 'Fragen'"):
        load_one(tmp_path, CHOICE, column_mapping={"question": "Fragen"})


def test_the_quick_answer_form_keeps_the_cue_at_the_end(tmp_path):
    plain = load_one(tmp_path, CHOICE, conversational=False)["prompt"]
    assert with_instruction(plain, "At once.").endswith("C. three\nAt once.\nAnswer:")


SETTINGS = PromptSettings(True, None, None, 1000)


@given(st.text(min_size=1).filter(str.strip), st.lists(st.text(min_size=1).filter(str.strip), min_size=2, max_size=5))
def test_an_id_depends_on_the_content_alone(question, options):
    try:
        ids = {
            FORMATS["multiple_choice"](Row(row, set(row), {}), settings)["id"]
            for row in ({"question": question, "options": options, "answer_index": i} for i in (0, 1))
            for settings in (SETTINGS, PromptSettings(False, "{question}", "Be brief.", 1000))
        }
        other = {"question": question + "?", "options": options, "answer_index": 0}
        assert len(ids) == 1
        assert FORMATS["multiple_choice"](Row(other, set(other), {}), SETTINGS)["id"] not in ids
    except ValueError as error:
        assert "encoding" in str(error) or "characters" in str(error)


def test_ids_move_with_their_rows_when_a_file_is_shuffled_or_grows(tmp_path):
    rows = [{"question": f"{i % 7} + {i // 7}?", "answer": i} for i in range(40)]
    first, _ = load_prompts(write(tmp_path / "rows.jsonl", rows))
    grown = [*rows, {"question": "new?", "answer": 0}]
    random.Random(0).shuffle(grown)
    second, _ = load_prompts(write(tmp_path / "rows.jsonl", grown))
    ids = dict(zip(first["answer"], first["id"], strict=True))
    assert len(set(first["id"])) == 40
    assert all(
        ids[a] == i for a, i in zip(second["answer"], second["id"], strict=True) if a in ids and i in ids.values()
    )
    assert set(first["id"]) < set(second["id"])


def test_equal_rows_get_different_ids(tmp_path):
    dataset, _ = load_prompts(write(tmp_path / "rows.jsonl", [{"question": "Why?"}] * 3))
    assert dataset["id"] == [dataset[0]["id"] + suffix for suffix in ("", "-2", "-3")]


@pytest.mark.parametrize(
    ("bad", "field", "problem"),
    [
        ({"options": None}, "options", "is missing"),
        ({"options": ["one", None, "three"]}, "options", "expected text, got NoneType"),
        ({"options": ["one", " ", "three"]}, "options", "option B is empty"),
        ({"options": ["one"]}, "options", "expected 2 to 26 options, got 1"),
        ({"options": "one"}, "options", "expected a list of options, got str"),
        ({"options": {"A": "x", "C": "y"}}, "options", "none left out"),
        ({"answer_index": 3}, "answer_index", "3 is out of range: there are 3 options"),
        ({"answer_index": -1}, "answer_index", "-1 is out of range"),
        ({"answer_index": True}, "answer_index", "got bool"),
        ({"answer_index": 1.0}, "answer_index", "got float"),
        ({"answer_index": None}, "answer_index", "is missing"),
        ({"answer_index": "four"}, "answer_index", "expected one of A, B, C"),
        ({"options": ["B", "A"], "answer_index": "A"}, "answer_index", "names more than one option"),
        ({"question": ""}, "question", "the text is empty"),
        ({"question": ["a"]}, "question", "expected text, got list"),
        ({"question": "x" * 200_000}, "question", "characters; at most 100000"),
        ({"context": "x" * 200_000}, "context", "characters; at most 100000"),
        ({"question": "a\ud800b"}, "question", "broken encoding at character 1"),
        ({"id": "7"}, "id", "'7' is also the id of row 6"),
        ({"id": ""}, "id", "the id is empty"),
        ({"subject": 3}, "subject", "expected text, got int"),
        ({"notes": {"deep": ["\udcff"]}}, "notes", "broken encoding"),
        ({"notes": {"deep": [2**64]}}, "notes", "more than 64 bits"),
        ("[1]", "(whole row)", "expected an object of columns, got list"),
        ('{"id": "9", ', "(whole row)", "is not valid JSON"),
        (
            b'{"id": "9", "question": "caf\xe9", "options": ["a", "b"], "answer_index": 0}',
            "question",
            "broken encoding",
        ),
    ],
)
def test_an_invalid_row_is_named_by_file_row_and_field_or_skipped_and_listed(tmp_path, caplog, bad, field, problem):
    rows = [CHOICE | {"id": str(i - 1), "context": ""} for i in range(20)]
    lines = [json.dumps(row).encode() for row in rows]
    if isinstance(bad, dict):
        lines[17] = json.dumps(rows[17] | bad).encode()
    else:
        lines[17] = bad if isinstance(bad, bytes) else bad.encode()
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\n".join(lines))
    if bad == {"id": "7"}:
        problem = "'7' is also the id of row 8"
    with pytest.raises(ConfigurationError) as error:
        load_prompts(str(path))
    assert str(error.value).startswith(f"{path}, row 17 (counted from 0), field '{field}': ")
    assert problem in str(error.value)

    listed = tmp_path / "skipped.jsonl"
    dataset, _ = load_prompts(str(path), skip_invalid=True, skipped_rows_file=str(listed))
    assert dataset["id"] == [str(i - 1) for i in range(20) if i != 17]
    [entry] = map(json.loads, listed.read_text().splitlines())
    assert (entry["file"], entry["row"], entry["field"]) == (str(path), 17, field) and problem in entry["problem"]
    assert f"Skipped 1 invalid rows of 20 in {path}; {listed} lists them." in caplog.text


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"prompt": "x", "answer": ""}, "field 'answer': the answer is empty"),
        ({"prompt": "x", "answer": ["4"]}, "field 'answer': expected text, got list"),
        ({"prompt": None, "answer": "4"}, "field 'prompt': expected text or a list of messages, got NoneType"),
        ({"prompt": "x" * 200_000, "answer": "4"}, "field 'prompt': the prompt has 200000 characters"),
        ({"prompt": "x", "answer": "4", "completion": ""}, "field 'completion': the completion is empty"),
        ({"messages": [{"role": "user"}]}, "field 'messages': expected messages with role and content"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "field 'messages': the prompt is empty"),
        ({"instruction": "x", "response": ""}, "field 'response': the answer is empty"),
        ({"question": "x", "answer": None}, "field 'answer': is missing"),
        ({"question": "x", "answer": False}, "field 'answer': expected text, got bool"),
    ],
)
def test_the_other_forms_name_their_fields(tmp_path, row, problem):
    with pytest.raises(ConfigurationError) as error:
        load_one(tmp_path, row)
    assert "row 0 (counted from 0), " + problem in str(error.value)


def test_a_column_that_most_rows_have_is_not_left_out(tmp_path):
    """A row without options is an error: it does not become a question without options."""
    rows = [{"question": "Which?", "answer": "x"}, *[CHOICE] * 3]
    with pytest.raises(ConfigurationError, match=r"row 0 .*field 'options': is missing"):
        load_prompts(write(tmp_path / "rows.jsonl", rows))


def test_unknown_columns_and_values_of_mixed_types_are_named(tmp_path):
    with pytest.raises(ConfigurationError, match=r"no column 'prompt'; its columns are \['text'\]"):
        load_one(tmp_path, {"text": "x"})
    path = write(tmp_path / "rows.jsonl", [{"prompt": "a", "extra": 1}, {"prompt": "b", "extra": "x"}])
    with pytest.raises(ConfigurationError, match="field 'extra': values of different types"):
        load_prompts(path)
    with pytest.raises(ConfigurationError, match="has no valid rows"):
        load_prompts(write(tmp_path / "rows.jsonl", []))


def test_csv_and_parquet_name_bad_rows_too(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_bytes(b'question,answer\n"two\nlines",1\na,b,c\ncaf\xe9,2\n' + b"x" * 200_000 + b",3\nlast,4\n")
    listed = tmp_path / "skipped.jsonl"
    dataset, _ = load_prompts(str(path), skip_invalid=True, skipped_rows_file=str(listed))
    assert dataset["answer"] == ["1", "4"]
    skipped = [json.loads(line) for line in listed.read_text().splitlines()]
    assert [(entry["row"], entry["field"]) for entry in skipped] == [
        (1, "(whole row)"),
        (2, "question"),
        (3, "question"),
    ]

    broken = pyarrow.array([b"fine", b"caf\xe9", b"good"]).view(pyarrow.string())
    pyarrow.parquet.write_table(pyarrow.table({"question": broken}), tmp_path / "rows.parquet")
    with pytest.raises(ConfigurationError, match=r"rows.parquet, row 1 .*field 'question': broken encoding"):
        load_prompts(str(tmp_path / "rows.parquet"))


def test_files_that_cannot_be_read_as_a_whole_are_named(tmp_path):
    (tmp_path / "rows.parquet").write_bytes(b"PAR1 no")
    (tmp_path / "rows.json").write_text('[{"prompt": "a"')
    whole = gzip.compress(json.dumps({"prompt": "a"}).encode() * 1000)
    (tmp_path / "rows.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "rows.txt").write_text("a")
    for name in ("rows.parquet", "rows.json", "rows.jsonl.gz", "rows.txt"):
        with pytest.raises(ConfigurationError, match=name):
            load_prompts(str(tmp_path / name))


@pytest.mark.parametrize("text", ['[{"prompt": "a"},\n{"prompt": "b"}]', '{"prompt": "a"}\n{"prompt": "b"}\n'])
def test_a_json_file_may_hold_an_array_or_lines(tmp_path, text):
    (tmp_path / "rows.json").write_text(text)
    assert load_prompts(str(tmp_path / "rows.json"))[0]["prompt"] == ["a", "b"]


def test_held_out_rows_come_from_a_file_of_their_own(tmp_path):
    train = write(tmp_path / "train.jsonl.gz", [{"prompt": f"{i}"} for i in range(5)])
    test = write(tmp_path / "test.jsonl", [{"prompt": f"test {i}"} for i in range(5)])
    rows, held_out = load_prompts(train, eval_dataset_name=test, held_out_prompts=3)
    assert len(rows) == 5 and held_out["prompt"] == ["test 0", "test 1", "test 2"]
    assert load_prompts(train, eval_dataset_name=test)[1] is None


def test_skipped_rows_of_both_files_are_listed_together_and_counted_apart(tmp_path, caplog):
    rows = [{"prompt": "a"}, {"prompt": ""}, {"prompt": "b"}]
    train, test = write(tmp_path / "train.jsonl", rows), write(tmp_path / "test.jsonl", rows[1:])
    listed = tmp_path / "skipped.jsonl"
    load_prompts(train, eval_dataset_name=test, held_out_prompts=3, skip_invalid=True, skipped_rows_file=str(listed))
    entries = [json.loads(line) for line in listed.read_text().splitlines()]
    assert [(entry["file"], entry["row"]) for entry in entries] == [(train, 1), (test, 0)]
    assert f"Skipped 1 invalid rows of 3 in {train}" in caplog.text
    assert f"Skipped 1 invalid rows of 2 in {test}" in caplog.text


def test_held_out_rows_of_one_file_do_not_depend_on_its_order(tmp_path):
    rows = [{"prompt": f"{i}", "subject": "first" if i < 50 else "second"} for i in range(100)]
    _, held_out = load_prompts(write(tmp_path / "rows.jsonl", rows), held_out_prompts=30)
    random.Random(0).shuffle(rows)
    train, shuffled = load_prompts(write(tmp_path / "rows.jsonl", rows), held_out_prompts=30)
    assert set(held_out["id"]) == set(shuffled["id"]) and not set(train["id"]) & set(held_out["id"])
    assert 5 < held_out["subject"].count("first") < 25
    with pytest.raises(ConfigurationError, match="has 100 rows; held_out_prompts is 100"):
        load_prompts(str(tmp_path / "rows.jsonl"), held_out_prompts=100)


def test_rows_one_by_one_are_those_of_the_data_set(tmp_path):
    path = write(tmp_path / "rows.jsonl", [CHOICE | {"extra": i} for i in range(250)])
    assert list(iter_rows(path)) == load_prompts(path)[0].to_list()
    assert len(list(iter_rows(path, train_prompts=7))) == 7
    task = {"train_prompts": 5, "conversational": False, "seed": 3}
    generated, _ = load_prompts("reasoning_gym:chain_sum", **task)
    assert list(iter_rows("reasoning_gym:chain_sum", **task)) == generated.to_list()
    assert {"id", "prompt", "completion", "answer"} <= set(generated.column_names)


@pytest.mark.parametrize("domain", ["communication", "medicine", "law", "instructions"])
@pytest.mark.parametrize("conversational", [True, False])
def test_real_rows_of_every_domain_load(domain, conversational):
    path = SHARED / f"{domain}_train.jsonl.gz"
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    held = str(SHARED / f"{domain}_test.jsonl.gz")
    train, held_out = load_prompts(
        str(path), eval_dataset_name=held, held_out_prompts=10_000, conversational=conversational
    )
    check_prompts(train)
    source = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    assert train["id"] == [row["id"] for row in source] and len(held_out) > 50
    assert not set(train["id"]) & set(held_out["id"])
    for row, loaded in zip(source, train, strict=True):
        if domain == "instructions":
            assert loaded["answer"] == loaded["response"] == row["response"]
        else:
            index = "ABCDEF".index(loaded["answer"])
            assert index == row["answer_index"] and loaded["options"][index] == row["options"][index]
        text = loaded["prompt"] if isinstance(loaded["prompt"], str) else loaded["prompt"][-1]["content"]
        assert row.get("question", row.get("instruction")) in text and (row.get("context") or "") in text


def test_a_data_set_is_what_trl_takes(tmp_path):
    dataset, _ = load_prompts(write(tmp_path / "rows.jsonl", [CHOICE] * 2))
    assert isinstance(dataset, Dataset)
    check_prompts(dataset)
