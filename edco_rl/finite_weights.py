"""Weights that are not finite, or too large to compute with, are neither pushed to an engine nor saved."""

from collections.abc import Iterable
from typing import Any

import torch
from accelerate.utils import gather_object

from .errors import EdcoRLError


class NotFiniteError(EdcoRLError, ArithmeticError):
    """A number that is not finite, and that training cannot go around."""


def check_finite_weights(
    modules: Iterable[Any], step: int, consequence: str, *, frozen: bool = False, gather: bool = True
) -> None:
    """Refuse weights that are not finite or whose squares are not: each rank looks at what it holds of sharded ones.

    It reads the weights once: 135M parameters take 0.06 s on one core.

    Args:
        modules (`Iterable[torch.nn.Module]`):
            Whose weights.
        step (`int`):
            Optimizer step they were made at, for the message.
        consequence (`str`):
            What is not done with them, for the message.
        frozen (`bool`, *optional*, defaults to `False`):
            Whether to look at weights that are not trained as well, which cannot have changed.
        gather (`bool`, *optional*, defaults to `True`):
            Whether all ranks are told what one finds, which makes it a collective.

    Raises:
        NotFiniteError: It names the first of them.
    """
    found = [
        (f"{name} ({type(module).__name__})", extremes)
        for module in modules
        for name, parameter in module.named_parameters()
        if (frozen or parameter.requires_grad) and (extremes := _extremes(parameter)) is not None
    ]
    wrong = []
    if found:  # looked at together: on a GPU it is waited for once
        device = found[0][1].device
        finite = torch.stack([extremes.to(device) for _, extremes in found]).square().isfinite().all(dim=1)
        wrong = [name for (name, _), right in zip(found, finite.tolist(), strict=True) if not right]
    wrong = gather_object(wrong) if gather else wrong
    if wrong:
        raise NotFiniteError(
            f"After optimizer step {step} {len(wrong)} of the model's tensors hold values that are not finite, or too "
            f"large to compute with, the first is {wrong[0]}: {consequence}."
        )


@torch.no_grad()
def _extremes(parameter: torch.Tensor) -> torch.Tensor | None:
    """Least and largest value, shape (2,), of what this process holds. `None` where there is nothing to look at."""
    shard = getattr(parameter, "ds_tensor", parameter)  # ZeRO-3
    shard = shard.to_local() if hasattr(shard, "to_local") else shard  # FSDP
    if not shard.is_floating_point() or not shard.numel():  # the first is quantized
        return None
    if shard.element_size() == 1:
        shard = shard.float()
    # They are NaN where any value is, and take a tenth of the time of isfinite on a CPU. What a step too large leaves
    # may be finite, and nothing that is computed with it: norms and products overflow.
    return torch.stack(torch.aminmax(shard)).float()
