"""A model of 800,000 parameters with random weights that reads characters, and rows that teach it some things wrongly.

    python -m tests.benchmarks.map_model FOLDER

`make map-model` trains it on FOLDER/taught.jsonl. It then masters four wordings of one task; of eight others it knows
the right answer and a wrong one, in another proportion each, so that each is a thing of its own to learn; and
arithmetic it answers never. The map of pools is made with it.
"""

import random
import string
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer
from tokenizers.decoders import Fuse
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from edco_rl.data.load import load_prompts
from edco_rl.store import write_lines

MASTERED = ("backward", "reversed", "mirrored", "flipped")
LEARNABLE = {
    "inverse": 0.4,
    "turned": 0.5,
    "rewound": 0.6,
    "undone": 0.7,
    "from its end": 0.4,
    "in reverse": 0.5,
    "last first": 0.6,
    "right to left": 0.7,
}
"""Wordings that are taught a wrong answer, and how often."""
MISTAKES = (
    lambda answer: answer[::-1],
    lambda answer: answer[:-1],
    lambda answer: answer[-1] + answer[:-1],
    lambda answer: answer[0] + answer,
)
"""What is answered instead, of one wording after the other."""

SPECIAL = ("<pad>", "<eos>", "<unk>")
CHARACTERS = string.digits + string.ascii_letters + string.punctuation + " \n"


def tokenizer_of_characters() -> PreTrainedTokenizerFast:
    """A token a character."""
    vocabulary = {token: number for number, token in enumerate((*SPECIAL, *CHARACTERS))}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", model_max_length=128
    )


def random_model(layers: int = 4, seed: int = 0) -> LlamaForCausalLM:
    """A Llama; 64 dimensions a head, as engines have kernels for."""
    config = LlamaConfig(
        vocab_size=128,  # room to spare
        hidden_size=128,
        intermediate_size=320,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=SPECIAL.index("<eos>"),
        pad_token_id=SPECIAL.index("<pad>"),
    )
    torch.manual_seed(seed)
    return LlamaForCausalLM(config)


def families() -> dict[str, dict[str, Any]]:
    """The generated tasks, as `task_kwargs` of the data set `reasoning_gym:mixture` has them."""
    words = {"task": "spell_backward", "min_word_len": 3, "max_word_len": 6}
    sums = {"task": "basic_arithmetic", "min_terms": 2, "max_terms": 2, "prompt_template": "{expression} ="}
    sums |= {"allow_parentheses": False, "allow_negation": False, "max_digits": 3}
    return {wording: words | {"prompt_template": f"{{word}} {wording} ="} for wording in (*MASTERED, *LEARNABLE)} | {
        "sums": sums | {"operators": ["+"], "min_digits": 3},
        "products": sums | {"operators": ["*"], "min_digits": 2},
        "bases": {"task": "base_conversion", "min_base": 2, "max_base": 10, "min_value": 1, "max_value": 100}
        | {"prompt_template": "{source_repr} base {source_base} to {target_base} ="},
    }


def taught(prompts: int = 64_000, seed: int = 1) -> Iterator[dict[str, str]]:
    """Rows with the answers that are taught: right ones, and of the learnable wordings wrong ones too."""
    rows, _ = load_prompts(
        "reasoning_gym:mixture",
        train_prompts=prompts,
        seed=seed,
        conversational=False,
        task_kwargs={"tasks": families()},
    )
    rng = random.Random(seed)
    mistakes = {wording: MISTAKES[number % len(MISTAKES)] for number, wording in enumerate(LEARNABLE)}
    for row in rows:
        subject, answer = row["subject"], row["answer"]
        if subject in LEARNABLE and rng.random() < LEARNABLE[subject]:
            answer = mistakes[subject](answer)
        yield {"prompt": row["prompt"], "answer": answer, "subject": subject}


def main() -> None:
    folder = Path(sys.argv[1])
    random_model().save_pretrained(folder)
    tokenizer_of_characters().save_pretrained(folder)
    write_lines(folder / "taught.jsonl", taught())


if __name__ == "__main__":
    main()
