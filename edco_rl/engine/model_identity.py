"""Which model this is: what trainer and engine must agree on before weights go from one to the other."""

from pathlib import Path
from typing import Any

import torch
import xxhash
from safetensors import safe_open

from ..errors import EdcoRLError

# What decides how parameters are used, beside their names and shapes, in the configurations of transformers.
_FIELDS = (
    "model_type",
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "hidden_act",
    "rms_norm_eps",
    "tie_word_embeddings",
    "sliding_window",
)


class OtherModelError(EdcoRLError, ValueError):
    """An engine serves another model than the trainer's."""


def describe(model: str) -> dict[str, Any]:
    """What identifies a model folder or hub id: architecture, and a sample of its weights.

    Reads a row of each tensor, so that it takes milliseconds whatever the size.
    """
    from transformers import PreTrainedConfig

    config, _ = PreTrainedConfig.get_config_dict(model)  # as it is written: no code of the model's is run
    config = config.get("text_config", config)
    rope = config.get("rope_parameters") or {}
    return {
        **{name: config.get(name) for name in _FIELDS},
        "rope_theta": config.get("rope_theta", rope.get("rope_theta")),
        "weights": sample_of_weights(model),
    }


def check_same(trainers: dict[str, Any], engines: dict[str, Any], *, weights: bool) -> None:
    """Refuse an engine with another model than the trainer's.

    Args:
        trainers (`dict[str, Any]`), engines (`dict[str, Any]`):
            What [`describe`] says of either.
        weights (`bool`):
            Whether the checkpoints must be the same as well, rather than their architecture alone.

    Raises:
        OtherModelError: It names what differs.
    """
    for name, ours in trainers.items():
        theirs = engines.get(name)
        if name == "weights":
            if weights and ours != theirs:
                raise OtherModelError(
                    "The engine was started from other weights than the ones the adapter is trained on. Start it from "
                    "the trainer's model, or set engine_transport file."
                )
        elif ours != theirs and None not in (ours, theirs):  # what is not written down is the default
            raise OtherModelError(
                f"The engine serves another model than the trainer's: {name} is {theirs} there and {ours} here."
            )


def sample_of_weights(model: str) -> str | None:
    """A checksum over names, shapes and first rows of a checkpoint's tensors; `None` without safetensors at hand."""
    digest = xxhash.xxh3_128()
    files = _files(model)
    for path in files:
        with safe_open(path, framework="pt", device="cpu") as file:
            for name in sorted(file.keys()):
                tensor = file.get_slice(name)
                digest.update(f"{name} {tensor.get_dtype()} {tensor.get_shape()}\n".encode())
                row = tensor[:1] if tensor.get_shape() else file.get_tensor(name)
                digest.update(row.contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest() if files else None


def _files(model: str) -> list[Path]:
    folder = Path(model).expanduser()
    if not folder.is_dir():
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError

        try:
            folder = Path(snapshot_download(model, allow_patterns=["*.safetensors"], local_files_only=True))
        except LocalEntryNotFoundError:
            return []
    return sorted(folder.glob("*.safetensors"))


def parameter_shapes(model: str, *, trust_remote_code: bool = False) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the parameters a trainer has of a model folder or hub id. No weights are made."""
    import transformers

    config = transformers.AutoConfig.from_pretrained(model, trust_remote_code=trust_remote_code)
    named = getattr(transformers, (config.architectures or [""])[0], None)
    with torch.device("meta"):
        made = (
            transformers.AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
            if named is None
            else named(config)
        )
    return {name: tuple(parameter.shape) for name, parameter in made.named_parameters()}
