"""The whole examination, and how it is told."""

import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from ..config import DoctorConfig, EngineConfig
from ..engine.hardware import has_cuda
from ..errors import EdcoRLError
from ..models import check_model_path
from .finding import Finding
from .installed import examine_packages, examine_vllm, installed_versions, requirements
from .machine import examine_machine, examine_transports

_STYLES = {"ok": "green", "note": "yellow", "problem": "bold red", "not looked at": "dim"}


def run_doctor(doctor: DoctorConfig, engine: EngineConfig) -> None:
    """Examine this installation and machine, and say what to do.

    Raises:
        ConfigurationError: The settings name no model.
        EdcoRLError: Something does not work.
    """
    if doctor.model_name_or_path is not None:
        check_model_path(doctor.model_name_or_path)
    console = Console(soft_wrap=True)
    found = []
    for finding in _examine(doctor, engine):
        found.append(finding)
        if not doctor.json:
            _print(console, finding)
    if doctor.json:
        print(json.dumps([asdict(finding) for finding in found], indent=2))
    problems = [finding.what for finding in found if finding.state == "problem"]
    if problems:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise EdcoRLError(f"{count}: {', '.join(problems)}.")


def _examine(doctor: DoctorConfig, engine: EngineConfig) -> Iterator[Finding]:
    needed, installed, cuda = requirements(), installed_versions(), has_cuda()
    yield from examine_packages(needed, installed)
    vllm = list(examine_vllm(needed, installed, cuda=cuda))
    yield from vllm
    yield from examine_machine()
    yield from examine_transports(engine, cuda=cuda)
    here = engine.engine_url is not None or not any(finding.found == "not installed" for finding in vllm)
    reason = _why_not(doctor, engine, here)
    if reason:
        yield Finding("self-test", "not looked at", reason)
        return
    try:
        from .self_test import make_model, self_test
    except (ImportError, RuntimeError) as error:
        root: BaseException = error
        while (cause := root.__cause__ or root.__context__) is not None:
            root = cause
        advice = (
            "torch, torchvision and torchaudio must be of one build, all with +cpu or none: pip uninstall torchvision "
            "torchaudio torchcodec, which text does not need"
        )
        yield Finding("transformers", "problem", f"its models cannot be imported: {root}", advice)
        return
    with tempfile.TemporaryDirectory(prefix="edco_rl-") as folder:
        log = Path(engine.engine_log or Path(folder) / "engine.log")
        try:
            model = doctor.model_name_or_path or make_model(Path(folder) / "model")
            yield from self_test(engine, model, doctor.self_test_seconds, log)
        except Exception as error:  # whatever goes wrong here is what was asked for
            what = str(error) if isinstance(error, EdcoRLError) else f"{type(error).__name__}: {error}"
            yield Finding(
                "self-test",
                "problem",
                what,
                "--self_test_seconds gives it longer, --engine_log FILE keeps a server's log",
            )


def _why_not(doctor: DoctorConfig, engine: EngineConfig, vllm: bool) -> str | None:
    if not doctor.self_test:
        return "self_test is false"
    if engine.engine_mode == "none":
        return "engine_mode is none"
    if engine.engine_url is not None and doctor.model_name_or_path is None:
        return "engine_url needs a model_name_or_path: the model that is served there"
    return None if vllm else "vLLM is not installed"


def _print(console: Console, finding: Finding) -> None:
    style = _STYLES[finding.state]
    console.print(f"[{style}]{finding.state:>13}[/]  ", end="")
    console.print(f"{finding.what}: {finding.found}", markup=False, highlight=False)
    if finding.advice:
        console.print(f"{'':>13}  -> {finding.advice}", markup=False, highlight=False)
