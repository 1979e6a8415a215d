"""What a vLLM server or engine is started with: arguments, command line and environment."""

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from ..config import EngineConfig
from .exchange import exchange_folder
from .hardware import has_cuda, resolve_dtype
from .processes import SERVER_VARIABLE
from .vllm_plugin import ALL_ROUTES, EXCHANGE_FOLDER, FILE_BACKEND
from .weights import TRANSPORTS

SERVED_MODEL_NAME = "policy"
LOOKED_AT = ("/health", "/weight_info")
"""Routes that are asked once a second whether the server answers, and whether its engine does."""
# glibc keeps what is given back: on a CPU each push repacks the weights, a third of which went to new pages of memory.
_KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**33)}
# Few functions of vLLM are compiled in eager mode too: small ones, for which the first request waited eight seconds.
_UNCOMPILED = {"TORCH_COMPILE_DISABLE": "1"}


def llm_arguments(model: str, config: EngineConfig, *, cuda: bool, avx512: bool) -> dict[str, Any]:
    """vLLM's engine arguments for `model`, the same for a server and for a colocated engine.

    Args:
        model (`str`):
            Model folder or hub id.
        config (`EngineConfig`):
            Settings. The class of the `engine_transport` names the weight-transfer backend; `"auto"` means `file`.
        cuda (`bool`):
            Whether the engine runs on CUDA.
        avx512 (`bool`):
            Whether the CPU has AVX-512; without it the default data type is float32.
    """
    eager = config.engine_enforce_eager
    transport = "file" if config.engine_transport == "auto" else config.engine_transport
    backend = TRANSPORTS.find(transport).backend
    arguments = {
        "model": model,
        "dtype": resolve_dtype(config.engine_dtype, cuda=cuda, avx512=avx512),
        "max_logprobs": config.engine_max_logprobs,
        # The importance-sampling correction of TRL wants the distribution that was sampled from.
        "logprobs_mode": "processed_logprobs",
        "weight_transfer_config": None if backend is None else {"backend": backend},
        "additional_config": {
            **(
                {EXCHANGE_FOLDER: str(exchange_folder(config.engine_transport_dir))} if backend == FILE_BACKEND else {}
            ),
            ALL_ROUTES: config.engine_all_routes,
        },
        "tensor_parallel_size": config.engine_tensor_parallel_size,
        "data_parallel_size": config.engine_data_parallel_size,
        "gpu_memory_utilization": config.engine_gpu_memory_utilization if cuda else None,
        "max_model_len": config.engine_max_model_len,
        "max_num_seqs": config.engine_max_num_seqs,
        # Prompts share a prefix in whole blocks of the cache; 32 tokens is the least a CPU takes.
        "block_size": None if cuda else 32,
        "enforce_eager": (not cuda) if eager is None else eager,
    }
    if config.engine_max_lora_rank is not None:
        # One adapter serves while the next one loads.
        arguments |= {"enable_lora": True, "max_lora_rank": config.engine_max_lora_rank, "max_loras": 2}
    return {name: value for name, value in arguments.items() if value is not None}


def server_command(arguments: dict[str, Any], config: EngineConfig, port: int) -> list[str]:
    """The command line of a server with the engine arguments of [`llm_arguments`], listening on `port`."""
    # `vllm serve` looks its version up under the name of the CUDA distribution; the module works for both.
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    command += ["--middleware", "edco_rl.engine.vllm_gate.Gate"]
    arguments = arguments | {
        "served_model_name": SERVED_MODEL_NAME,
        "host": config.engine_host,
        "port": port,
        "disable_access_log_for_endpoints": ",".join(LOOKED_AT),
    }
    for name, value in arguments.items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            command += [flag] if value else []
        else:
            command += [flag, json.dumps(value) if isinstance(value, dict) else str(value)]
    return command + (config.engine_args or [])


def server_environment(config: EngineConfig, temporary: Path) -> dict[str, str]:
    """The environment of a server. What the user has set stays, but for what weight sync and a clean end need.

    Args:
        config (`EngineConfig`):
            Settings.
        temporary (`Path`):
            Folder for its temporary files: vLLM leaves its sockets and a file of its process group behind.
    """
    on_cpu = not has_cuda()
    environment = {
        # All cores serve while the optimizer waits for rollouts; by default vLLM keeps one for itself.
        "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",
        "VLLM_CPU_KVCACHE_SPACE": str(config.engine_cpu_kv_cache_gib),
        # Beside them, so that kernels that were compiled are kept.
        "TORCHINDUCTOR_CACHE_DIR": f"{tempfile.gettempdir()}/torchinductor_{os.getuid()}",
        **(_KEEP_MEMORY if on_cpu else {}),
        **(_UNCOMPILED if on_cpu and config.engine_enforce_eager is not False else {}),
        **os.environ,
        "TMPDIR": str(temporary),
        SERVER_VARIABLE: "1",
        "PYTHONSAFEPATH": "1",  # what lies in the folder it is started in is not imported
        "VLLM_SERVER_DEV_MODE": "1",
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
    }
    if "PYTHONPATH" in environment:  # an empty entry is the current folder
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, environment["PYTHONPATH"].split(os.pathsep)))
    # A trainer started by accelerate must not make the server join its process group.
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        environment.pop(name, None)
    return environment
