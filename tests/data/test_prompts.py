import json
import re
from collections import Counter

import pytest
from datasets import Dataset, Features, List, Value
from hypothesis import given, settings
from hypothesis import strategies as st

from edco_rl.data.ids import prompt_ids
from edco_rl.data.load import load_prompts
from edco_rl.data.prompts import check_prompts, prompt_problem, with_instruction
from edco_rl.data.tasks import generate_tasks
from edco_rl.errors import ConfigurationError

CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2 + 2?"}]


def rows(prompts, **columns):
    return Dataset.from_dict({"prompt": prompts, **columns})


def test_good_rows_pass():
    check_prompts(rows(["a", "b"]))
    check_prompts(rows([CHAT]))


TEXT = st.text(st.sampled_from("a1.+ \n\x1c\u3000\u00e9"), max_size=3)
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "user", "assistant", "tool", "human"]), "content": TEXT | st.none()}
)


@settings(max_examples=60)
@given(st.lists(TEXT, min_size=1, max_size=5) | st.lists(st.lists(MESSAGE, max_size=3), min_size=1, max_size=5))
def test_many_rows_are_checked_as_each_is(prompts):
    features = Features({"prompt": Value("string")})
    if isinstance(prompts[0], list):
        features = Features({"prompt": List({"role": Value("string"), "content": Value("string")})})
    dataset = Dataset.from_dict({"prompt": prompts}, features=features)
    problems = [(row, problem) for row, one in enumerate(prompts) if (problem := prompt_problem(one))]
    if not problems:
        return check_prompts(dataset)
    row, problem = problems[0]
    with pytest.raises(ConfigurationError, match=re.escape(f"Row {row}, column 'prompt': {problem}.")):
        check_prompts(dataset)
    return None


@pytest.mark.parametrize("bad", ["", "  \n"])
def test_an_empty_prompt_is_named_by_its_row(bad):
    with pytest.raises(ConfigurationError, match="Row 17, column 'prompt': the prompt is empty"):
        check_prompts(rows(["text"] * 17 + [bad]))


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (Dataset.from_dict({"question": ["a"]}), r"no column 'prompt'; its columns are \['question'\]"),
        (Dataset.from_dict({"prompt": [1]}), "Row 0, column 'prompt': expected text or a list of messages, got int"),
        (rows([[{"role": "user", "content": " "}]]), "the last message is empty"),
        (rows([[{"role": "user", "text": "a"}]]), "expected messages with role and content"),
        (rows([CHAT, []]), "Row 1, column 'prompt': the prompt is empty"),
        ([{"prompt": "a"}], "must be a datasets.Dataset; got list"),
    ],
)
def test_bad_data_sets_are_refused(dataset, message):
    with pytest.raises(ConfigurationError, match=message):
        check_prompts(dataset)


@given(st.lists(st.text(), min_size=1, max_size=20), st.randoms())
def test_ids_are_unique_and_move_with_their_rows(texts, random):
    ids = prompt_ids(rows(texts))
    assert len(set(ids)) == len(texts)
    shuffled = random.sample(texts, len(texts))
    assert sorted(prompt_ids(rows(shuffled))) == sorted(ids)


def test_a_column_of_ids_is_kept_and_must_be_unique():
    ids = prompt_ids(rows(["a", "b"], id=[7, 8]))
    assert list(ids) == ["7", "8"] and (ids[1], ids[:1], len(ids)) == ("8", ["7"], 2)
    with pytest.raises(ConfigurationError, match="Row 2, column 'id': '7' is also the id of row 0"):
        prompt_ids(rows(["a", "b", "c"], id=[7, 8, 7]))


def test_quick_answer_changes_the_last_user_message_of_a_copy():
    assert with_instruction("2 + 2?", "At once.") == "2 + 2?\nAt once.\n"
    changed = with_instruction(CHAT, "At once.")
    assert changed[0] == CHAT[0] and changed[1]["content"] == "2 + 2?\n\nAt once."
    assert CHAT[1]["content"] == "2 + 2?"


def test_generated_tasks_are_disjoint_and_the_same_for_a_seed():
    settings = {"seed": 3, "task_kwargs": {"max_terms": 2, "max_digits": 2}, "conversational": False}
    train, held_out = generate_tasks("reasoning_gym:chain_sum", train_prompts=300, held_out_prompts=50, **settings)
    questions = train["prompt"], held_out["prompt"]
    assert (len(train), len(held_out)) == (300, 50)
    assert len(set(questions[0]) | set(questions[1])) == 350
    again, _ = generate_tasks("reasoning_gym:chain_sum", train_prompts=300, held_out_prompts=50, **settings)
    assert again["prompt"] == questions[0]
    other, _ = generate_tasks(
        "reasoning_gym:chain_sum", train_prompts=300, held_out_prompts=50, **(settings | {"seed": 4})
    )
    assert other["prompt"] != questions[0]


@pytest.mark.parametrize(
    ("name", "kwargs", "message"),
    [
        ("reasoning_gym:chain_som", None, "chain_som"),
        ("reasoning_gym:chain_sum", {"terms": 2}, "terms"),
        ("reasoning_gym:chain_sum", {"max_terms": 2, "max_digits": 1}, "different prompts"),
    ],
)
def test_tasks_that_cannot_be_made_are_refused(name, kwargs, message):
    with pytest.raises(ConfigurationError, match=message):
        generate_tasks(name, train_prompts=300, held_out_prompts=10, seed=0, task_kwargs=kwargs)


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz", "parquet", "csv"])
def test_local_files_are_read_and_some_of_their_rows_held_out(tmp_path, suffix):
    path = tmp_path / f"rows.{suffix}"
    dataset = rows([f"question {i}" for i in range(10)], answer=[str(i) for i in range(10)])
    if suffix == "parquet":
        dataset.to_parquet(path)
    elif suffix == "csv":
        dataset.to_csv(path)
    else:
        dataset.to_json(path, compression="infer")
    train, held_out = load_prompts(str(path), held_out_prompts=3, train_prompts=5)
    whole, _ = load_prompts(str(path))
    left = [prompt for prompt in whole["prompt"] if prompt not in held_out["prompt"]]
    assert whole["prompt"] == dataset["prompt"] and len(held_out) == 3
    assert train["prompt"] == left[:5] and train["answer"] == [prompt[-1] for prompt in left[:5]]


@pytest.mark.parametrize("name", ["/nowhere/rows.jsonl", "rows.parquet"])
def test_a_missing_file_is_named(name):
    with pytest.raises(ConfigurationError, match="there is no such file"):
        load_prompts(name)


def test_a_template_fills_in_the_tasks_fields():
    train, _ = generate_tasks(
        "reasoning_gym:chain_sum", train_prompts=1, held_out_prompts=0, seed=0, prompt_template="{expression} ="
    )
    assert train[0]["prompt"][0]["content"].endswith(" =")
    with pytest.raises(ConfigurationError, match=r"(?s)'colour' cannot be filled in.*expression"):
        generate_tasks(
            "reasoning_gym:chain_sum", train_prompts=1, held_out_prompts=0, seed=0, prompt_template="{colour}"
        )


MIXTURE = {
    "tasks": {
        "sums": {"task": "chain_sum", "max_terms": 2},
        "lcm": {"task": "lcm"},
        "words": {"task": "spell_backward"},
    }
}


def test_a_mixture_has_its_tasks_in_equal_shares_and_no_prompt_twice():
    settings = {"seed": 3, "task_kwargs": MIXTURE, "conversational": False}
    train, held_out = generate_tasks("reasoning_gym:mixture", train_prompts=100, held_out_prompts=20, **settings)
    assert Counter(train["subject"]) == {"sums": 34, "lcm": 33, "words": 33}
    assert Counter(held_out["subject"]) == {"sums": 7, "lcm": 7, "words": 6}
    assert len({*train["prompt"], *held_out["prompt"]}) == 120
    assert len(set(train["subject"][:20])) == 3  # shuffled
    for row in train:
        task = {"sums": "chain_sum", "lcm": "lcm", "words": "spell_backward"}[row["subject"]]
        assert json.loads(row["entry"])["metadata"]["source_dataset"] == task
    sums = {"sums": MIXTURE["tasks"]["sums"] | {"held_out": False, "prompt_template": "Sum: {expression}"}}
    some = settings | {"task_kwargs": {"tasks": MIXTURE["tasks"] | sums}}
    train, held_out_of_some = generate_tasks("reasoning_gym:mixture", train_prompts=9, held_out_prompts=7, **some)
    assert {row["prompt"].startswith("Sum: ") for row in train} == {True, False}
    assert all(row["prompt"].startswith("Sum: ") == (row["subject"] == "sums") for row in train)
    assert Counter(held_out_of_some["subject"]) == {"lcm": 4, "words": 3}
    larger, same = generate_tasks("reasoning_gym:mixture", train_prompts=200, held_out_prompts=20, **settings)
    assert same["prompt"] == held_out["prompt"] and len(larger) == 200


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (None, "needs task_kwargs with tasks alone"),
        ({"tasks": {}}, "needs task_kwargs with tasks alone"),
        ({"tasks": {"sums": "chain_sum"}}, "'sums': expected a mapping with a task"),
        ({"tasks": {"sums": {"task": "chain_som"}}}, "chain_som"),
        ({"tasks": {"sums": {"task": "chain_sum", "held_out": False}}}, "held_out is false for all"),
        ({"tasks": {"sums": {"task": "chain_sum", "terms": 1}}}, "terms"),
    ],
)
def test_mixtures_that_cannot_be_made_are_refused(kwargs, message):
    with pytest.raises(ConfigurationError, match=message):
        generate_tasks("reasoning_gym:mixture", train_prompts=6, held_out_prompts=2, seed=0, task_kwargs=kwargs)
