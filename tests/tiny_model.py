"""A model that trains in milliseconds: a Llama of two layers and random weights, with a real tokenizer."""

import json
from pathlib import Path


def make_tiny_model(path: Path, tokenizer: str, *, hidden_size: int = 32, vocabulary: int = 49152) -> str:
    """Save one with the first tokens of SmolLM2's tokenizer.

    vLLM's CPU kernels take none with heads as small as the default's: a `hidden_size` of 128 is enough for them.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden_size,
        intermediate_size=2 * hidden_size,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
    )
    LlamaForCausalLM(config).save_pretrained(path)
    _save_short_tokenizer(tokenizer, path, vocabulary)
    return str(path)


def _save_short_tokenizer(name: str, path: Path, vocabulary: int) -> None:
    """The tokenizer without the merges that make its later tokens; read in a tenth of the time."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(name)
    tokenizer.save_pretrained(path)
    whole = json.loads(tokenizer.backend_tokenizer.to_str())
    model = whole["model"]
    model["vocab"] = {token: number for token, number in model["vocab"].items() if number < vocabulary}
    model["merges"] = [pair for pair in model["merges"] if "".join(pair) in model["vocab"]]
    (path / "tokenizer.json").write_text(json.dumps(whole))
