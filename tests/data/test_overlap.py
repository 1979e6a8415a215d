"""Prompts that say the same: on one side of a split, and counted between sets."""

import json
import random
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edco_rl.data.load import load_prompts
from edco_rl.data.overlap import Overlap, count_overlaps, near_form, split_rows
from edco_rl.data.tasks import generate_tasks
from edco_rl.errors import ConfigurationError

SAME = [
    ["What is the capital of France?", "what is  the capital of france", "WHAT IS THE CAPITAL OF FRANCE ?!\n"],
    ["What is 2 + 2?", "what is 2+2", "What is \uff12\uff0b\uff12\uff1f", " What is\t2 +2 ?"],
    ["Café", "Cafe\u0301", "CAFÉ!"],
    ["Don't stop", "Don\u2019t stop.", "dont stop"],
    ["a “well\u2011known” fact…", "A well-known fact", "a well known fact"],
    ["**Bold** text, `code` (aside)", "bold text code aside"],
    ["你好\uff0c世界\uff01", "你好 世界", "你好世界。"],
    ["Что это?", "что  это"],
    ["ما هذا؟", "ما هذا"],
    ["यह क्या है?", "यह क्या है।"],
    ["state\u200bless", "stateless", "\ufeffstateless"],
    ["Straße", "STRASSE"],
    ["3 \u2212 1", "3 - 1", "3\u20131"],
]
DIFFERENT = [
    ["2 - 1", "2 * 1", "2 / 1", "2 + 1", "21", "2 1"],
    ["1.5", "15", "1 5", "-1.5"],
    ["[1, 23]", "[12, 3]", "[1, 2, 3]"],
    ["(2 + 3) * 4", "2 + (3 * 4)"],
    ["x/y", "x*y", "x - y"],
    ["C# code", "C code", "C++ code"],
    ["कि", "की"],  # they differ in a vowel sign alone
    ["cafe", "café"],
    ["???", "!!!"],
    ["🙂", "🙁"],
    ["Queens:\n_ Q _\n_ _ _", "Queens:\n_ _ Q\n_ _ _", "Queens:\n_ _ _\n_ Q _"],
    ["How many?\n # #\n###", "How many?\n## #\n###"],
]


@pytest.mark.parametrize("texts", SAME)
def test_case_spaces_punctuation_and_unicode_form_make_no_difference(texts):
    assert len({near_form(text) for text in texts}) == 1


@pytest.mark.parametrize("texts", DIFFERENT)
def test_formulas_and_letters_do(texts):
    assert len({near_form(text) for text in texts}) == len(texts)


@st.composite
def reworded(draw):
    """Prompts and a few near-equal copies of each, shuffled."""
    words = st.lists(
        st.sampled_from(["alpha", "beta", "Gamma", "ÉTÉ", "straße", "你好", "12", "7.5", "слово"]),
        min_size=1,
        max_size=5,
    )
    texts = []
    for prompt in draw(st.lists(words, min_size=2, max_size=12)):
        for _ in range(draw(st.integers(1, 3))):
            space, end = (
                draw(st.sampled_from([" ", "  ", "\n", "\u00a0"])),
                draw(st.sampled_from(["", "?", " !", "…"])),
            )
            change = draw(st.sampled_from([str, str.upper, str.lower]))
            form = draw(st.sampled_from(["NFC", "NFD", "NFKC", "NFKD"]))
            texts.append(unicodedata.normalize(form, change(space.join(prompt)) + end))
    return draw(st.permutations(texts))


@given(reworded(), st.integers(1, 6), st.randoms())
def test_no_prompt_has_a_near_equal_one_on_the_other_side_whatever_the_order(texts, wanted, shuffle):
    rows = [{"prompt": text} for text in texts]
    train, held_out = split_rows(rows, wanted)
    sides = [{near_form(row["prompt"]) for row in side} for side in (train, held_out)]
    different = len({near_form(text) for text in texts})
    assert not sides[0] & sides[1] and len(sides[0] | sides[1]) == different
    assert len(held_out) == len(sides[1]) == min(wanted, different)
    shuffle.shuffle(rows)
    again = split_rows(rows, wanted)
    assert [sorted(row["prompt"] for row in side) for side in again] == [
        sorted(row["prompt"] for row in side) for side in (train, held_out)
    ]


@pytest.mark.parametrize("chat", [True, False])
@pytest.mark.parametrize("ids", [True, False])
def test_copies_in_a_file_are_trained_on_or_held_out_never_both(tmp_path, caplog, chat, ids):
    texts = [f"What is {i} + 1?" for i in range(30)]
    texts += [text.upper() for text in texts[:20]] + texts[:10]
    random.Random(0).shuffle(texts)
    rows = [{"prompt": [{"role": "user", "content": text}] if chat else text} for text in texts]
    if ids:
        rows = [row | {"id": f"row {i}"} for i, row in enumerate(rows)]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    train, held_out = load_prompts(str(path), held_out_prompts=12)
    prompts = [[row["prompt"][0]["content"] if chat else row["prompt"] for row in side] for side in (train, held_out)]
    forms = [[near_form(text) for text in side] for side in prompts]
    assert not set(forms[0]) & set(forms[1]) and len(set(forms[1])) == 12 == len(held_out)
    assert sorted(forms[0]) == sorted(near_form(text) for text in texts if near_form(text) not in forms[1])
    assert len(set(train["id"])) == len(train), "copies in the pool have ids of their own"
    left_out = len(texts) - len(train) - len(held_out)
    assert f"{left_out} near-equal copies of held-out prompts are left out of training" in caplog.text


def test_too_few_different_prompts_are_an_error(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps({"prompt": text}) for text in ("a b", "A b!", "c", "C")))
    assert len(load_prompts(str(path), held_out_prompts=1)[0]) == 2
    with pytest.raises(ConfigurationError, match="has 4 rows, 2 of them different; held_out_prompts is 2"):
        load_prompts(str(path), held_out_prompts=2)


def test_overlaps_of_two_sets_are_counted():
    held_out = ["What is 1 + 1?", "Why?", [{"role": "user", "content": "Who?"}], "Where?", "where"]
    trained = ["what is 1+1", "Why?", "who", "When?", "Why?"]
    found = count_overlaps(held_out, iter(trained))
    assert found == Overlap(prompts=5, equal=1, near_equal=2) and found.share == 0.6
    assert count_overlaps(iter(trained), held_out) == Overlap(prompts=5, equal=2, near_equal=2)
    assert count_overlaps([], trained).share == count_overlaps(held_out, []).share == 0
    assert found.describe("held-out prompts", "the pool") == (
        "3 of 5 held-out prompts are in the pool too, 2 of them but for case, spaces or punctuation."
    )


def test_a_file_of_held_out_prompts_that_are_trained_on_is_warned_of(tmp_path, caplog):
    paths = [tmp_path / name for name in ("train.jsonl", "test.jsonl")]
    for path, texts in zip(paths, (["One?", "Two?", "Three?"], ["one", "Four?"]), strict=True):
        path.write_text("\n".join(json.dumps({"prompt": text}) for text in texts))
    train, test = map(str, paths)
    load_prompts(train, eval_dataset_name=test, held_out_prompts=5)
    assert f"{test}: 1 of 2 held-out prompts are in the training set too, 1 of them but for case" in caplog.text
    caplog.clear()
    load_prompts(train, eval_dataset_name=train, held_out_prompts=5, train_prompts=2)
    assert "2 of 3 held-out prompts are in the training set too, 0 of them" in caplog.text


def test_generated_tasks_have_no_near_equal_prompts_on_both_sides():
    """The words are those of a book: some are there with a capital too."""
    train, held_out = generate_tasks(
        "reasoning_gym:letter_counting",
        train_prompts=300,
        held_out_prompts=100,
        seed=0,
        task_kwargs={"min_words": 1, "max_words": 1},
        prompt_template="How often is each letter in {span}?",
        conversational=False,
    )
    sides = [{near_form(prompt) for prompt in side["prompt"]} for side in (train, held_out)]
    assert (len(train), len(held_out)) == (300, 100)
    assert len(sides[0]) < 300, "without near-equal prompts nothing is shown"
    assert not sides[0] & sides[1] and len(sides[1]) == 100
