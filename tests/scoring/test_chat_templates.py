"""What is scored is what is trained on, token by token: of every trainer, with the chat templates of four families."""

import functools
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import trl.chat_template_utils as trl_templates
from datasets import Dataset, Features, Json, concatenate_datasets
from tokenizers import Regex
from tokenizers.pre_tokenizers import Sequence as PreTokenizers
from tokenizers.pre_tokenizers import Split
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from trl import GRPOConfig, RLOOConfig, SFTConfig

from edco_rl import (
    CurriculumConfig,
    CurriculumDistillationConfig,
    CurriculumDistillationTrainer,
    CurriculumGRPOTrainer,
    CurriculumPPOConfig,
    CurriculumPPOTrainer,
    CurriculumRLOOTrainer,
    CurriculumSFTConfig,
    CurriculumSFTTrainer,
)
from edco_rl.runs.held_out import HeldOut

from ..tokens import tokenize_prompt
from ..trainers.support import ROLLOUTS, TRAINING, length_reward

FOLDER = Path(__file__).parents[1] / "fixtures" / "chat_templates"
# Tokens that end and begin a sequence, that which ends a turn, and others of the template.
FAMILIES = {
    "qwen3": ("<|im_end|>", "<|endoftext|>", "<|im_end|>", ["<|im_start|>"]),
    "llama3": ("<|eot_id|>", "<|begin_of_text|>", "<|eot_id|>", ["<|start_header_id|>", "<|end_header_id|>"]),
    "gemma3": ("<eos>", "<bos>", "<end_of_turn>", ["<start_of_turn>"]),
    "smollm2": ("<|im_end|>", "<|im_start|>", "<|im_end|>", []),
}
QUESTIONS = ["Is 7 odd?", "Which letter follows B?", "Name a colour.", "What is two and two?"]
ANSWERS = ["Yes, it is.", " C\n", "Blue.", "Four"]
NO_THINKING = {"enable_thinking": False}
EMPTY_THOUGHT = "<think>\n\n</think>\n\n"


def user(content):
    return [{"role": "user", "content": content}]


def assistant(content):
    return [{"role": "assistant", "content": content}]


def rows(arguments=None):
    """Questions, one after a turn before; `arguments` are those of each row's own chat template."""
    prompts = [user(question) for question in QUESTIONS]
    prompts[2] = user("Hello!") + assistant("Hello. How can I help?") + prompts[2]
    columns = {"id": list("abcd"), "prompt": prompts, "completion": list(map(assistant, ANSWERS)), "answer": ANSWERS}
    found = Dataset.from_dict(columns)
    return found if arguments is None else found.add_column("chat_template_kwargs", arguments)


@pytest.fixture(scope="module")
def model_of(tiny_model_path, tmp_path_factory):
    """The tiny model with the tokens and the chat template of a family."""

    @functools.cache
    def make(family, template=None):
        path = tmp_path_factory.mktemp(family)
        tokenizer = AutoTokenizer.from_pretrained(tiny_model_path)
        end, begin, end_of_turn, others = FAMILIES[family]
        tokenizer.add_special_tokens({"eos_token": end, "bos_token": begin, "pad_token": end})
        tokenizer.add_tokens([end_of_turn, *others], special_tokens=True)
        tokenizer.add_tokens(["<think>", "</think>"])
        # Breaks of lines are tokens of their own, as in these families' tokenizers: SmolLM2's depend on what follows.
        backend = tokenizer.backend_tokenizer
        if family != "smollm2":
            breaks = Split(Regex(r"[\r\n]+"), "isolated")
            backend.pre_tokenizer = PreTokenizers([breaks, backend.pre_tokenizer])
        tokenizer.chat_template = template or (FOLDER / f"{family}.jinja").read_text()
        tokenizer.save_pretrained(path)
        model = AutoModelForCausalLM.from_pretrained(tiny_model_path)
        model.resize_token_embeddings(len(tokenizer))
        ends = tokenizer.convert_tokens_to_ids([end, end_of_turn])
        model.generation_config = GenerationConfig(eos_token_id=sorted(set(ends)), pad_token_id=ends[0])
        model.save_pretrained(path)
        return str(path)

    return make


class Recorder:
    """Passes requests on to a backend, and keeps their tokens."""

    def __init__(self, backend, asked, given):
        self.backend, self.asked, self.given = backend, asked, given

    def max_model_len(self):
        return None

    def generate(self, prompts, sampling):
        self.asked.extend(map(tuple, prompts))
        return self.backend.generate(prompts, sampling)

    def read(self, prompts, completions, top_logprobs=0):
        self.given.extend((tuple(p), tuple(c)) for p, c in zip(prompts, completions, strict=True))
        return self.backend.read(prompts, completions, top_logprobs)


class Recording:
    """Before a trainer: keeps what is `asked` and `read` to score and evaluate, and what is `trained` on."""

    def __init__(self, *args, **kwargs):
        self.asked, self.read, self.trained = [], [], []
        super().__init__(*args, **kwargs)

    @contextmanager
    def scoring_backend(self):
        with super().scoring_backend() as backend:
            yield Recorder(backend, self.asked, self.read)

    def compute_loss(self, model, inputs, *args, **kwargs):
        self.trained += trained_rows(inputs)
        return super().compute_loss(model, inputs, *args, **kwargs)


def trained_rows(inputs):
    """Prompt and trained tokens of each row of a batch."""
    if "labels" not in inputs:
        parts = [[inputs[f"{part}_ids"], inputs[f"{part}_mask"].bool()] for part in ("prompt", "completion")]
        return [tuple(tuple(ids[row][mask[row]].tolist()) for ids, mask in parts) for row in range(len(parts[0][0]))]
    found = []
    for ids, labels, mask in zip(inputs["input_ids"], inputs["labels"], inputs["attention_mask"], strict=True):
        counted = torch.nonzero(labels[mask.bool()] != -100).flatten()
        first, last = max(int(counted[0]), 1), int(counted[-1]) + 1  # nothing predicts the first token
        found.append((tuple(ids[:first].tolist()), tuple(ids[first:last].tolist())))
    return found


METHODS = {
    "sft": (CurriculumSFTTrainer, CurriculumSFTConfig, TRAINING | {"per_device_train_batch_size": 4}),
    "distillation": (
        CurriculumDistillationTrainer,
        CurriculumDistillationConfig,
        TRAINING | {"per_device_train_batch_size": 4, "max_completion_length": 12, "lmbda": 0.0},
    ),
    "grpo": (CurriculumGRPOTrainer, GRPOConfig, ROLLOUTS),
    "rloo": (CurriculumRLOOTrainer, RLOOConfig, ROLLOUTS),
    "ppo": (
        CurriculumPPOTrainer,
        CurriculumPPOConfig,
        ROLLOUTS | {"num_generations": 1, "gradient_accumulation_steps": 1},
    ),
}


def make(method, path, folder, dataset, strategy="perplexity", tools=None, **settings):
    trainer, config, given = METHODS[method]
    curriculum = {"strategy": strategy} if isinstance(strategy, str) else strategy
    config = SFTConfig if settings.pop("stock", False) else config
    args = config(output_dir=str(folder), **given | {"max_steps": 1} | settings)
    second = {"sft": [], "distillation": [path]}.get(method, [length_of_answer])
    return type("Recorded", (Recording, trainer), {})(
        path,
        *second,
        args=args,
        train_dataset=dataset,
        curriculum=CurriculumConfig(scoring_quick_answer=False, scoring_prefix_tokens=1, **curriculum),
        **{} if tools is None else {"tools": tools},
    )


def length_of_answer(completions, **kwargs):
    return length_reward([completion[0]["content"] for completion in completions])


@pytest.mark.parametrize("family", FAMILIES)
def test_the_templates_here_write_what_their_models_do(model_of, model_path, family):
    tokenizer = AutoTokenizer.from_pretrained(model_of(family))
    theirs = (
        getattr(trl_templates, f"{family}_chat_template", None)
        or AutoTokenizer.from_pretrained(model_path).chat_template
    )
    turns = user("Hello! ") + assistant("Hello.") + user("Is 7\nodd?")
    for messages in (
        turns,
        turns[:1],
        [{"role": "system", "content": "Be brief."}, *turns],
        turns + assistant(" Yes.\n"),
    ):
        for settings in ({}, NO_THINKING, {"enable_thinking": True}):
            for ready in (True, False):
                here, there = (
                    tokenizer.apply_chat_template(
                        messages, chat_template=template, add_generation_prompt=ready, tokenize=False, **settings
                    )
                    for template in (None, theirs)
                )
                assert here == there


# Where the arguments come from, and those that each row has in the end.
ARGUMENTS = {
    "none": ({}, None, [{}] * 4),
    "of all": ({"chat_template_kwargs": NO_THINKING}, None, [NO_THINKING] * 4),
    "of each row": ({}, [NO_THINKING, {"enable_thinking": True}] * 2, [NO_THINKING, {}] * 2),
    "of all and of a row": (
        {"chat_template_kwargs": NO_THINKING},
        [{"enable_thinking": True}, None, {}, {"enable_thinking": None}],
        [{}, NO_THINKING, NO_THINKING, NO_THINKING],
    ),
}
CASES = [("qwen3", name) for name in ARGUMENTS] + [(family, "none") for family in ("llama3", "gemma3", "smollm2")]


@pytest.mark.parametrize(
    ("method", "family", "arguments"),
    [(method, *case) for method in ("sft", "distillation", "grpo") for case in CASES]
    + [(method, "qwen3", "of all and of a row") for method in ("rloo", "ppo")],
)
def test_prompts_scored_and_evaluated_are_those_trained_on(model_of, tmp_path, method, family, arguments):
    settings, own, expected = ARGUMENTS[arguments]
    path, dataset = model_of(family), rows(own)
    trainer = make(method, path, tmp_path, dataset, "edco", **settings)
    trainer.train()
    tokenizer = AutoTokenizer.from_pretrained(path)
    prompts = [
        tuple(tokenize_prompt(prompt, tokenizer, **given))
        for prompt, given in zip(dataset["prompt"], expected, strict=True)
    ]
    assert trainer.asked == prompts
    assert {prompt for prompt, _ in trainer.trained} == set(prompts)
    trainer.asked.clear()
    held_out = HeldOut(dataset, lambda completions, **kwargs: [0.0] * len(completions))
    held_out.measure(trainer)
    assert trainer.asked == prompts


@pytest.mark.parametrize(("family", "arguments"), CASES)
@pytest.mark.parametrize("method", ["sft", "distillation"])
def test_references_scored_are_the_tokens_trained_on(model_of, tmp_path, method, family, arguments):
    settings, own, expected = ARGUMENTS[arguments]
    path = model_of(family)
    trainer = make(method, path, tmp_path, rows(own), **settings)
    trainer.train()
    assert len(trainer.read) == 4 and sorted(trainer.read) == sorted(trainer.trained)
    tokenizer = AutoTokenizer.from_pretrained(path)
    end = FAMILIES[family][2] + "\n" * (method == "sft" and family != "llama3")
    for (_, reference), answer, given in zip(trainer.read, ANSWERS, expected, strict=True):
        thought = EMPTY_THOUGHT * (family == "qwen3" and not given)
        written = {"llama3": answer.strip(), "gemma3": answer.strip()}.get(family, answer)
        assert tokenizer.decode(reference) == thought + written + end


def test_the_difficulty_of_prompts_is_that_of_the_tokens_trained_on(model_of, tmp_path):
    settings = {"difficulty_rankings": ["rouge_l", "cross_entropy"], "chat_template_kwargs": NO_THINKING}
    by_difficulty = {"strategy": "easy_to_hard", "strategy_kwargs": {"column": "difficulty"}}
    trainer = make("distillation", model_of("qwen3"), tmp_path, rows(), by_difficulty, **settings)
    trainer.train()
    assert sorted(trainer.read) == sorted(trainer.trained)
    assert sorted(trainer.asked) == sorted(prompt for prompt, _ in trainer.trained)


@pytest.mark.parametrize("stock", [False, True])
@pytest.mark.parametrize("messages", [False, True])
def test_sft_through_the_template_trl_trains_with(model_of, tmp_path, stock, messages):
    """With assistant_only_loss TRL takes another template than the tokenizer's, and the loss counts what it marks."""
    dataset = rows([NO_THINKING] * 4) if stock else rows()
    if messages:
        whole = [row["prompt"] + row["completion"] for row in dataset]
        dataset = dataset.remove_columns(["prompt", "completion"]).add_column("messages", whole)
    settings = {"stock": True} if stock else {"chat_template_kwargs": NO_THINKING}
    path = model_of("qwen3", trl_templates.qwen3_chat_template)
    trainer = make("sft", path, tmp_path, dataset, assistant_only_loss=True, **settings)
    trainer.train()
    for (prompt, reference), (before, trained) in zip(sorted(trainer.read), sorted(trainer.trained), strict=True):
        assert prompt + reference == before + trained
        if not messages:
            assert reference == trained


@pytest.mark.parametrize("cut", [{}, {"max_length": 48}, {"max_length": 48, "truncation_mode": "keep_end"}])
def test_sft_with_another_template_and_rows_that_are_cut(model_of, tmp_path, cut):
    template = str(FOLDER / "qwen3.jinja")
    dataset = rows().map(lambda row: {"completion": assistant(row["answer"] + " Why it is so: " + "one two " * 20)})
    trainer = make("sft", model_of("smollm2"), tmp_path, dataset, chat_template_path=template, **cut)
    trainer.train()
    assert len(trainer.read) == 4 and sorted(trainer.read) == sorted(trainer.trained)
    assert all(len(prompt + reference) <= cut.get("max_length", 999) for prompt, reference in trainer.read)


def test_sft_on_messages_reads_all_that_is_trained_on(model_of, tmp_path):
    whole = [row["prompt"] + row["completion"] for row in rows()]
    dataset = Dataset.from_dict({"messages": whole})
    trainer = make("sft", model_of("gemma3"), tmp_path, dataset)
    trainer.train()
    assert sorted(sum(row, ()) for row in trainer.read) == sorted(sum(row, ()) for row in trainer.trained)


def test_sft_on_plain_text_whose_tokens_join(model_of, tmp_path):
    """The space at the end of a prompt becomes part of the answer's first token."""
    dataset = Dataset.from_dict({"prompt": [f"Question: {q}\nAnswer: " for q in QUESTIONS], "completion": ANSWERS})
    read, asked = (make("sft", model_of("smollm2"), tmp_path, dataset, name) for name in ("perplexity", "edco"))
    for trainer in (read, asked):
        trainer.train()
    assert sorted(read.read) == sorted(read.trained)
    assert sorted(asked.asked) == sorted(prompt for prompt, _ in asked.trained)
    assert asked.asked[0] != tuple(tokenize_prompt(dataset["prompt"][0], asked.processing_class))


def test_sft_on_rows_with_tools(model_of, tmp_path):
    tool = {"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": {}}}
    tools = Dataset.from_dict({"tools": [[tool], None, [], [tool]]}, features=Features({"tools": Json()}))
    dataset = concatenate_datasets([rows(), tools], axis=1)
    trainer = make("sft", model_of("qwen3", trl_templates.qwen3_chat_template), tmp_path, dataset)
    trainer.train()
    assert sorted(trainer.read) == sorted(trainer.trained)
    assert "add" in trainer.processing_class.decode(trainer.read[0][0])


def test_rows_that_fill_up_a_batch_keep_their_arguments(model_of, tmp_path):
    """The reward is the same for all, so that the gate drops every group."""
    path, dataset = model_of("qwen3"), rows([NO_THINKING, {"enable_thinking": True}] * 2)
    gated = {"strategy": "random", "gates": ["equal_rewards"], "gate_max_refills": 3}
    settings = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 1, "max_steps": 2}
    trainer = make("grpo", path, tmp_path, dataset, gated, **settings)
    trainer.reward_funcs[0] = lambda completions, **kwargs: [0.0] * len(completions)
    trainer.train()
    tokenizer = AutoTokenizer.from_pretrained(path)
    expected = {
        tuple(tokenize_prompt(row["prompt"], tokenizer, **row["chat_template_kwargs"])) for row in dataset.to_list()
    }
    assert max(entry["curriculum/groups_refilled"] for entry in trainer.state.log_history[:2]) > 0
    assert {prompt for prompt, _ in trainer.trained} <= expected


def test_rollouts_are_scored_with_the_tools_they_have(model_of, tmp_path):
    def add(a: int, b: int) -> int:
        """
        Adds two numbers.

        Args:
            a: The one.
            b: The other.
        """
        return a + b

    path = model_of("qwen3", trl_templates.qwen3_chat_template)
    trainer = make("grpo", path, tmp_path, rows(), "edco", tools=[add], chat_template_kwargs=NO_THINKING)
    trainer.train()
    assert set(trainer.asked) == {prompt for prompt, _ in trainer.trained}
    assert all("Adds two numbers." in trainer.processing_class.decode(prompt) for prompt in trainer.asked)
