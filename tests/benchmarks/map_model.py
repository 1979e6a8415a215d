"""A model of 800,000 parameters with random weights that reads characters, for pools on which runs take seconds.

    python -m tests.benchmarks.map_model FOLDER

`make map-model` trains it on the families of recipes/benchmark/map/model.yaml, until it masters some of them, answers
some of them now and then, and others never. The map of pools is made with it.
"""

import string
import sys

import torch
from tokenizers import Regex, Tokenizer
from tokenizers.decoders import Fuse
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SPECIAL = ("<pad>", "<eos>", "<unk>")
CHARACTERS = string.digits + string.ascii_letters + string.punctuation + " "


def tokenizer_of_characters() -> PreTrainedTokenizerFast:
    """A token a character."""
    vocabulary = {token: number for number, token in enumerate((*SPECIAL, *CHARACTERS))}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Split(Regex("."), "isolated")
    tokenizer.decoder = Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", model_max_length=128
    )


def random_model(seed: int = 0) -> LlamaForCausalLM:
    """A Llama of four layers; 64 dimensions a head, as engines have kernels for."""
    config = LlamaConfig(
        vocab_size=128,  # room to spare
        hidden_size=128,
        intermediate_size=320,
        num_hidden_layers=4,
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


if __name__ == "__main__":
    random_model().save_pretrained(sys.argv[1])
    tokenizer_of_characters().save_pretrained(sys.argv[1])
