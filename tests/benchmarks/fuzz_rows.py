"""Random rows in files: each is read as a prompt that TRL can use, or refused with its file, row and field."""

import json
import logging
import tempfile
from collections import Counter
from functools import cache
from pathlib import Path

from hypothesis import strategies as st
from transformers import AutoTokenizer

from edco_rl import ConfigurationError
from edco_rl.data.chat import check_chat_template
from edco_rl.data.load import load_prompts
from edco_rl.data.messages import ROLES
from edco_rl.data.tokens import SupervisedRowTokenizer

from ..conftest import CACHE
from .fuzz import search

WORDS = st.sampled_from(["A", "B", "1", "2 + 2 =", "four", "true", "[{", '[{"role": 1}]', "ü"])
TEXTS = st.one_of(WORDS, st.sampled_from(["", " ", "{}"]), st.text(max_size=8))
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXTS)
JSON = st.recursive(
    SCALARS,
    lambda inside: st.one_of(st.lists(inside, max_size=3), st.dictionaries(TEXTS, inside, max_size=3)),
    max_leaves=6,
)


def mostly(good, wrong=JSON):
    """Seven of eight are good."""
    return st.integers(0, 7).flatmap(lambda number: wrong if number == 7 else good)


PARTS = st.lists(st.fixed_dictionaries({"type": mostly(st.just("text")), "text": mostly(WORDS)}), max_size=2)
CONTENTS = mostly(WORDS, st.one_of(JSON, PARTS, TEXTS))
CALLS = st.fixed_dictionaries(
    {"name": mostly(WORDS), "arguments": mostly(st.sampled_from(["{}", '{"a": 1}']))}, optional={"id": JSON}
)
EXTRA = {"tool_calls": mostly(st.lists(CALLS, max_size=2)), "name": JSON, "reasoning_content": JSON}
MESSAGES = st.one_of(
    st.fixed_dictionaries({"role": mostly(st.sampled_from(ROLES)), "content": CONTENTS}),
    st.fixed_dictionaries({"role": mostly(st.sampled_from(ROLES)), "content": CONTENTS}, optional=EXTRA),
    st.fixed_dictionaries({"from": mostly(st.sampled_from(["human", "gpt", "system"])), "value": CONTENTS}),
)
ASKED = st.fixed_dictionaries({"role": mostly(st.just("user")), "content": CONTENTS})
ANSWERED = st.fixed_dictionaries({"role": mostly(st.just("assistant")), "content": CONTENTS})
TURNS = st.lists(mostly(MESSAGES), max_size=2)


def chats(*ends):
    """Conversations that mostly end as they should, some of them as JSON or text."""
    whole = st.tuples(TURNS, *(mostly(end) for end in ends)).map(lambda turns: [*turns[0], *turns[1:]])
    return mostly(st.one_of(whole, whole, whole.map(json.dumps), WORDS), st.one_of(JSON, TEXTS, TURNS))


OPTIONS = mostly(
    st.one_of(
        st.lists(WORDS, min_size=2, max_size=4),
        st.lists(WORDS, min_size=2, max_size=4).map(json.dumps),
        st.just({"text": ["yes", "no"], "label": ["X", "Y"]}),
        st.just({"A": "yes", "B": "no"}),
        st.just([{"text": "yes", "label": "X"}, {"text": "no", "label": "Y"}]),
    ),
    st.one_of(
        st.fixed_dictionaries({"text": st.lists(SCALARS, max_size=3), "label": st.lists(SCALARS, max_size=3)}),
        st.dictionaries(st.sampled_from("ABCX"), TEXTS),
        st.lists(SCALARS, max_size=30),
        JSON,
    ),
)
COLUMNS = {
    "prompt": chats(ASKED),
    "messages": chats(ASKED, ANSWERED),
    "conversations": chats(ASKED, ANSWERED),
    "completion": mostly(st.one_of(WORDS, chats(ANSWERED))),
    "chosen": chats(ASKED, ANSWERED) | chats(ANSWERED),
    "rejected": chats(ASKED, ANSWERED) | chats(ANSWERED),
    **dict.fromkeys(("options", "choices"), OPTIONS),
    **dict.fromkeys(("question", "problem", "instruction", "response", "output"), mostly(WORDS)),
    **dict.fromkeys(("context", "input", "explanation", "subject"), mostly(TEXTS | st.none())),
    **dict.fromkeys(
        ("answer", "answer_index", "label", "solution", "answerKey"), mostly(st.sampled_from(["A", 0, "1"]))
    ),
    "tools": mostly(st.just([{"type": "function", "function": {"name": "add", "parameters": {}}}])),
    "chat_template_kwargs": mostly(st.just({"enable_thinking": False})),
    **dict.fromkeys(("id", "other"), SCALARS | JSON),
}
SHAPES = (
    ("prompt",),
    ("prompt", "completion"),
    ("messages",),
    ("conversations",),
    ("prompt", "chosen", "rejected"),
    ("chosen", "rejected"),
    ("question", "options", "answer"),
    ("problem", "choices", "answer_index"),
    ("question", "answer"),
    ("instruction", "response"),
)


@st.composite
def files(draw):
    """Rows of mostly one shape, and settings to read them with."""
    shape = draw(st.sampled_from(SHAPES))
    extra = draw(st.lists(st.sampled_from(sorted(COLUMNS)), max_size=3, unique=True))
    needed = {name: COLUMNS[name] for name in shape}
    optional = {name: COLUMNS[name] for name in extra if name not in shape}
    whole = st.fixed_dictionaries(needed, optional=optional)
    row = mostly(mostly(whole, st.fixed_dictionaries({}, optional={**needed, **optional})))
    rows = draw(st.lists(row, min_size=1, max_size=4))
    settings = draw(
        st.fixed_dictionaries(
            {"skip_invalid": st.booleans(), "held_out_prompts": st.sampled_from([0, 0, 1])},
            optional={
                "system_prompt": TEXTS,
                "conversational": st.booleans(),
                "option_labels": st.sampled_from(["letters", "numbers"]),
                "column_mapping": mostly(
                    st.just({}), st.dictionaries(st.sampled_from(sorted(COLUMNS)), st.sampled_from(sorted(COLUMNS)))
                ),
                "dataset_format": mostly(
                    st.just("auto"), st.sampled_from(["prompt", "multiple_choice", "verifiable"])
                ),
            },
        )
    )
    return rows, settings


@cache
def tokenizer():
    """SmolLM2's, as `make model` prepares it."""
    return AutoTokenizer.from_pretrained(CACHE / "SmolLM2-135M-Instruct")


def _has_reference(row):
    return bool(row.get("completion") or row.get("answer"))


def is_prompt(value, last):
    """Whether TRL's chat templates take it: text, or messages whose last one is of these roles."""
    if isinstance(value, str):
        return bool(value.strip())
    messages = all(
        isinstance(one, dict) and one["role"] in ROLES and isinstance(one["content"], str) and one.keys() >= {"role"}
        for one in value
    )
    said = value[-1]["content"].strip() or value[-1].get("tool_calls")
    return messages and value[-1]["role"] in last and bool(said)


def outcome(case):
    """What became of a file."""
    rows, settings = case
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rows.jsonl")
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        try:
            found = load_prompts(str(path), skipped_rows_file=str(Path(folder, "skipped.jsonl")), **settings)
            for part in found:
                if part is not None:
                    check_chat_template(part, tokenizer())
                    SupervisedRowTokenizer(tokenizer()).with_references([row for row in part if _has_reference(row)])
        except ConfigurationError as error:
            assert len(str(error)) < 2000, error
            return "refused"
    for part in found:
        for row in part or ():
            assert is_prompt(row["prompt"], ("user", "tool")), row
            assert row.get("completion") is None or is_prompt(row["completion"], ("assistant",)), row
            assert row.get("answer") is None or isinstance(row["answer"], str), row
            assert isinstance(row["id"], str) and row["id"], row
    return "accepted"


def fuzz(cases: int, seed: int = 0) -> Counter[str]:
    """Outcomes of so many files."""
    log = logging.getLogger("edco_rl")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        return search(files(), outcome, cases, seed)
    finally:
        log.setLevel(before)
