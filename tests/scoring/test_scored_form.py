"""The form in which prompts are scored, as token ids; prompts that are trained on stay as they are."""

import pytest
from transformers import AutoTokenizer

from edco_rl.audit.candidates import EDCO_RELEASED
from edco_rl.config import EstimatorConfig
from edco_rl.data.prompts import with_system_prompt
from edco_rl.data.tokens import RowTokenizer
from edco_rl.scoring import RowScorer

QUESTION = [{"role": "user", "content": "What is 5G?"}]
REASON = "Reason in a few sentences. Then answer."
QUICK = "Say the answer at once."


@pytest.fixture(scope="module")
def tokenizer(tiny_model_path):
    return AutoTokenizer.from_pretrained(tiny_model_path)


def scored(tokenizer, prompt, **settings):
    config = EstimatorConfig(**{"scoring_quick_answer_instruction": QUICK} | settings)
    [ids] = RowScorer(RowTokenizer(tokenizer), config).encode([{"prompt": prompt}]).prompts
    return ids


def templated(tokenizer, *messages):
    return tokenizer.apply_chat_template(
        [{"role": role, "content": content} for role, content in messages],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
    )["input_ids"]


@pytest.mark.parametrize(
    ("place", "content"), [("after", f"What is 5G?\n\n{QUICK}"), ("before", f"{QUICK}\n\nWhat is 5G?")]
)
def test_the_quick_answer_stands_after_or_before_the_question(tokenizer, place, content):
    found = scored(tokenizer, QUESTION, scoring_quick_answer_place=place)
    assert found == templated(tokenizer, ("user", content))


def test_the_quick_answer_stands_before_plain_text_with_a_cue(tokenizer):
    found = scored(tokenizer, "Question: What is 5G?\nAnswer:", scoring_quick_answer_place="before")
    assert found == tokenizer(f"{QUICK}\n\nQuestion: What is 5G?\nAnswer:")["input_ids"]


def test_without_the_chat_template_the_users_last_message_is_scored_as_text(tokenizer):
    turns = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}, *QUESTION]
    prompt = [{"role": "system", "content": "You are a telecom expert."}, *turns]
    found = scored(tokenizer, prompt, scoring_chat_template=False, scoring_quick_answer_place="before")
    assert found == tokenizer(f"{QUICK}\n\nWhat is 5G?")["input_ids"]
    plain = scored(tokenizer, prompt, scoring_chat_template=False, scoring_quick_answer=False)
    assert plain == tokenizer("What is 5G?")["input_ids"]


def test_the_quick_answer_takes_the_place_of_the_runs_system_prompt(tokenizer):
    config = EstimatorConfig(scoring_quick_answer_instruction=QUICK).for_prompts_with(REASON)
    assert config.scoring_quick_answer_replaces == REASON
    scorer = RowScorer(RowTokenizer(tokenizer), config)
    own = [{"role": "system", "content": "You are a telecom expert."}, *QUESTION]
    rows = [{"prompt": with_system_prompt(prompt, REASON)} for prompt in (QUESTION, "What is 5G?", own)]
    conversational, text, with_own = scorer.encode(rows).prompts
    quick = ("user", f"What is 5G?\n\n{QUICK}")
    assert conversational == templated(tokenizer, quick)
    assert text == tokenizer(f"What is 5G?\n{QUICK}\n")["input_ids"]
    # A system message of the row's own belongs to the question.
    assert with_own == templated(tokenizer, ("system", own[0]["content"]), quick)


@pytest.mark.parametrize(
    "settings",
    [{"scoring_quick_answer_replaces": ""}, {"scoring_quick_answer": False}],
    ids=["kept", "no quick answer"],
)
def test_the_system_prompt_stays_where_nothing_takes_its_place(tokenizer, settings):
    config = EstimatorConfig(scoring_quick_answer_instruction=QUICK, **settings).for_prompts_with(REASON)
    [ids] = (
        RowScorer(RowTokenizer(tokenizer), config).encode([{"prompt": with_system_prompt(QUESTION, REASON)}]).prompts
    )
    quick = f"\n\n{QUICK}" * config.scoring_quick_answer
    assert ids == templated(tokenizer, ("system", REASON), ("user", f"What is 5G?{quick}"))


def test_the_prompt_edcos_code_scores_is_raw_text_behind_its_instruction(tokenizer):
    prompt = with_system_prompt(QUESTION, REASON)
    instruction = EDCO_RELEASED["scoring_quick_answer_instruction"]
    assert scored(tokenizer, prompt, **EDCO_RELEASED) == tokenizer(f"{instruction}\n\nWhat is 5G?")["input_ids"]
