"""What this machine has: processors, memory, and the ways weights can take to an engine."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from ..config import ENGINE_CLASSES, EngineConfig, available_transports
from ..engine.hardware import has_avx512
from ..engine.launch import ENGINES
from ..engine.weights import TRANSPORTS
from ..errors import ConfigurationError
from ..runs.provenance import describe_hardware
from .finding import Finding

_SHARED_MEMORY = Path("/dev/shm")
_LITTLE_SHARED_MEMORY = 2**30


def examine_machine() -> Iterator[Finding]:
    """Processors, graphics cards, shared memory, and whether models are downloaded."""
    hardware = describe_hardware()
    slow = "" if has_avx512() else ", no AVX-512: engines take float32"
    found = f"{hardware['cpu']}, {hardware['cores']} cores, {hardware['memory_gib']} GiB{slow}"
    yield Finding("CPU", "ok", found)
    yield from _examine_gpus()
    if _SHARED_MEMORY.is_dir():
        free = shutil.disk_usage(_SHARED_MEMORY).free
        found = f"{free / 2**30:.1f} GiB free in {_SHARED_MEMORY}"
        little = free < _LITTLE_SHARED_MEMORY
        advice = "transport file needs room for the weights: docker run --shm-size, or engine_transport_dir"
        yield Finding("shared memory", "note" if little else "ok", found, advice if little else "")
    else:
        yield Finding("shared memory", "note", f"no {_SHARED_MEMORY}: transport file takes the system's own folder")
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        yield Finding("hub", "note", "HF_HUB_OFFLINE is set: models and data sets must be on this machine")
    else:
        yield Finding("hub", "not looked at", "whether models and data sets can be downloaded")


def _examine_gpus() -> Iterator[Finding]:
    for number in range(torch.cuda.device_count()):
        gpu = torch.cuda.get_device_properties(number)
        yield Finding(f"GPU {number}", "ok", f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB")
    if torch.cuda.device_count():
        return
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        listed = ""
    if listed:
        built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "a build without CUDA"
        advice = "install torch's CUDA build for this driver; see also CUDA_VISIBLE_DEVICES"
        yield Finding("GPU", "problem", f"nvidia-smi lists one, torch {torch.__version__} ({built}) sees none", advice)
    else:
        yield Finding("GPU", "ok", "none: training and engine run on the CPU")


def examine_transports(config: EngineConfig, *, cuda: bool) -> Iterator[Finding]:
    """Which transports this machine has, with each kind of engine.

    Args:
        config (`EngineConfig`):
            Settings; its engine and transport do not count.
        cuda (`bool`):
            Whether the trainer would run on CUDA.
    """
    for name in available_transports():
        transport, works, reasons = TRANSPORTS.find(name), [], []
        for mode in ENGINE_CLASSES:
            settings = replace(config, engine_mode=mode, engine_transport=name, engine_url=None)
            try:
                transport.check(settings, ENGINES.find(mode), lora=True, cuda=cuda)
                works.append(mode)
            except ConfigurationError as error:
                reasons.append(str(error))
        if works:
            only = ", of LoRA policies" if transport.adapter_only else ""
            yield Finding(f"transport {name}", "ok", f"engine_mode {' and '.join(works)}{only}")
        else:
            needs = next((reason for reason in reasons if "CUDA" in reason), reasons[0])
            yield Finding(f"transport {name}", "ok", f"not on this machine: {needs}")
