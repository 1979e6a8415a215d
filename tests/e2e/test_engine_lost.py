"""A real server that is killed under its trainer, and then the trainer: what goes on, and that nothing is left."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edco_rl.engine.processes import session_of, shared_memory_of
from tests.tiny_model import make_tiny_model

from .conftest import TOLERANCE

pytestmark = pytest.mark.engine

TRAINER = """
import json, sys, torch
from transformers import AutoModelForCausalLM
from edco_rl import EngineConfig
from edco_rl.engine.client import EngineClient
from edco_rl.engine.weights.file import FileTransport
from tests.e2e.conftest import largest_difference
path, log = sys.argv[1:]
config = EngineConfig(engine_max_model_len=64, engine_cpu_kv_cache_gib=1, engine_dtype="float32")
client = EngineClient.open(path, config, rank=0, log_path=log)
model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
for parameter in model.parameters():
    parameter.data += torch.randn_like(parameter) * 0.05
transport = FileTransport(client, config)
def push():
    transport.push(list(model.named_parameters()), 3)
def restore():
    transport.connect()
    push()
transport.connect()
print(json.dumps(["before the push", largest_difference(client, model, [[1, 2, 3]])]), flush=True)
client.restore = restore
client.again_if_lost(push)
leader = client._connection._supervisor.server._process.pid
print(json.dumps(["pushed", largest_difference(client, model, [[1, 2, 3]]), leader]), flush=True)
for line in sys.stdin:
    difference = max(largest_difference(client, model, [[1, 2, 3 + n]] * 8) for n in range(8))
    leader = client._connection._supervisor.server._process.pid
    print(json.dumps(["answered", difference, leader, client.weight_version(), client.interruptions()]), flush=True)
"""


@pytest.mark.slow
def test_a_killed_server_comes_back_with_its_weights_and_a_killed_trainer_leaves_nothing(model_path, tmp_path):
    small_model = make_tiny_model(tmp_path / "model", model_path, hidden_size=128)
    command = [sys.executable, "-c", TRAINER, small_model, str(tmp_path / "engine.log")]
    trainer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def told(word):
        line = trainer.stdout.readline()
        assert line, (tmp_path / "engine.log").read_text()[-3000:]
        found = json.loads(line)
        assert found[0] == word
        return found[1:]

    try:
        [untouched] = told("before the push")
        difference, first = told("pushed")
        assert difference < TOLERANCE < untouched
        family = session_of(first)
        assert {"VLLM::EngineCore", "VLLM::Worker"} <= {process.name() for process in family}
        segments = shared_memory_of(family)
        trainer.stdin.write("again\n")
        trainer.stdin.flush()
        killed = time.monotonic()
        os.kill(first, signal.SIGKILL)
        difference, second, version, [restarts, seconds] = told("answered")
        assert difference < TOLERANCE and second != first and version.startswith("3-") and restarts == 1
        assert 0 < seconds <= time.monotonic() - killed + 5
        assert not session_of(first) and not any(segment.exists() for segment in segments)
        segments = shared_memory_of(session_of(second))
        assert segments and all(segment.exists() for segment in segments)
        trainer.kill()
        trainer.wait()
        deadline = time.monotonic() + 20
        while left := [*session_of(second), *filter(Path.exists, segments)]:
            assert time.monotonic() < deadline, left
            time.sleep(0.1)
    finally:
        trainer.kill()
        trainer.wait()
