"""How much memory a run will take, from a model's configuration alone: no weights are read."""

from dataclasses import dataclass
from typing import Any

import torch
from peft import get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

GIB = 2**30
# Numbers of the parameters' own type that an optimizer keeps for each of them.
_STATES = {"adamw_torch": 2, "adamw_torch_fused": 2, "adamw_anyprecision": 2, "sgd": 0, "adagrad": 1}


@dataclass(frozen=True)
class Size:
    """A model's size.

    Args:
        parameters (`int`), bytes (`int`):
            Of the whole model, adapter included.
        trained (`int`), trained_bytes (`int`):
            Of what the optimizer changes.
        vocabulary (`int`):
            Width of its output.
    """

    parameters: int
    bytes: int
    trained: int
    trained_bytes: int
    vocabulary: int


# By all that a size depends on: building a large model takes seconds, even an empty one.
_KNOWN: dict[tuple[str | None, ...], Size] = {}


def size_of(name: str, *, revision: str | None = None, dtype: str | None = None, peft_config: Any = None) -> Size:
    """Size of a model, built without weights.

    Args:
        name (`str`):
            Model folder or hub id, of which the configuration is read.
        revision (`str`, *optional*):
            Its revision.
        dtype (`str`, *optional*):
            As of `from_pretrained`; `"auto"` and `None` take the configuration's.
        peft_config (`peft.PeftConfig`, *optional*):
            An adapter, which is then all that is trained.

    Raises:
        OSError, ValueError: There is no such configuration, or it is not one of a language model.
    """
    key = (name, revision, dtype, None if peft_config is None else repr(peft_config))
    if key not in _KNOWN:
        _KNOWN[key] = _measure(_empty(name, revision, dtype), peft_config)
    return _KNOWN[key]


def _empty(name: str, revision: str | None, dtype: str | None) -> Any:
    config = AutoConfig.from_pretrained(name, revision=revision)
    own = dtype in (None, "auto")
    wanted = (getattr(config, "dtype", None) or torch.float32) if own else getattr(torch, dtype or "")
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, dtype=wanted)


def _measure(model: Any, peft_config: Any) -> Size:
    if peft_config is not None:
        model = get_peft_model(model, peft_config, low_cpu_mem_usage=True)
    every = list(model.parameters())
    trained = [parameter for parameter in every if parameter.requires_grad]
    return Size(
        sum(parameter.numel() for parameter in every),
        sum(parameter.nbytes for parameter in every),
        sum(parameter.numel() for parameter in trained),
        sum(parameter.nbytes for parameter in trained),
        model.config.get_text_config().vocab_size,
    )


def training_memory(policy: Size, others: dict[str, Size], *, optimizer: str, logits: int) -> dict[str, int | None]:
    """Bytes that training takes on a device, without activations and without sharding, by what takes them.

    Args:
        policy ([`Size`]):
            The model that is trained.
        others (`dict[str, Size]`):
            Models beside it, such as a teacher, that are not trained.
        optimizer (`str`):
            Its name, as `optim` of the trainer's settings; of one that is not known the value is `None`.
        logits (`int`):
            Rows of logits that are held at a time, at most.
    """
    states = _STATES.get(optimizer)
    return {
        "weights of the policy": policy.bytes,
        **{f"weights of the {name}": size.bytes for name, size in others.items()},
        "gradients": policy.trained_bytes,
        f"optimizer ({optimizer})": None if states is None else states * policy.trained_bytes,
        "logits of a micro-batch, at most, in float32": 4 * logits * policy.vocabulary,
    }
