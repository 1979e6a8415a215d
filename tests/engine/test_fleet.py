"""Several servers as one engine: stand-ins for vLLM in processes of their own; tests/e2e has real ones."""

import logging
import threading
import time

import pytest
import requests
import torch
from peft import LoraConfig

from edco_rl import ConfigurationError, EngineConfig
from edco_rl.engine import EngineError, EngineLostError, Sampling, WeightVersionError
from edco_rl.engine.launch import open_engine, resolve_engine, scoring_engine
from edco_rl.engine.server import free_port
from edco_rl.engine.supervisor import Supervisor
from edco_rl.engine.weights.adapter import AdapterTransport
from edco_rl.engine.weights.file import FileTransport

from .own_server import start_stand_in

PROMPTS = [[1, 2, 3]] * 16
WEIGHTS = [("weight", torch.ones(3))]


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    monkeypatch.setattr(Supervisor, "interval", 0.05)
    monkeypatch.setattr(Supervisor, "moment", 2.0)


class Servers:
    """Stand-ins that can be killed and started again, and what they were asked."""

    def __init__(self, number):
        self.ports = [free_port("127.0.0.1") for _ in range(number)]
        self.urls = [f"http://127.0.0.1:{port}" for port in self.ports]
        self.processes = [start_stand_in(port) for port in self.ports]

    def be(self, number, **values):
        requests.post(f"{self.urls[number]}/be", json=values, timeout=5).raise_for_status()

    def fault(self, number, *faults):
        requests.post(f"{self.urls[number]}/fault", json=faults, timeout=5).raise_for_status()

    def seen(self, number):
        return requests.get(f"{self.urls[number]}/seen", timeout=5).json()

    def asked(self, number):
        """Lengths of the prompts it was asked about."""
        return [length for _, lengths in self.seen(number)["asked"] for length in lengths]

    def version(self, number):
        return requests.get(f"{self.urls[number]}/weight_info", timeout=5).json()["weight_version"]

    def kill(self, number):
        self.processes[number].kill()
        self.processes[number].wait()

    def start_again(self, number):
        self.processes[number] = start_stand_in(self.ports[number])

    def close(self):
        for number in range(len(self.ports)):
            self.kill(number)


@pytest.fixture
def servers():
    made = Servers(2)
    yield made
    made.close()


@pytest.fixture
def opened():
    """Opens engines of several servers."""
    engines = []

    def open_fleet(servers, **settings):
        config = EngineConfig(engine_url=servers.urls, engine_request_retries=1, **settings)
        engines.append(open_engine(config, "stand-in"))
        return engines[-1].engine

    yield open_fleet
    for engine in engines:
        engine.close()


def wait_until(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def pushes(fleet, config):
    """Has weights pushed to all through the transport, also after a loss; returns it."""
    transport = FileTransport(fleet, config)

    def restore():
        transport.connect()
        transport.push(WEIGHTS, 5)

    fleet.restore = restore
    fleet.again_if_lost(restore)
    return transport


def test_answers_keep_their_order_and_each_server_gets_its_part(servers, opened):
    fleet = opened(servers)
    for number in range(2):
        servers.be(number, pace=0.02)
    completions = [[7] * (1 + number) for number in range(17)]
    prompts = [[7] * (18 - number) for number in range(17)]
    found = fleet.read(prompts, completions, 0)
    assert [len(own) for own, _ in found] == [len(completion) for completion in completions]
    assert sorted(servers.asked(0) + servers.asked(1)) == [19] * 17 and len(servers.asked(0)) in range(6, 12)
    groups = fleet.generate(prompts[:2], Sampling(2, n=3, top_logprobs=3))
    assert [len(group) for group in groups] == [3, 3]
    assert fleet.generate([], Sampling(2)) == [] and fleet.max_model_len() == 64


def test_a_request_goes_where_fewest_tokens_are_waited_for(servers, opened):
    """A long prompt is more than the seven short ones, which are for the other server; a slow one gets fewer."""
    fleet = opened(servers)
    for number in range(2):
        servers.be(number, pace=0.05)
    fleet.generate([[1] * 40, *[[1]] * 7], Sampling(4))
    [one] = [number for number in range(2) if 40 in servers.asked(number)]
    assert len(servers.asked(one)) <= 2 and len(servers.asked(1 - one)) >= 6
    servers.be(0, pace=0.0)
    fleet.generate([[1, 1]] * 1024, Sampling(1))
    fast, slow = (servers.asked(number).count(2) for number in range(2))
    assert fast + slow == 1024 and fast >= 2 * slow


def test_one_lost_in_flight_leaves_its_requests_to_the_other_and_gets_the_weights_before_it_is_asked_again(
    servers, opened, tmp_path, caplog
):
    config = EngineConfig(engine_transport_dir=str(tmp_path))
    fleet = opened(servers)
    transport = pushes(fleet, config)
    first = transport.pushed
    for number in range(2):
        servers.be(number, pace=0.05)
    answers = []
    asking = threading.Thread(target=lambda: answers.append(fleet.generate(PROMPTS, Sampling(2, top_logprobs=3))))
    asking.start()
    wait_until(lambda: servers.asked(0) and servers.asked(1))
    with caplog.at_level(logging.WARNING):
        servers.kill(0)
        asking.join(timeout=30)
    assert [len(group) for group in answers[0]] == [1] * len(PROMPTS)
    assert "going on with the others" in caplog.text and fleet.interruptions()[0] == 1
    assert len(servers.asked(1)) > len(PROMPTS) // 2
    transport.push(WEIGHTS, 6)  # the other goes on
    assert transport.pushed.startswith("6-") and servers.version(1) == transport.pushed != first

    servers.start_again(0)
    wait_until(lambda: fleet.clients[0].condition() == "stale")
    fleet.generate(PROMPTS, Sampling(2))
    transport.verify()
    assert servers.version(0) == "default" and not servers.asked(0)
    fleet.again_if_lost(lambda: transport.push(WEIGHTS, 7))
    fleet.generate(PROMPTS, Sampling(2))
    assert transport.pushed.startswith("7-") and servers.version(0) == servers.version(1) == transport.pushed
    assert {version for version, _ in servers.seen(0)["asked"]} == {transport.pushed}
    assert fleet.interruptions()[0] == 1 and fleet.interruptions()[1] > 0


def test_weights_are_written_once_and_all_servers_have_one_version(servers, opened, tmp_path):
    fleet = opened(servers)
    transport = pushes(fleet, EngineConfig(engine_transport_dir=str(tmp_path)))
    [one], [other] = ([update for update in servers.seen(n)["updates"] if update["file"]] for n in range(2))
    assert one == other and servers.version(0) == servers.version(1) == transport.pushed
    transport.verify()
    fleet.load_adapter("second", "/a/folder")
    assert fleet.adapters() == ["second"]
    fleet.clients[0].unload_adapter("second")
    fleet.unload_adapter("second")  # from those that have it
    assert fleet.adapters() == []
    servers.be(1, version="7-another-1")
    with pytest.raises(WeightVersionError, match="serves weights of version 5, 7 after version 5 was pushed"):
        transport.verify()


def test_an_adapter_is_on_all_servers_also_on_one_that_comes_back(servers, opened, tmp_path):
    fleet = opened(servers)
    config = EngineConfig(engine_transport_dir=str(tmp_path))
    transport = AdapterTransport(fleet, config, peft_config=LoraConfig(r=4))

    def push(step):
        fleet.again_if_lost(lambda: transport.push(WEIGHTS, step))
        fleet.generate(PROMPTS, Sampling(2))

    def restore():
        transport.connect()
        transport.push(WEIGHTS, 0)

    transport.connect()
    fleet.restore = restore
    push(1)
    push(2)
    servers.kill(0)
    push(3)
    servers.start_again(0)
    wait_until(lambda: fleet.clients[0].condition() == "stale")
    push(4)
    assert transport.pushed.startswith("4-") and servers.asked(0)
    served = [client.adapters() for client in fleet.clients]
    assert served == [[f"policy-version-{transport.pushed}"]] * 2
    transport.close()
    assert fleet.adapters() == []


def test_one_lost_in_a_push_does_not_stop_it(servers, opened, tmp_path):
    fleet = opened(servers)
    transport = pushes(fleet, EngineConfig(engine_transport_dir=str(tmp_path)))
    servers.fault(0, ["die"])
    transport.push(WEIGHTS, 6)
    assert servers.version(1) == transport.pushed and fleet.interruptions()[0] == 1
    assert fleet.url == servers.urls[1]


def test_where_all_are_lost_the_first_to_come_back_is_waited_for(servers, opened, tmp_path):
    fleet = opened(servers, engine_wait_timeout=30.0)
    transport = pushes(fleet, EngineConfig(engine_transport_dir=str(tmp_path)))
    first = transport.pushed
    servers.kill(0)
    servers.kill(1)
    timer = threading.Timer(0.5, servers.start_again, [1])
    timer.start()
    [[completion]] = fleet.generate([[1, 2, 3]], Sampling(2))
    timer.join()
    assert completion.token_ids == [7, 7] and servers.version(1) == transport.pushed != first
    assert fleet.interruptions()[0] == 2


def test_where_none_comes_back_the_run_stops(servers, opened):
    fleet = opened(servers, engine_wait_timeout=0.3)
    servers.kill(0)
    servers.kill(1)
    with pytest.raises(EngineLostError, match=r"None of the 2 servers .* None came back within 0.3 seconds"):
        fleet.generate([[1, 2, 3]], Sampling(2))


def test_one_that_comes_back_with_other_weights_is_left_out_where_nobody_pushes(servers, opened, caplog):
    for number in range(2):
        servers.be(number, version="9-run-1")
    fleet = opened(servers)
    fleet.generate(PROMPTS, Sampling(2))
    servers.kill(0)
    servers.start_again(0)
    wait_until(lambda: fleet.clients[0].condition() == "stale")
    with caplog.at_level(logging.WARNING):
        fleet.generate(PROMPTS, Sampling(2))
    assert "is left out from now on" in caplog.text and "9-run-1 at" in caplog.text
    assert not servers.asked(0) and len(servers.asked(1)) >= len(PROMPTS)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"models": ["other"]}, "differ in the name of the model: policy at .*, other at"),
        ({"model_config": {"model": "a/b", "dtype": "torch.float32"}}, "differ in the model: stand-in at .*, b at"),
        ({"model_config": {"model": "/x/stand-in", "dtype": "torch.bfloat16"}}, "data type: float32 .*, bfloat16 at"),
    ],
)
def test_servers_that_differ_are_refused(servers, opened, other, message):
    servers.be(1, **other)
    with pytest.raises(ConfigurationError, match=message):
        opened(servers)


def test_different_weights_are_refused_unless_a_push_mends_them(servers, opened, tmp_path):
    servers.be(1, version="3-run-1", max_model_len=32)
    fleet = opened(servers)
    assert fleet.max_model_len() == 32
    with pytest.raises(ConfigurationError, match=r"version of the weights: default at .*, 3-run-1 at"):
        fleet.generate(PROMPTS, Sampling(2))
    pushes(fleet, EngineConfig(engine_transport_dir=str(tmp_path)))
    assert len(fleet.generate(PROMPTS, Sampling(2))) == len(PROMPTS)


def test_all_must_be_there_at_the_start(servers):
    config = EngineConfig(engine_url=[servers.urls[0], "http://127.0.0.1:9"])
    with pytest.raises(EngineError, match=r"No answer from the vLLM server at http://127\.0\.0\.1:9"):
        scoring_engine(config, "stand-in").__enter__()


def test_what_several_servers_cannot_do_is_refused():
    config = EngineConfig(engine_url=["http://a:1", "http://b:1"])
    assert resolve_engine(config, lora=False, cuda=True).engine_transport == "file"
    assert resolve_engine(config, lora=True, cuda=True).engine_transport == "adapter"
    config.engine_transport = "nccl"
    with pytest.raises(ConfigurationError, match="nccl pushes to one server, and engine_url names 2"):
        resolve_engine(config, lora=False, cuda=True)
