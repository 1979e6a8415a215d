# ruff: noqa: RUF001
"""Every reward on texts of ten scripts, and on numbers as they are written in them."""

import json
import string
import unicodedata

import pytest
from rouge_score.rouge_scorer import RougeScorer

from edco_rl.rewards import (
    LengthReward,
    answer_format_reward,
    find_option,
    math_reward,
    multiple_choice_reward,
    reasoning_gym_reward,
    rouge_l,
    rouge_l_reward,
)
from edco_rl.rewards.numbered import find_numbered_option

# Each script: two sentences, "the answer is", and its digits where it has its own.
SCRIPTS = {
    "Latin": (
        "Der schnelle Fuchs springt über den faulen Hund",
        "Ein Vogel singt früh am Morgen",
        "Die Antwort ist",
        None,
    ),
    "Chinese": ("敏捷的棕色狐狸跳过懒狗", "小鸟清晨唱歌", "答案是", None),
    "Japanese": ("素早い茶色の狐が犬を飛び越える", "朝早く鳥が歌う", "答えは", None),
    "Korean": ("빠른 갈색 여우가 개를 뛰어넘는다", "새가 아침 일찍 노래한다", "정답은", None),
    "Cyrillic": ("Быстрая лисица прыгает через собаку", "Птица поёт рано утром", "Ответ:", None),
    "Greek": ("Η γρήγορη αλεπού πηδάει πάνω από τον σκύλο", "Ένα πουλί τραγουδά νωρίς", "Η απάντηση είναι", None),
    "Arabic": ("الثعلب البني السريع يقفز فوق الكلب", "طائر يغني باكرا", "الجواب هو", "٠١٢٣٤٥٦٧٨٩"),
    "Hebrew": ("השועל החום המהיר קופץ מעל הכלב", "ציפור שרה מוקדם", "התשובה היא", None),
    "Hindi": ("तेज़ भूरी लोमड़ी आलसी कुत्ते पर कूदती है", "एक पक्षी सुबह गाता है", "उत्तर", "०१२३४५६७८९"),
    "Bengali": ("দ্রুত বাদামী শিয়াল কুকুরের উপর লাফ দেয়", "একটি পাখি ভোরে গান গায়", "উত্তর", "০১২৩৪৫৬৭৮৯"),
    "Thai": ("สุนัขจิ้งจอกกระโดดข้ามสุนัข", "นกร้องเพลงตอนเช้า", "คำตอบคือ", "๐๑๒๓๔๕๖๗๘๙"),
    "Full-width": ("Ｔｈｅ　ｑｕｉｃｋ　ｆｏｘ", "Ａ　ｂｉｒｄ　ｓｉｎｇｓ", "Ａｎｓｗｅｒ：", "０１２３４５６７８９"),
}
each_script = pytest.mark.parametrize(("text", "other", "statement", "digits"), SCRIPTS.values(), ids=SCRIPTS)


@each_script
def test_rouge_l_of_a_text_with_itself_is_one_and_with_another_is_small(text, other, statement, digits):
    assert rouge_l(text, text) == rouge_l(text, unicodedata.normalize("NFD", text)) == 1.0
    assert rouge_l_reward([text, other], [text, text])[0] == 1.0
    assert rouge_l(text, other) < 0.5
    assert 0.0 < rouge_l(text, text[: 2 * len(text) // 3]) < 1.0


def test_rouge_l_of_ascii_texts_is_that_of_rouge_score():
    published = RougeScorer(["rougeL"], use_stemmer=True)
    texts = [
        "The runners were running -- 3.5 miles, 1,000 times!",
        "A runner runs 3.5 miles 1000 times",
        "snake_case and kebab-case, e-mail's running",
        string.printable,
        "",
        "...",
    ]
    for one in texts:
        for other in texts:
            assert rouge_l(one, other) == published.score(one, other)["rougeL"].fmeasure


def test_rouge_l_takes_words_where_there_are_spaces_and_characters_where_there_are_none():
    assert rouge_l("красный дом", "красный кот") == pytest.approx(1 / 2)
    assert rouge_l("红房子", "红车子") == pytest.approx(2 / 3)
    assert rouge_l("वह घर", "वह कर") == pytest.approx(1 / 2)
    assert rouge_l("iPhone的价格", "iPhone 的价格") == 1.0
    assert rouge_l("میخواهم", "می\N{ZERO WIDTH NON-JOINER}خواهم") == 1.0
    assert rouge_l("४२ घर", "42 घर") == 1.0


@each_script
def test_the_math_grader_finds_a_number_among_any_words(text, other, statement, digits):
    write = str.maketrans("0123456789", digits or "0123456789")
    numbers = [number.translate(write) for number in ("42", "43")]
    beside = [] if len(text.split()) > 1 else [(statement, "."), (text, other)]
    for before, after in [(f"{statement} ", ""), (f"{text}. ", f" {other}"), *beside]:
        completions = [f"{before}{number}{after}" for number in numbers]
        assert math_reward(completions, ["42", "42"]) == [1.0, 0.0], completions
    assert math_reward(["42", "43"], [numbers[0]] * 2) == [1.0, 0.0]
    assert math_reward([f"\\boxed{{{number}}}" for number in numbers], ["42"] * 2) == [1.0, 0.0]


@each_script
def test_the_math_grader_compares_texts(text, other, statement, digits):
    word, wrong = text.split()[0][:6], other.split()[-1][:6]
    for reference in (word, f"\\text{{{word}}}"):
        answers = [word, f"\\boxed{{{word}}}", f"\\boxed{{\\text{{{word}}}}}", f"{statement} {word}"]
        assert math_reward(answers[:3], [reference] * 3) == [1.0] * 3
        assert math_reward([wrong, f"\\boxed{{{wrong}}}"], [reference] * 2) == [0.0] * 2


@each_script
def test_an_option_is_found_among_any_words(text, other, statement, digits):
    labels = "ＡＢ" if digits == "０１２３４５６７８９" else "AB"
    beside = [] if len(text.split()) > 1 else [f"{statement}{labels[1]}"]
    for written in [labels[1], f"{statement} {labels[1]}", *beside]:
        assert find_option(written) == "B", written
    assert find_option(f"{labels[0]}. {text}\n{labels[1]}. {other}\n{statement} {labels[1]}") == "B"
    assert find_option(f"{labels[0]}, {labels[1]}") is None
    assert find_option(text, [other, text]) == "B"
    assert multiple_choice_reward([f"{statement} {labels[1]}"] * 2, ["B", "A"], [[other, text]] * 2) == [1.0, 0.0]


@each_script
def test_a_numbered_option_is_found_among_any_words(text, other, statement, digits):
    write = str.maketrans("0123456789", digits or "0123456789")
    two, one = "2".translate(write), "1".translate(write)
    beside = [] if len(text.split()) > 1 else [f"{statement}{two}"]
    for written in [
        two,
        f"{two}。",
        f"[[{two}]]",
        f"{statement} {two}",
        *beside,
        f"{text} \\boxed{{{two}}}",
        f"{other}.",
    ]:
        assert find_numbered_option(written, [text, other]) == "2", written
    assert find_numbered_option(f"{one}, {two}", [text, other]) is None
    assert multiple_choice_reward([f"{statement} {two}"] * 3, [two, one, "2"], [[other, text]] * 3) == [1.0, 0.0, 1.0]


@pytest.mark.parametrize(
    "denial", ["答案不是{}", "答えは{}ではない", "정답은 {}가 아닙니다", "उत्तर {} नहीं है", "উত্তর {} নয়"]
)
def test_an_answer_that_is_said_to_be_wrong_is_none(denial):
    assert find_option(denial.format("B"), ["x", "y"]) is None
    assert find_numbered_option(denial.format("2"), ["x", "y"]) is None


@pytest.mark.parametrize(
    "denial", ["不是B", "Bではない", "B가 아닙니다", "не B", "ليس B", "B नहीं", "לא B", "ไม่ใช่ B", "δεν είναι B"]
)
def test_a_denied_option_is_none(denial):
    assert find_option(denial) is None


def test_labels_of_a_data_set_may_be_full_width_or_small():
    assert multiple_choice_reward(["B"] * 3, ["\N{FULLWIDTH LATIN CAPITAL LETTER B}", "b", " B "]) == [1.0] * 3


@each_script
def test_reasoning_gym_reads_the_digits_of_any_script(text, other, statement, digits):
    entry = json.dumps({"question": text, "answer": "42", "metadata": {"source_dataset": "basic_arithmetic"}})
    number = "42".translate(str.maketrans("0123456789", digits or "0123456789"))
    assert reasoning_gym_reward([f"{text} <answer>{number}</answer>", f"<answer>{text}</answer>"], [entry] * 2) == [
        1.0,
        0.0,
    ]


@each_script
def test_rewards_of_form_do_not_depend_on_the_script(text, other, statement, digits):
    assert answer_format_reward([f"{other} <answer>{text}</answer>", text]) == [1.0, 0.0]
    reward = LengthReward(maximum=len(text), unit="characters")
    assert reward([text, f"{text}."]) == [0.0, -1.0]


@pytest.mark.parametrize("content", [None, [], [{"type": "text", "text": "4"}, {"type": "text", "text": "2"}]])
def test_messages_without_text_and_in_parts_are_read(content):
    message = [{"role": "assistant", "content": content}]
    right = float(bool(content))
    assert math_reward([message], ["42"]) == rouge_l_reward([message], ["42"]) == [right]
    assert answer_format_reward([message]) == [0.0]
