import itertools
import json
import os
import socket
import subprocess
import sys

import pytest

from edco_rl import EngineConfig
from edco_rl.engine.hardware import has_avx512
from edco_rl.engine.launch import open_engine
from edco_rl.engine.server import EngineStartError, VLLMServer
from edco_rl.engine.server_arguments import llm_arguments, server_command, server_environment
from edco_rl.errors import ConfigurationError


def arguments(cuda=False, avx512=True, **settings):
    return llm_arguments("some/model", EngineConfig(**settings), cuda=cuda, avx512=avx512)


@pytest.mark.parametrize(
    ("cuda", "avx512", "dtype", "expected"),
    [
        (False, False, "auto", "float32"),
        (False, True, "auto", "auto"),
        (True, False, "auto", "auto"),
        (False, False, "bfloat16", "bfloat16"),
    ],
)
def test_bfloat16_is_avoided_where_it_is_emulated(cuda, avx512, dtype, expected):
    assert arguments(cuda, avx512, engine_dtype=dtype)["dtype"] == expected


@pytest.mark.parametrize(
    ("transport", "backend"),
    [
        ("auto", "edco_rl_file"),
        ("file", "edco_rl_file"),
        ("adapter", "edco_rl_file"),
        ("nccl", "nccl"),
        ("ipc", "ipc"),
    ],
)
def test_the_transport_selects_the_weight_transfer_backend(transport, backend):
    assert arguments(engine_transport=transport)["weight_transfer_config"] == {"backend": backend}


def test_a_cpu_compiles_nothing_and_takes_no_gpu_memory():
    assert arguments()["enforce_eager"] and "gpu_memory_utilization" not in arguments()
    gpu = arguments(cuda=True)
    assert not gpu["enforce_eager"] and gpu["gpu_memory_utilization"] == 0.3


def test_the_command_line_holds_every_argument():
    config = EngineConfig(engine_args=["--swap-space", "1"], engine_max_lora_rank=8, engine_data_parallel_size=2)
    command = server_command(llm_arguments("m", config, cuda=False, avx512=False), config, 1234)
    pairs = dict(itertools.pairwise(command))
    assert pairs["--port"] == "1234" and pairs["--max-lora-rank"] == "8" and pairs["--data-parallel-size"] == "2"
    assert pairs["--host"] == "127.0.0.1" and pairs["--dtype"] == "float32"
    assert json.loads(pairs["--weight-transfer-config"]) == {"backend": "edco_rl_file"}
    assert "--enforce-eager" in command and "--enable-lora" in command
    assert command[-2:] == ["--swap-space", "1"]


def test_the_environment_keeps_what_the_user_set_and_drops_the_launchers(monkeypatch, tmp_path):
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "7")
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "131072")
    monkeypatch.setenv("WORLD_SIZE", "2")
    environment = server_environment(EngineConfig(), tmp_path)
    assert environment["VLLM_CPU_KVCACHE_SPACE"] == "7"
    assert environment["VLLM_SERVER_DEV_MODE"] == "1"
    assert environment["MALLOC_TRIM_THRESHOLD_"] == "131072"
    assert "WORLD_SIZE" not in environment


@pytest.mark.parametrize(
    ("cuda", "eager", "disabled"), [(False, None, True), (False, False, False), (True, None, False)]
)
def test_an_eager_server_on_a_cpu_compiles_nothing(cuda, eager, disabled, monkeypatch, tmp_path):
    monkeypatch.setattr("edco_rl.engine.server_arguments.has_cuda", lambda: cuda)
    environment = server_environment(EngineConfig(engine_enforce_eager=eager), tmp_path)
    assert (environment.get("TORCH_COMPILE_DISABLE") == "1") == disabled


def test_a_server_does_not_import_from_the_folder_it_is_started_in(tmp_path, monkeypatch):
    """Nor do processes it starts, and where PYTHONPATH has an empty entry, which means that folder."""
    (tmp_path / "z3.py").write_text("print('imported')")
    monkeypatch.setenv("PYTHONPATH", os.pathsep + os.environ.get("PYTHONPATH", ""))
    code = (
        "import importlib.util as u, sys, subprocess as s\n"
        "print(u.find_spec('z3'), flush=True)\n"
        "s.run([sys.executable, '-c', 'import importlib.util as u; print(u.find_spec(\"z3\"))'])\n"
    )
    environment = server_environment(EngineConfig(), tmp_path)
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.split() == ["None", "None"], done.stderr


def test_a_library_that_vllm_lacks_is_told_before_a_server_is_started(tiny_model_path, tmp_path, monkeypatch):
    def load(name):
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr("edco_rl.engine.hardware.has_cuda", lambda: False)
    monkeypatch.setattr("edco_rl.engine.hardware.ctypes.CDLL", load)
    with pytest.raises(ConfigurationError, match=r"libnuma\.so\.1, .* is missing: apt install libnuma1"):
        open_engine(EngineConfig(), tiny_model_path, log_path=tmp_path / "log")
    assert not (tmp_path / "log").exists()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "gpu-node-3"])
def test_a_server_that_others_can_reach_needs_a_key(host, tiny_model_path, tmp_path, monkeypatch):
    monkeypatch.delenv("VLLM_API_KEY", raising=False)
    with pytest.raises(ConfigurationError, match=r"needs an API key. Set the environment variable VLLM_API_KEY"):
        VLLMServer(tiny_model_path, EngineConfig(engine_host=host), tmp_path / "log").start()
    assert not (tmp_path / "log").exists()


def test_avx512_is_read_from_cpuinfo(tmp_path):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor : 0\nflags\t\t: fpu avx2 fma\n")
    assert not has_avx512(cpuinfo)
    cpuinfo.write_text("flags\t\t: avx2 avx512f avx512bw\n")
    assert has_avx512(cpuinfo)
    assert has_avx512(tmp_path / "absent")


def test_a_port_in_use_is_named_before_anything_starts(tiny_model_path, tmp_path):
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        port = sock.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"Cannot listen on 127.0.0.1:{port}"):
            VLLMServer(tiny_model_path, EngineConfig(engine_port=port), tmp_path / "log").start()
    assert not (tmp_path / "log").exists()


def test_a_server_that_dies_at_start_shows_its_last_lines(tiny_model_path, new_children, tmp_path):
    config = EngineConfig(engine_args=["--no-such-flag"])
    with pytest.raises(EngineStartError, match=r"(?s)exit code 2.*unrecognized arguments: --no-such-flag"):
        VLLMServer(tiny_model_path, config, tmp_path / "log").start()
    assert not new_children()


def test_a_server_that_is_never_healthy_is_ended(tiny_model_path, new_children, tmp_path):
    server = VLLMServer(tiny_model_path, EngineConfig(engine_startup_timeout=1.0), tmp_path / "log")
    with pytest.raises(EngineStartError, match="not healthy after 1 seconds"):
        server.start()
    assert not new_children()
