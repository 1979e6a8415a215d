"""What the engine needs to know about the machine it starts on."""

import ctypes
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from ..errors import ConfigurationError


def has_avx512(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether an x86-64 CPU has AVX-512. True where it cannot be told: only its known absence changes a default."""
    try:
        text = cpuinfo.read_text()
    except OSError:
        return True
    flags = next((line for line in text.splitlines() if line.startswith("flags")), None)
    return flags is None or "avx512f" in flags.split()


def resolve_dtype(dtype: str | None, *, cuda: bool, avx512: bool) -> str | None:
    """The data type that `auto` stands for: float32 on a CPU that only emulates bfloat16, else the model's own."""
    return "float32" if dtype == "auto" and not cuda and not avx512 else dtype


def has_cuda() -> bool:
    """Whether torch sees a CUDA device. A build for CPUs need not be imported, which takes seconds, to know."""
    if version("torch").endswith("+cpu"):
        return False
    import torch

    return torch.cuda.is_available()


def check_vllm_installed() -> None:
    """Raise [`ConfigurationError`], saying what to install, where there is no vLLM, or no library that it loads."""
    if find_spec("vllm") is None:
        raise ConfigurationError(
            'vLLM is not installed: pip install "edco-rl[gpu]" on a machine with an NVIDIA GPU, "edco-rl[cpu]" on one '
            "without. engine_url takes a server that runs elsewhere, and engine_mode none does without vLLM."
        )
    if sys.platform == "linux" and not has_cuda():
        try:
            ctypes.CDLL("libnuma.so.1")
        except OSError:
            raise ConfigurationError(
                "libnuma.so.1, which vLLM loads on a CPU, is missing: apt install libnuma1 (dnf: numactl-libs)."
            ) from None
