"""What can be altered in a checkpoint of step 2, and what a trainer says that is to resume from it."""

import json

import torch
from safetensors.torch import load_file, save_file

from edco_rl.store import read_state, write_state


def remove(path):
    path.unlink()


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def with_torch(change):
    def alter(path):
        state = torch.load(path, weights_only=False)  # states of NumPy's generator are in it, too
        change(state)
        torch.save(state, path)

    return alter


def not_a_number(path):
    tensors = load_file(path)
    next(iter(tensors.values())).view(-1)[0] = torch.nan
    save_file(tensors, path, {"format": "pt"})


def with_json(*keys, value):
    def alter(path):
        whole = part = json.loads(path.read_text())
        for key in keys[:-1]:
            part = part[key]
        part[keys[-1]] = value
        path.write_text(json.dumps(whole))

    return alter


def with_state(*keys, value):
    def alter(path):
        whole = part = read_state(path.with_suffix(".json"))
        for key in keys[:-1]:
            part = part[key]
        part[keys[-1]] = value
        write_state(path.with_suffix(".json"), whole)

    return alter


ALTERATIONS = [
    ("optimizer.pt", remove, "has no optimizer.pt"),
    ("optimizer.pt", cut, "its optimizer or learning-rate schedule cannot be read"),
    ("optimizer.pt", with_torch(lambda s: s["state"][0]["exp_avg"].fill_(torch.inf)), "exp_avg must hold finite"),
    ("optimizer.pt", with_torch(lambda s: s["state"][0].update(exp_avg=torch.ones(3))), "exp_avg is not of shape"),
    ("scheduler.pt", with_torch(lambda s: s.update(last_epoch=10**9)), "schedule is at step 1000000000 of 2"),
    ("rng_state.pth", remove, "has no rng_state.pth"),
    ("rng_state.pth", cut, "its random state cannot be read"),
    ("model.safetensors", cut, "its model cannot be read"),
    ("model.safetensors", not_a_number, "numbers that are not finite"),
    ("curriculum", with_state("step", value=1), "step is 1, and the rest of the checkpoint is of step 2"),
    ("curriculum", with_state("sampler", "uses_left", value=10**9), "sampler.uses_left must be a whole number"),
    (
        "curriculum",
        with_state("curriculum", "visits", 1, value=-3),
        r"curriculum\.visits\[1\] must be a whole number from 0 to 1073741824; got -3",
    ),
    ("curriculum", with_state("curriculum", "renewed_at", value=None), "renewed_at is null, and 2 optimizer steps"),
    ("curriculum.json", with_json("step", value=1), "curriculum.arrays does not belong to"),
    ("curriculum.arrays", cut, "curriculum.json with curriculum.arrays cannot be read"),
    ("curriculum.arrays", remove, "curriculum.json with curriculum.arrays cannot be read"),
    ("trainer_state.json", remove, "trainer_state.json is missing"),
    ("trainer_state.json", with_json("global_step", value=-1), "global_step cannot be '-1'"),
    ("trainer_state.json", with_json("log_history", value=7), "log_history cannot be '7'"),
]
"""File, what is done to it, and what is said of it where the checkpoint's manifest is made anew."""
