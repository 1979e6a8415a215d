"""Weights from a trainer to a real engine, over the transports that run without CUDA."""

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import requests
import torch
from accelerate import Accelerator
from peft import LoraConfig, get_peft_model
from trl.distributed import DistributedBackend
from trl.generation.vllm_generation import VLLMGeneration

from edco_rl import EngineConfig
from edco_rl.engine import EngineError, WeightVersionError
from edco_rl.engine.exchange import exchange_folder
from edco_rl.engine.generation import EngineGeneration, iter_adapter, iter_base, iter_merged
from edco_rl.engine.launch import give_base, open_engine
from edco_rl.engine.vllm_gate import OPEN_ROUTES
from edco_rl.engine.weights.adapter import AdapterTransport
from edco_rl.engine.weights.file import FileTransport

from ..engine.wrong_pushes import push_foreign_files, wrong_weights
from .conftest import TOLERANCE, largest_difference

pytestmark = pytest.mark.engine


@pytest.fixture
def prompts(tokenizer, tasks):
    return tokenizer(list(tasks["prompt"]))["input_ids"]


def disturb(model, scale=2e-3):
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.requires_grad:
                p.add_(torch.randn(p.shape, generator=generator) * (scale if "lora" not in name else 20 * scale))


def lora(model):
    config = LoraConfig(r=16, target_modules="all-linear", task_type="CAUSAL_LM")
    peft_model = get_peft_model(model, config)
    disturb(peft_model)
    return peft_model, config


def test_a_pushed_model_is_what_the_engine_serves(client, model, prompts):
    transport = FileTransport(client, EngineConfig())
    transport.connect()
    before = set(os.listdir("/dev/shm")) | set(os.listdir(exchange_folder(None)))
    disturb(model)
    assert largest_difference(client, model, prompts) > 10 * TOLERANCE  # without the push
    transport.push(list(model.named_parameters()), 7)
    assert client.weight_version() == transport.pushed and transport.pushed.startswith("7-")
    assert largest_difference(client, model, prompts) < TOLERANCE
    transport.close()
    assert set(os.listdir("/dev/shm")) | set(os.listdir(exchange_folder(None))) == before


def test_a_version_that_does_not_match_names_both(client, model, monkeypatch):
    transport = FileTransport(client, EngineConfig())
    transport.connect()
    finish = client.finish_weight_update

    def another_trainer_was_here(version):
        finish(version)
        client.update_weight_version("41")

    monkeypatch.setattr(client, "finish_weight_update", another_trainer_was_here)
    with pytest.raises(WeightVersionError, match="version 41 after version 42"):
        transport.push(list(model.named_parameters()), 42)


def test_a_push_is_taken_whole_or_not_at_all(client, model, prompts):
    transport = FileTransport(client, EngineConfig())
    transport.connect()
    disturb(model)
    right = {name: p.detach() for name, p in model.named_parameters()}
    transport.push(list(right.items()), 1)
    for message, wrong in wrong_weights(right).items():
        with pytest.raises(EngineError, match=message):
            transport.push(list(wrong.items()), 2)
        transport.verify()  # the last that was taken is still served
    assert largest_difference(client, model, prompts[:4]) < TOLERANCE
    transport._dtype = torch.bfloat16
    with pytest.raises(EngineError, match=r"is torch.bfloat16; the engine's weights are torch.float32"):
        transport.push(list(right.items()), 2)
    transport._dtype = torch.float32
    client.start_weight_update()  # by a trainer that is then killed
    with pytest.raises(EngineError, match="Is another trainer pushing to the same engine"):
        client.start_weight_update()
    transport.connect()
    transport.push(list(right.items()), 3)
    assert largest_difference(client, model, prompts[:4]) < TOLERANCE


def test_a_server_reads_nothing_but_files_of_its_folder(client):
    answers = push_foreign_files(client, exchange_folder(None))
    assert len(answers) == 1 and "No file of that name in the exchange folder" in answers.pop()


def test_two_trainers_on_one_server_do_not_use_each_others_weights(client, model, tokenizer, prompts):
    first, second = FileTransport(client, EngineConfig()), FileTransport(client, EngineConfig())
    ours, theirs = (generation(model, tokenizer, client, transport, 1) for transport in (first, second))
    ours.sync_weights()
    ours.generate(prompts[:1], None, num_generations=1)
    theirs.sync_weights()
    with pytest.raises(WeightVersionError, match="version 1 after version 1 was pushed"):
        ours.generate(prompts[:1], None, num_generations=1)
    theirs.generate(prompts[:1], None, num_generations=1)
    client.update_weight_version("default")  # as of a server that was started again
    with pytest.raises(WeightVersionError, match="version default after version 1"):
        theirs.generate(prompts[:1], None, num_generations=1)


def test_a_server_of_another_model_is_noticed(client, tiny_model_path):
    for transport in (FileTransport, AdapterTransport):
        with pytest.raises(
            EngineError, match="serves another model than the trainer's: vocab_size is 49152 there and 4096"
        ):
            transport(client, EngineConfig(), model=tiny_model_path).connect()


@pytest.mark.slow
def test_an_adapter_gets_its_base_back(client, server_url, model, model_path, prompts):
    """Where an earlier run has changed it; and a run that changes it later is noticed."""
    earlier, right = FileTransport(client, EngineConfig()), copy.deepcopy(model)
    earlier.connect()
    disturb(model)
    earlier.push(list(model.named_parameters()), 5)
    config = EngineConfig(engine_url=server_url, engine_transport="adapter")
    peft_model, lora_config = lora(copy.deepcopy(right))
    connection = open_engine(config, model_path, peft_config=lora_config)
    connection.transport.connect()
    distributed = DistributedBackend(Accelerator(cpu=True))
    give_base(connection, config, iter_base(peft_model, distributed), on_disk=True)
    connection.transport.push(list(iter_adapter(peft_model, distributed)), 1)
    assert largest_difference(connection.engine, peft_model, prompts[:4]) < 2 * TOLERANCE
    earlier.push(list(model.named_parameters()), 6)
    with pytest.raises(WeightVersionError, match="Is another trainer pushing"):
        connection.transport.verify()
    connection.close()


def test_routes_that_run_code_are_closed(client):
    routes = set(requests.get(f"{client.url}/openapi.json").json()["paths"])
    closed = routes - set().union(*OPEN_ROUTES.values())
    assert {"/collective_rpc", "/pause", "/sleep", "/adapters", "/invocations"} < closed
    for route in closed:
        assert requests.get(client.url + route).status_code == requests.post(client.url + route).status_code == 403
    answers = {
        requests.post(f"{client.url}/v1/load_lora_adapter", json={"lora_name": "x", "lora_path": path}).text
        for path in ("/etc", "/absent", str(exchange_folder(None) / "absent"))
    }
    assert len(answers) == 1 and "exchange folder only" in answers.pop()


def generation(model, tokenizer, client, transport, step):
    return EngineGeneration(
        model, Accelerator(cpu=True), tokenizer, engine=client, transport=transport, version=lambda: step
    )


def test_an_adapter_goes_over_alone_and_changes_nothing_else(client, model, tokenizer, prompts):
    file = FileTransport(client, EngineConfig())
    file.connect()
    file.push(list(model.named_parameters()), 0)
    peft_model, config = lora(model)
    base = {n: p.clone() for n, p in peft_model.named_parameters() if "lora" not in n}
    transport = AdapterTransport(client, EngineConfig(), peft_config=config)
    for step in (1, 2, 2):
        disturb(peft_model)
        generation(peft_model, tokenizer, client, transport, step).sync_weights()
        assert client.adapters() == [f"policy-version-{transport.pushed}"] and transport.pushed.startswith(f"{step}-")
        assert largest_difference(client, peft_model, prompts) < 2 * TOLERANCE
    assert all(torch.equal(p, base[n]) for n, p in peft_model.named_parameters() if n in base)
    # The next trainer begins at version 1 again, whether the last one ended well or not.
    AdapterTransport(client, EngineConfig(), peft_config=config).connect()
    assert client.adapters() == []
    transport = AdapterTransport(client, EngineConfig(), peft_config=config)
    generation(peft_model, tokenizer, client, transport, 1).sync_weights()
    transport.close()
    assert client.adapters() == []


COLOCATED = """
import json, sys
from transformers import AutoModelForCausalLM
import torch
from edco_rl import EngineConfig
from edco_rl.engine.colocate import ColocatedEngine
from accelerate import Accelerator
from trl.distributed import DistributedBackend
from edco_rl.engine.generation import iter_adapter
from edco_rl.engine.weights.adapter import AdapterTransport
from edco_rl.engine.weights.base import FIRST_VERSION
from tests.e2e.conftest import largest_difference
from tests.e2e.test_weight_sync import disturb, lora

path, prompts = sys.argv[1], json.loads(sys.argv[2])
settings = {"engine_max_model_len": 256, "engine_dtype": "float32", "engine_max_lora_rank": 16}
engine = ColocatedEngine(path, EngineConfig(engine_mode="colocate", **settings))
policy, config = lora(AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval())
transport = AdapterTransport(engine, EngineConfig(), peft_config=config, model=path)
transport.connect()
assert engine.weight_version() == FIRST_VERSION
found = []
for version in (1, 2, 2):
    disturb(policy)
    transport.push(list(iter_adapter(policy, DistributedBackend(Accelerator(cpu=True)))), version)
    assert engine.adapters() == [f"policy-version-{transport.pushed}"]
    found.append([engine.adapters(), largest_difference(engine, policy, prompts)])
engine.unload_adapter(engine.adapters()[0])
with policy.disable_adapter():
    found.append([engine.adapters(), largest_difference(engine, policy, prompts)])
# What weights that overflow leave in the cache, and what the next trainer makes of it.
for layer in engine.llm.llm_engine.vllm_config.compilation_config.static_forward_context.values():
    layer.kv_cache.fill_(float("nan"))
AdapterTransport(engine, EngineConfig(), model=path).connect()
engine.reset_prefix_cache()
with policy.disable_adapter():
    found.append([engine.adapters(), largest_difference(engine, policy, prompts)])
engine.close()
print(json.dumps(found))
"""


@pytest.mark.slow
def test_a_colocated_engine_answers_with_the_adapter_of_the_last_push(model_path, prompts):
    """Also where other weights have the same step, without one once it is dropped, and after a spoiled cache."""
    done = subprocess.run(
        [sys.executable, "-c", COLOCATED, model_path, json.dumps(prompts[:8])],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert [len(names) for names, _ in found] == [1, 1, 1, 0, 0]
    assert max(difference for _, difference in found) < 2 * TOLERANCE


def test_merging_is_done_in_a_copy(client, model, tokenizer, prompts):
    peft_model, _ = lora(model)
    before = copy.deepcopy(peft_model.state_dict())
    transport = FileTransport(client, EngineConfig())
    generation(peft_model, tokenizer, client, transport, 3).sync_weights()
    assert largest_difference(client, peft_model, prompts) < 2 * TOLERANCE
    assert all(torch.equal(value, before[name]) for name, value in peft_model.state_dict().items())


def test_trl_drifts_where_we_do_not(model):
    """In bfloat16, merging and unmerging in place changes the base weights; merging into a copy does not."""
    peft_model, _ = lora(model.to(torch.bfloat16))
    distributed = DistributedBackend(Accelerator(cpu=True))
    before = {n: p.clone() for n, p in peft_model.named_parameters() if "base_layer" in n}

    def changed():
        return sum(int((p != before[n]).sum()) for n, p in peft_model.named_parameters() if n in before)

    merged = {name: tensor.clone() for name, tensor in iter_merged(peft_model, distributed)}
    assert changed() == 0
    trl = VLLMGeneration.__new__(VLLMGeneration)
    trl.model, trl._dist = peft_model, distributed
    reference = {name: tensor.clone() for name, tensor in trl._iter_named_params()}
    assert changed() > 0
    assert merged.keys() == reference.keys()
    for name, tensor in merged.items():
        torch.testing.assert_close(tensor, reference[name], rtol=0.02, atol=0.02)
