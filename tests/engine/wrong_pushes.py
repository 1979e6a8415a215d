"""Pushes that an engine must not take: wrong weights, and files that are none of the exchange folder's."""

import os
import re
import tempfile
from pathlib import Path

import torch

from edco_rl.engine import EngineError


def wrong_weights(right):
    """Weights a model does not have, by what is said of them."""
    names = list(right)
    some = right[names[3]].clone()
    some.view(-1)[5] = float("nan")
    part = right[names[3]][:1]
    shapes = [re.escape(str(tuple(tensor.shape))) for tensor in (part, right[names[3]])]
    half = dict(list(right.items())[: len(names) // 2])
    missing = {len(weights): weights for weights in (half, {names[0]: right[names[0]]}, {})}
    return {
        **{
            f"misses parameters of the model: .* and {len(names) - count - 3} more": weights
            for count, weights in missing.items()
        },
        f"{names[3]} has values that are not finite": right | {names[3]: some},
        f"{names[3]} has shape {shapes[0]}; the model's has {shapes[1]}": right | {names[3]: part},
        "has parameters the model has not: model.layers.30.norm.weight": right
        | {"model.layers.30.norm.weight": torch.ones(3)},
    }


def push_foreign_files(client, folder):
    """Name pipes, links, folders, and paths out of the exchange folder in pushes; what was answered, each once."""
    outside, answers = folder.parent / f"edco_rl_outside-{os.getpid()}.safetensors", set()
    makers = (os.mkfifo, os.mkdir, lambda path: os.symlink(outside, path), lambda path: os.link(outside, path))
    try:
        outside.touch(mode=0o600)
        for make in makers:
            with tempfile.TemporaryDirectory(dir=folder) as own:
                push, inside = Path(own).name, Path(own) / "weights.safetensors"
                make(inside)
                names = [
                    f"{push}/{inside.name}",
                    str(inside),
                    str(outside),
                    f"../{outside.name}",
                    "../absent.safetensors",
                ]
                for name in [*names, f"{push}/../../{outside.name}", "/etc/passwd", f"{push}/absent.safetensors"]:
                    client.start_weight_update()
                    try:
                        client.update_weights({"file": name, "checksums": {}})
                    except EngineError as refused:
                        answers.add(str(refused))
                    else:
                        answers.add(f"{name} was taken")
    finally:
        outside.unlink()
    return answers
