"""Pushes to a real server that it must not take, and trainers that must not use what it serves."""

import contextlib
import re
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from edco_rl import EngineConfig
from edco_rl.engine import EngineError
from edco_rl.engine.client import EngineClient
from edco_rl.engine.exchange import exchange_folder
from edco_rl.engine.weights.file import FileTransport
from tests.e2e.conftest import TOLERANCE, largest_difference
from tests.engine.wrong_pushes import push_foreign_files, wrong_weights

from .answers import Proxy, train
from .fault import Fault, expect
from .place import Place, given
from .runs import prompts_of

_PROMPTS = [[1, 2, 3], [40, 50, 60, 70]]
_WRONG = ("half of the tensors", "one tensor", "no tensor", "NaN", "a wrong shape", "a tensor it does not have")


@contextlib.contextmanager
def _pushing(place: Place) -> Iterator[tuple[Any, Any, FileTransport]]:
    """A client of the server, a model other than it was started with, and a transport that has pushed that."""
    config = EngineConfig(engine_url=place.server.url, engine_transport_dir=str(place.exchange))
    with contextlib.closing(EngineClient(place.server.url)) as client:
        model = AutoModelForCausalLM.from_pretrained(place.served_model, dtype=torch.float32).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.05)
        transport = FileTransport(client, config)
        transport.connect()
        untouched = largest_difference(client, model, _PROMPTS)
        transport.push(list(model.named_parameters()), 1)
        expect(largest_difference(client, model, _PROMPTS) < TOLERANCE < untouched, "the right push was not taken")
        yield client, model, transport


def _wrong(number: int, place: Place) -> str:
    with _pushing(place) as (client, model, transport):
        right = {name: parameter.detach() for name, parameter in model.named_parameters()}
        message, wrong = list(wrong_weights(right).items())[number]
        try:
            transport.push(list(wrong.items()), 2)
        except EngineError as error:
            expect(re.search(message, str(error)), f"refused with {error}")
            seen = str(error)
        else:
            expect(False, "it was taken")
        transport.verify()
        difference = largest_difference(client, model, _PROMPTS)
        expect(difference < TOLERANCE, f"{difference:.3f} nats off afterwards")
        transport.push(list(right.items()), 3)
    return f"refused: {seen[-120:]!r}; the last weights served, to {difference:.0e} nats"


def _foreign(place: Place) -> str:
    with _pushing(place) as (client, model, transport):
        answers = push_foreign_files(client, exchange_folder(place.exchange))
        expect(len(answers) == 1 and "No file of that name" in min(answers), f"answers {answers}")
        transport.connect()
        difference = largest_difference(client, model, _PROMPTS)
        expect(difference < TOLERANCE, f"{difference:.3f} nats off afterwards")
    return "32 requests refused in the same words"


def _two_trainers(place: Place) -> str:
    changes = {"max_steps": 100, "save_strategy": "no", "reward_funcs": [given("fair")]}
    runs = [train(place, place.server.url, **changes) for _ in range(2)]
    runs[0].wait_for(lambda: any(run.look() for run in runs), "one that stops")
    stopped, other = sorted(runs, key=lambda run: not run.look())
    seen = stopped.expect(1, "Is another trainer pushing to the same engine")
    return f"one after {len(prompts_of(stopped.folder))} steps: {seen}; the other: exit {other.wait()}"


def _another_model(place: Place) -> str:
    run = train(place, place.server.url, model_name_or_path=place.model)
    return run.expect(1, "serves another model than the trainer's: hidden_size is 128 there and 32 here")


def _first_weights_again(place: Place) -> str:
    with Proxy(place) as proxy:
        run = train(place, proxy.url, max_steps=30)
        run.wait_for_step(2)
        proxy.have(["weights"])
        return run.expect(1, "version default after version .* was it started again")


def faults() -> Iterator[Fault]:
    """Those of this room."""
    for number, what in enumerate(_WRONG):
        yield Fault(
            f"weights.wrong_{number}",
            f"a push of {what}",
            "refused by name before a parameter changes; a right one is taken afterwards",
            partial(_wrong, number),
        )
    yield Fault(
        "weights.foreign_files",
        "pipes, links, folders and paths out of the exchange folder named in pushes",
        "all refused in the same words",
        _foreign,
    )
    stops = "exit 1 before a rollout of other weights is used"
    yield Fault("weights.two_trainers", "a second trainer pushes to the server of a first", stops, _two_trainers)
    yield Fault("weights.another_model", "a server of another model", stops, _another_model)
    yield Fault("weights.first_again", "a server with its first weights again", stops, _first_weights_again)
