"""How a transformers model turns hidden states into logits, for a loss that applies its LM head itself."""

from dataclasses import dataclass
from typing import Any

import torch
from torch.distributed.tensor import DTensor
from transformers import AutoConfig


@dataclass(frozen=True)
class Head:
    """How hidden states become logits: softcap tanh(scale (h weight^T + bias) / softcap).

    Args:
        weight (`torch.Tensor`):
            Shape (V, H).
        bias (`torch.Tensor`, *optional*):
            Shape (V,).
        scale (`float`, *optional*, defaults to `1.0`):
            Factor of the logits.
        softcap (`float`, *optional*):
            Bound of the logits; by default there is none.
    """

    weight: torch.Tensor
    bias: torch.Tensor | None = None
    scale: float = 1.0
    softcap: float | None = None

    @classmethod
    def of(cls, model: Any) -> "Head":
        """The head of an unwrapped transformers model, gathered where FSDP2 shards it."""
        linear, config = model.get_output_embeddings(), model.config.get_text_config()
        weight, bias = linear.weight, linear.bias
        if isinstance(weight, DTensor):
            weight, bias = weight.full_tensor(), None if bias is None else bias.full_tensor()
        return cls(weight, bias, _logit_scale(config), getattr(config, "final_logit_softcapping", None))

    def finish(self, projected: torch.Tensor) -> torch.Tensor:
        """Logits from the projection of hidden states."""
        logits = projected if self.scale == 1.0 else projected * self.scale
        return logits if self.softcap is None else self.softcap * torch.tanh(logits / self.softcap)


def vocabulary_size(model: Any, revision: str | None, *, trust_remote_code: bool) -> int:
    """Width of a model's output distribution, read from its settings alone.

    Args:
        model (`str` or `PreTrainedModel`):
            The model, or its folder or hub id.
        revision (`str`, *optional*), trust_remote_code (`bool`):
            As of `AutoConfig.from_pretrained`.
    """
    if isinstance(model, str):
        config = AutoConfig.from_pretrained(model, revision=revision, trust_remote_code=trust_remote_code)
    else:
        config = model.config
    return config.get_text_config().vocab_size


def _logit_scale(config: Any) -> float:
    """Factor of the logits, under the name the architecture has for it (as in TRL's `DistillationTrainer`)."""
    for name in ("logit_scale", "output_multiplier", "lm_head_multiplier"):
        if getattr(config, name, None) is not None:
            return getattr(config, name)
    scaling = getattr(config, "logits_scaling", None)
    if scaling is None:
        return 1.0
    return scaling if config.model_type == "hyperclovax" else 1 / scaling
