"""What the model sees of a prompt, and rows that its chat template does not take."""

import re

import pytest
from datasets import Dataset
from transformers import AutoTokenizer

from edco_rl.data.chat import check_chat_template, show_prompt
from edco_rl.errors import ConfigurationError

HI, HELLO = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}
SYSTEM = {"role": "system", "content": "Be kind."}
# As Gemma 2 has it: no system turns, and user and assistant take turns.
STRICT = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% if (message.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "<{{ message.role }}>{{ message.content | trim }}</s>{% endfor %}{% if add_generation_prompt %}<model>{% endif %}"
)


@pytest.fixture
def tokenizer(model_path):
    return AutoTokenizer.from_pretrained(model_path)


def test_the_first_prompt_is_shown_as_the_model_sees_it(tokenizer):
    shown = show_prompt({"prompt": [SYSTEM, HI]}, tokenizer)
    assert shown == ("<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
    assert shown == tokenizer.apply_chat_template([SYSTEM, HI], add_generation_prompt=True, tokenize=False)
    assert show_prompt({"prompt": "2 + 2 ="}, tokenizer) == "2 + 2 ="
    tokenizer.chat_template = "{{ 'think ' if think }}" + STRICT
    assert show_prompt({"prompt": [HI]}, tokenizer, {"think": True}).startswith("think ")


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"prompt": [SYSTEM, HI]}, "the chat template does not take these messages: System role not supported"),
        ({"prompt": [HI, HI]}, "the chat template does not take these messages: Conversation roles must alternate"),
        ({"prompt": [HI], "completion": [HI, HELLO]}, "the chat template does not take these messages: Conversation"),
    ],
)
def test_a_row_that_the_template_does_not_take_is_named(tokenizer, row, problem):
    tokenizer.chat_template = STRICT
    rows = [{"prompt": [HI], "completion": [HELLO], "id": f"id {i}"} for i in range(5)]
    check_chat_template(Dataset.from_list(rows), tokenizer)
    rows[3] |= row
    with pytest.raises(ConfigurationError, match=re.escape(f"Row 3 (id 'id 3'), column 'prompt': {problem}")):
        check_chat_template(Dataset.from_list(rows), tokenizer)
    del rows[3]["id"]
    check_chat_template(Dataset.from_list([{"prompt": "Plain text"}]), tokenizer)


@pytest.mark.parametrize("extra", [{}, {"tool_calls": None}])
def test_one_row_of_each_order_of_roles_is_tried(tokenizer, monkeypatch, extra):
    tried = []
    monkeypatch.setattr(tokenizer, "apply_chat_template", lambda messages, **_: tried.append(messages) or "Hi")
    turns = [[HI], [HI, HELLO, HI], [HI], [HI, HELLO, HI], [HI, HI]]
    rows = [{"prompt": [message | extra for message in prompt], "completion": [HELLO | extra]} for prompt in turns]
    check_chat_template(Dataset.from_list(rows).select([1, 0, 2, 3, 4]), tokenizer)
    assert [len(messages) for messages in tried] == [3, 4, 1, 2, 2, 3]  # each alone, and with its completion


@pytest.mark.parametrize("role", ["system", "developer", "user"])
def test_a_turn_that_the_template_leaves_out_is_named(tokenizer, role):
    tokenizer.chat_template = "{% for m in messages if m.role != '" + role + "' %}{{ m.content | trim }}\n{% endfor %}"
    turns = [{"role": one, "content": f" {one}s words\n"} for one in ("system", "developer", "user")]
    kept = [turn for turn in turns if turn["role"] != role]
    left_out = turns.index(next(turn for turn in turns if turn["role"] == role))
    check_chat_template(Dataset.from_list([{"prompt": kept}]), tokenizer)
    with pytest.raises(ConfigurationError, match=rf"^Row 1, .* leaves out message {left_out} \({role}\)\."):
        check_chat_template(Dataset.from_list([{"prompt": kept}, {"prompt": turns}]), tokenizer)


def test_messages_for_a_tokenizer_without_a_template_are_refused(tokenizer):
    tokenizer.chat_template = None
    for call in (show_prompt, lambda row, tokenizer: check_chat_template(Dataset.from_list([row]), tokenizer)):
        with pytest.raises(ConfigurationError, match="no chat template; with conversational: false prompts are plain"):
            call({"prompt": [HI]}, tokenizer)
    assert show_prompt({"prompt": "Hi"}, tokenizer) == "Hi"
