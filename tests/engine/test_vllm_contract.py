"""What this package takes from vLLM, as the installed version has it: names, arguments, routes."""

import inspect
import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import psutil
import pytest

pytest.importorskip("vllm", reason="vLLM is not installed")

from vllm import entrypoints
from vllm.config import WeightTransferConfig
from vllm.distributed.device_communicators.shm_broadcast import SpinCondition
from vllm.distributed.weight_transfer.base import ParamMeta, VLLMWeightSyncClient, WeightTransferEngine
from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory, WeightTransferTrainerFactory
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.entrypoints.launchers.cli_args import FrontendArgs
from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead, UnquantizedEmbeddingMethod
from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload

from edco_rl.config import EngineConfig
from edco_rl.engine.client import EngineClient
from edco_rl.engine.colocate import ColocatedEngine
from edco_rl.engine.fleet import EngineFleet
from edco_rl.engine.processes import SERVER_VARIABLE
from edco_rl.engine.server_arguments import llm_arguments, server_command
from edco_rl.engine.vllm_file_backend import FileWeightTransferEngine
from edco_rl.engine.vllm_gate import OPEN_ROUTES
from edco_rl.engine.vllm_plugin import FILE_BACKEND, register
from edco_rl.engine.weights import TRANSPORTS

OWN = [name for name, value in vars(FileWeightTransferEngine).items() if inspect.isfunction(value)]


def parameters(function):
    return list(inspect.signature(function).parameters)


def test_the_file_backend_is_a_whole_weight_transfer_engine():
    assert not inspect.isabstract(FileWeightTransferEngine)
    register()
    assert FILE_BACKEND in WeightTransferEngineFactory._registry
    assert WeightTransferConfig(backend=FILE_BACKEND).backend == FILE_BACKEND


@pytest.mark.parametrize("name", [name for name in OWN if hasattr(WeightTransferEngine, name)])
def test_its_methods_take_what_vllms_take(name):
    assert parameters(getattr(FileWeightTransferEngine, name)) == parameters(getattr(WeightTransferEngine, name))


def test_a_whole_checkpoint_is_reloaded_layer_by_layer():
    assert parameters(initialize_layerwise_reload)[0] == "model"
    inspect.signature(finalize_layerwise_reload).bind(object(), object())
    inspect.signature(UnquantizedEmbeddingMethod.process_weights_after_loading).bind(object(), ParallelLMHead)


@pytest.mark.parametrize("transport", ["ipc", "nccl"])
def test_vllms_own_transports_begin_with_what_the_trainer_knows(transport):
    kind = TRANSPORTS.find(transport)
    info = kind(None, EngineConfig(engine_transport=transport)).init_info()
    assert info.rank == 0
    inspect.signature(WeightTransferTrainerFactory.trainer_init).bind(info, client=None, source=object())
    assert [field.name for field in fields(ParamMeta)][:3] == ["name", "dtype", "shape"]


COORDINATOR = """
import time
from edco_rl.engine.vllm_plugin import register
register()
from vllm.config import ParallelConfig
from vllm.v1.engine.coordinator import DPCoordinator
made = DPCoordinator(ParallelConfig(data_parallel_size=2))
print("coordinator", made.proc.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.slow
def test_the_coordinator_of_data_parallel_engines_ends_with_its_server():
    command = [sys.executable, "-c", COORDINATOR]
    environment = {**os.environ, SERVER_VARIABLE: "1"}
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    line = next(line for line in iter(server.stdout.readline, "") if line.startswith("coordinator"))
    coordinator = psutil.Process(int(line.split()[1]))
    server.kill()
    server.wait()
    coordinator.wait(timeout=20)


@pytest.mark.parametrize("engine", [EngineClient, EngineFleet, ColocatedEngine])
@pytest.mark.parametrize("name", [name for name in vars(VLLMWeightSyncClient) if not name.startswith("_")])
def test_all_engines_are_what_vllms_trainer_pushes_to(engine, name):
    assert parameters(getattr(engine, name)) == parameters(getattr(VLLMWeightSyncClient, name))


def test_repairs_for_a_cpu_find_what_they_repair():
    assert "busy_loop_s" in parameters(SpinCondition.__init__)
    wrapper = next(kind for kind in PunicaWrapperCPU.__mro__[1:] if "add_lora_logits" in vars(kind))
    assert parameters(wrapper.add_lora_logits)[1:5] == ["y", "x", "lora_a_stacked", "lora_b_stacked"]


def test_every_argument_of_a_server_is_one_of_vllms():
    config = EngineConfig(engine_max_lora_rank=8, engine_max_model_len=64, engine_max_num_seqs=4)
    known = {field.name for field in fields(AsyncEngineArgs)} | {field.name for field in fields(FrontendArgs)}
    command = server_command(llm_arguments("model", config, cuda=True, avx512=True), config, 8000)
    given = {word[2:].replace("-", "_") for word in command if word.startswith("--")}
    assert {"max_lora_rank", "middleware", "port"} <= given <= known


def test_every_open_route_is_one_of_vllms():
    found = "".join(path.read_text() for path in Path(entrypoints.__path__[0]).rglob("*.py"))
    unknown = {path for paths in OPEN_ROUTES.values() for path in paths if f'"{path}"' not in found}
    assert unknown <= {"/openapi.json", "/metrics"}  # FastAPI's own, and one that is mounted
