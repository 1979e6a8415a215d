"""Random weight files: what an engine is given is what the trainer has sent, or it is refused with what is wrong."""

import os
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from hypothesis import strategies as st

from edco_rl.engine.exchange import ExchangeError, exchange_folder, open_exchange_folder, open_exchanged
from edco_rl.engine.weight_file import WeightsRefusedError, read_weights, write_weights

from .fuzz import search

DTYPES = st.sampled_from([torch.float32, torch.bfloat16, torch.float16])
SHAPES = st.lists(st.integers(0, 4), max_size=3).map(tuple)
MODELS = st.dictionaries(st.text(st.sampled_from("abc.019_"), min_size=1, max_size=8), SHAPES, min_size=1, max_size=5)
# What the trainer itself can get wrong; the checksums are those of what it sends.
MISTAKES = ("none", "missing", "unknown", "renamed", "shape", "dtype", "not finite")
# What can happen to a file on its way, and what else can be named instead.
ACCIDENTS = ("none", "bytes", "cut", "grown", "garbage", "header", "swapped checksums", "no checksum")
NAMES = (
    *("file", "pipe", "link", "hard link", "folder", "device", "traversal", "absolute", "absent", "no text", "deep"),
    "linked folder",
)


@st.composite
def cases(draw):
    return {
        "shapes": draw(MODELS),
        "dtype": draw(DTYPES),
        "seed": draw(st.integers(0, 2**32 - 1)),
        "largest": draw(st.booleans()),
        "mistake": draw(st.sampled_from(("none",) * 6 + MISTAKES)),
        "accident": draw(st.sampled_from(("none",) * 3 + ACCIDENTS)),
        "name": draw(st.sampled_from(("file",) * 30 + NAMES)),
        "noise": draw(st.binary(min_size=1, max_size=40)),
    }


def tensors_of(case):
    random = np.random.default_rng(case["seed"])

    def values(shape):
        if case["largest"]:  # a sum of these is not finite
            return torch.full(shape, torch.finfo(case["dtype"]).max, dtype=case["dtype"])
        return torch.tensor(random.normal(size=shape), dtype=case["dtype"])

    return {name: values(shape) for name, shape in case["shapes"].items()}


def make_mistake(case, tensors):
    """What the trainer sends, and whether it is what the engine expects."""
    sent, mistake = dict(tensors), case["mistake"]
    name = min(sent)
    if mistake == "missing":
        del sent[name]
    elif mistake == "unknown":
        sent[f"{name}.more"] = torch.ones(1, dtype=case["dtype"])
    elif mistake == "renamed":
        sent[f"{name}.other"] = sent.pop(name)
    elif mistake == "shape":
        sent[name] = sent[name].reshape(1, *sent[name].shape)
    elif mistake == "dtype":
        other = torch.float32 if case["dtype"] != torch.float32 else torch.bfloat16
        sent = {key: value.to(other).nan_to_num(posinf=1.0) for key, value in sent.items()}
    elif mistake == "not finite":
        if not sent[name].numel():
            return sent, True
        sent[name] = sent[name].clone()
        worst = [float("nan"), float("inf"), -float("inf")][case["seed"] % 3]
        sent[name].view(-1)[case["seed"] % sent[name].numel()] = worst
    return sent, mistake == "none"


def have_accident(case, content, sums):
    """The file and checksums that arrive."""
    accident, noise, place = case["accident"], case["noise"], case["seed"] % len(content)
    if accident == "bytes":
        content = (content[:place] + noise + content[place + len(noise) :])[: len(content)]
    elif accident == "cut":
        content = content[:place]
    elif accident == "grown":
        content += noise
    elif accident == "garbage":
        content = noise
    elif accident == "header":
        content = case["seed"].to_bytes(8, "little") + content[8:]
    elif accident == "swapped checksums":
        sums = dict(zip(sums, [*list(sums.values())[1:], *list(sums.values())[:1]], strict=True))
    elif accident == "no checksum":
        sums = {}
    return content, sums


def put(case, folder, content):
    """The name that is given to the engine for a file with that content; where it leads is the case's."""
    kind, path = case["name"], folder / "push" / "weights.safetensors"
    if kind == "linked folder":
        (folder.parent / "other").mkdir()
        path.parent.symlink_to(folder.parent / "other")
    else:
        path.parent.mkdir()
    outside = folder.parent / "outside.safetensors"
    target = outside if kind in ("link", "hard link", "traversal", "absolute") else path
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind != "absent":
        target.write_bytes(content)
    if kind == "link":
        path.symlink_to(outside)
    elif kind == "hard link":
        path.hardlink_to(outside)
    odd = {
        "traversal": "../outside.safetensors",
        "absolute": str(outside),
        "no text": 3,
        "deep": f"push/{path.name}/x",
    }
    return odd.get(kind, f"push/{path.name}")


def outcome(case):
    tensors = tensors_of(case)
    sent, right = make_mistake(case, tensors)
    with tempfile.TemporaryDirectory() as parent:
        written = Path(parent) / "written"
        sums = write_weights(written, sent.items(), next(iter(sent.values()), torch.empty(0)).dtype)
        content = written.read_bytes()
        arrived, named = have_accident(case, content, dict(sums))
        folder = exchange_folder(parent)
        os.close(open_exchange_folder(folder))
        name = put(case, folder, arrived)
        messages = f"No file of that name in the exchange folder {folder}."
        try:
            with open_exchanged(folder, name) as path:
                found = read_weights(path, case["shapes"], case["dtype"], named)
        except ExchangeError as error:
            assert case["name"] != "file" and str(error).startswith(messages)
            return "named what is no file"
        except WeightsRefusedError:
            assert not right or arrived != content or named != sums
            return "refused"
    assert case["name"] == "file" and right and named == sums
    assert found.keys() == tensors.keys()
    for key, tensor in tensors.items():
        assert found[key].dtype == tensor.dtype and found[key].shape == tensor.shape
        assert torch.equal(found[key], tensor)
    return "taken" if arrived == content else "taken, with what means the same"


def fuzz(count: int, start: int) -> Counter[str]:
    """Outcomes of so many files."""
    return search(cases(), outcome, count, start)
