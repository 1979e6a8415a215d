"""Two real servers as one engine, of which one is killed while it is asked, and comes back."""

import os
import signal
import threading
import time

import pytest
import torch
from transformers import AutoModelForCausalLM

from edco_rl import EngineConfig
from edco_rl.engine import Sampling
from edco_rl.engine.launch import open_engine
from edco_rl.engine.server import VLLMServer
from tests.tiny_model import make_tiny_model

from .conftest import TOLERANCE, largest_difference

pytestmark = [pytest.mark.engine, pytest.mark.slow]
PROMPTS = [[1 + number, 2, 3] for number in range(64)]


def wait_until(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_one_of_two_servers_is_killed_and_comes_back(model_path, tmp_path):
    path = make_tiny_model(tmp_path / "model", model_path, hidden_size=128)
    settings = EngineConfig(engine_max_model_len=64, engine_cpu_kv_cache_gib=1, engine_dtype="float32")
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    with (
        VLLMServer(path, settings, tmp_path / "first.log") as first,
        VLLMServer(path, settings, tmp_path / "second.log") as second,
    ):
        connection = open_engine(EngineConfig(engine_url=[first.url, second.url]), path)
        fleet, transport = connection.engine, connection.transport
        transport.connect()

        def push(step):
            for parameter in model.parameters():
                parameter.data += torch.randn_like(parameter) * 0.05
            fleet.again_if_lost(lambda: transport.push(list(model.named_parameters()), step))

        def restore():
            transport.connect()
            transport.push(list(model.named_parameters()), 0)

        def differences():
            return [largest_difference(client, model, PROMPTS[:4]) for client in fleet._serving]

        fleet.restore = restore
        push(1)
        assert len(differences()) == 2 and max(differences()) < TOLERANCE
        answers = []
        asking = threading.Thread(
            target=lambda: answers.extend(
                fleet.generate(PROMPTS, Sampling(48, temperature=0.0, extra={"ignore_eos": True})) for _ in range(4)
            )
        )
        asking.start()
        time.sleep(0.5)
        os.kill(first._process.pid, signal.SIGKILL)
        asking.join(timeout=300)
        assert [[len(group[0].token_ids) for group in groups] for groups in answers] == [[48] * len(PROMPTS)] * 4
        assert fleet.interruptions()[0] == 1 and fleet.url == second.url
        push(2)
        assert len(differences()) == 1 and max(differences()) < TOLERANCE

        first.stop(grace=0)
        first.start()
        wait_until(lambda: fleet.clients[0].condition() == "stale")
        push(3)
        assert len(differences()) == 2 and max(differences()) < TOLERANCE
        assert fleet.weight_version() == transport.pushed and transport.pushed.startswith("3-")
        connection.close()
