"""Engines that die, hang and come back: a stand-in for vLLM in its own processes; tests/e2e kills the real one."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import psutil
import pytest
import requests

from edco_rl import EngineConfig
from edco_rl.engine import EngineError, EngineLostError, Sampling
from edco_rl.engine import client as client_module
from edco_rl.engine.client import EngineClient
from edco_rl.engine.processes import session_of
from edco_rl.engine.server import free_port
from edco_rl.engine.supervisor import Supervisor, health_of

from .own_server import StandInServer, start_stand_in
from .stand_in_server import TOP


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    monkeypatch.setattr(Supervisor, "interval", 0.05)
    monkeypatch.setattr(Supervisor, "patience", 0.5)
    monkeypatch.setattr(Supervisor, "moment", 2.0)
    monkeypatch.setattr(client_module, "VLLMServer", StandInServer)


@pytest.fixture
def started(tmp_path):
    """Starts clients with a server of their own."""
    clients = []

    def start(**settings):
        config = EngineConfig(**{"engine_hang_timeout": 30.0, **settings})
        clients.append(EngineClient.open("stand-in", config, rank=0, log_path=tmp_path / "engine.log"))
        return clients[-1]

    yield start
    for client in clients:
        client.close()


@pytest.fixture
def others(tmp_path):
    """Starts a server that is not the client's."""
    processes = []

    def start(port):
        processes.append(start_stand_in(port))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.wait()


def server_of(client):
    return client._connection._supervisor.server


def pid_of(client):
    return server_of(client)._process.pid


def fault(client, *faults):
    requests.post(f"{client.url}/fault", json=faults, timeout=5).raise_for_status()


def ask(client):
    [[completion]] = client.generate([[1, 2, 3]], Sampling(2, top_logprobs=3))
    np.testing.assert_allclose(completion.top_logprobs, [TOP, TOP])
    return completion.token_ids


def pushes(client, version="5"):
    """Has weights pushed, also after a restart; the versions that were."""
    pushed = []

    def push():
        client.start_weight_update()
        client.update_weights({})
        client.finish_weight_update(version)
        pushed.append(client.weight_version())

    client.restore = push
    client.again_if_lost(push)
    return pushed


def wait_until(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("how", ["die", "core dies"])
def test_what_failed_is_done_again_by_a_restarted_server_with_the_weights_it_should_have(started, how):
    client = started()
    pushed = pushes(client)
    first = pid_of(client)
    fault(client, [how])
    assert ask(client) == [7, 7]
    assert pid_of(client) != first and not session_of(first)
    assert pushed == ["5", "5"] and client.weight_version() == "5"
    restarts, seconds = client.interruptions()
    assert restarts == 1 and 0 < seconds < 20


def test_a_server_that_dies_while_nothing_is_asked_is_started_again_and_not_asked_before_it_has_its_weights(
    started, caplog
):
    client = started()
    pushed = pushes(client)
    first = pid_of(client)
    os.kill(first, signal.SIGKILL)
    with caplog.at_level(logging.WARNING):
        wait_until(lambda: server_of(client)._process is not None and pid_of(client) != first)
        wait_until(server_of(client).is_healthy)
    assert "was ended by SIGKILL: starting it again" in caplog.text
    assert requests.get(f"{client.url}/weight_info", timeout=5).json()["weight_version"] == "default"
    assert pushed == ["5"]
    assert ask(client) == [7, 7] and pushed == ["5", "5"]


def test_a_stopped_server_is_noticed_while_it_is_asked_and_ended(started):
    client = started()
    first = pid_of(client)
    fault(client, ["sleep", 60])
    answers = []
    asking = threading.Thread(target=lambda: answers.append(ask(client)))
    asking.start()
    time.sleep(0.1)
    began = time.monotonic()
    os.kill(first, signal.SIGSTOP)
    asking.join(timeout=20)
    assert answers == [[7, 7]] and time.monotonic() - began < 20
    assert not session_of(first) and client.interruptions()[0] == 1


def test_a_stopped_engine_core_behind_a_server_that_answers_is_noticed(started):
    client = started()
    first = pid_of(client)
    [core] = psutil.Process(first).children()
    core.suspend()
    wait_until(lambda: client.interruptions()[0] == 1)
    assert ask(client) == [7, 7]
    assert not session_of(first)


@pytest.mark.parametrize("how", [["die"], ["core dies"], ["core is dying", 0.5]])
def test_a_server_that_is_lost_in_a_push_gets_it_again(started, how):
    client = started()
    pushes(client, "5")
    fault(client, how)
    pushed = pushes(client, "6")
    assert client.weight_version() == "6" and pushed[-1] == "6"


def test_adapters_that_nobody_pushes_are_loaded_again(started):
    client = started()
    client.load_adapter("from disk", "/some/folder")
    fault(client, ["die"])
    assert ask(client) == [7, 7] and client.model == "from disk"


def test_restarts_are_bounded(started):
    client = started(engine_max_restarts=1)
    fault(client, ["die"])
    assert ask(client) == [7, 7]
    fault(client, ["die"])
    with pytest.raises(EngineLostError, match="was ended by SIGKILL, after 1 restarts"):
        ask(client)


def test_a_server_that_cannot_be_started_again_says_why(started, monkeypatch):
    client = started(engine_max_restarts=2)
    monkeypatch.setattr(StandInServer, "_command", lambda self: [sys.executable, "-c", "exit('no memory left')"])
    fault(client, ["die"])
    with pytest.raises(EngineLostError, match=r"(?s)could not be started again.*exit code 1.*no memory left"):
        ask(client)


def test_a_server_that_is_not_ours_is_waited_for_and_gets_the_weights_again(others):
    port = free_port("127.0.0.1")
    first = others(port)
    config = EngineConfig(engine_url=f"http://127.0.0.1:{port}", engine_request_retries=1)
    client = EngineClient.open("stand-in", config, rank=0, log_path="unused")
    try:
        pushed = pushes(client)
        first.kill()
        first.wait()
        timer = threading.Timer(0.5, others, [port])
        timer.start()
        assert ask(client) == [7, 7]
        timer.join()
        assert pushed == ["5", "5"] and client.interruptions()[0] == 1
    finally:
        client.close()


def test_a_server_that_is_not_ours_and_does_not_come_back_ends_the_wait(others):
    port = free_port("127.0.0.1")
    process = others(port)
    config = EngineConfig(engine_url=f"http://127.0.0.1:{port}", engine_hang_timeout=0.3, engine_wait_timeout=0.3)
    client = EngineClient.open("stand-in", config, rank=0, log_path="unused")
    try:
        process.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        with pytest.raises(EngineLostError, match=r"has not answered for .* and did not come back within 0.3 seconds"):
            ask(client)
        assert time.monotonic() - began < 30
    finally:
        client.close()
        process.send_signal(signal.SIGCONT)


def test_what_passes_is_waited_for_and_an_internal_error_is_not(started):
    client = started(engine_request_timeout=0.5, engine_request_retries=2)
    for faults in (
        [["status", 429, ["Retry-After", "0"]], ["status", 503]],
        [["status", 429, ["Retry-After", "Mon, 01 Jan 2024 00:00:00 GMT"]]],
        [["status", 503, ["Retry-After", "soon"]]],
        [["reset"], ["cut"]],
        [["sleep", 1.0]],
    ):
        fault(client, *faults)
        assert ask(client) == [7, 7]
    fault(client, *[["status", 503, ["Retry-After", "0"]]] * 3)
    with pytest.raises(EngineError, match="answered /v1/completions with 503"):
        ask(client)
    fault(client, ["status", 500], ["status", 500])
    for _ in range(2):
        with pytest.raises(EngineError, match="with 500"):
            ask(client)
    assert ask(client) == [7, 7] and client.interruptions() == (0, 0.0)


def test_a_push_is_not_sent_twice(started):
    client = started()
    fault(client, ["reset"], ["status", 500])
    with pytest.raises(EngineError, match=r"No answer from the vLLM server at .*/update_weights"):
        client.update_weights({})


PARENT = """
import signal, sys, time
from tests.engine.own_server import StandInServer
from edco_rl import EngineConfig
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup has it ignored
server = StandInServer("stand-in", EngineConfig(), sys.argv[1])
server.start()
print(server._process.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP], ids=lambda number: number.name)
def test_a_server_is_killed_with_its_parent(tmp_path, number):
    command = [sys.executable, "-c", PARENT, str(tmp_path / "log")]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    leader = int(parent.stdout.readline())
    server = psutil.Process(leader)
    family = [server, *server.children()]
    parent.send_signal(number)
    parent.wait()
    wait_until(lambda: not session_of(leader))
    assert len(family) == 2


def test_a_server_that_ends_while_it_is_closed_is_not_started_again():
    started = []

    class Ending:
        def fault(self):
            supervisor._closing.wait(10)  # a look has begun, and ends after the server has
            return "was killed"

        def start(self, cancelled):
            started.append(self)

        def stop(self, grace=0.0):
            pass

    supervisor = Supervisor("http://127.0.0.1:9", health_of(EngineConfig(), patient=True), lambda why: None, Ending())
    time.sleep(0.2)
    supervisor.close()
    assert not started
