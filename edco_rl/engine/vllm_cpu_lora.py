"""A repair of vLLM 0.31 for LoRA on a CPU, imported inside vLLM's processes only."""

from typing import Any

import torch
from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU


def apply() -> None:
    """Leave an adapter of the output head out where there is none.

    vLLM adds one to all logits, zeros where no adapter has weights for the head. On a CPU that multiplies a copy of
    the adapter for each row, and it ends the engine at the first request for log-probabilities of a prompt, which has
    more rows than the batch has sequences.
    """
    original = PunicaWrapperCPU.add_lora_logits
    if original.__module__ == __name__:
        return

    def add_lora_logits(
        self: Any, y: torch.Tensor, x: torch.Tensor, a: torch.Tensor, b: torch.Tensor, *args: Any, **kwargs: Any
    ) -> None:
        if b.any():
            original(self, y, x, a, b, *args, **kwargs)

    PunicaWrapperCPU.add_lora_logits = add_lora_logits
