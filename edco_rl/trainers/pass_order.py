"""The order in which trainers pass over a training set without a curriculum."""

import numpy as np
import torch

from ..curriculum.pool import IndexArray


def seedable_sampler_order(size: int, seed: int, epoch: int) -> IndexArray:
    """The order of accelerate's seedable random sampler, as `Trainer` uses it, in pass number `epoch`."""
    generator = torch.Generator().manual_seed(seed + epoch)
    return torch.randperm(size, generator=generator).numpy()


def repeat_sampler_order(size: int, seed: int, epoch: int, shuffle: bool | None) -> IndexArray:
    """The order of TRL's `RepeatSampler` in its pass number `epoch`."""
    if not shuffle:
        return np.arange(size)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epoch):
        torch.randperm(size, generator=generator)
    return torch.randperm(size, generator=generator).numpy()
