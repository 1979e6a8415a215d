"""The process between a server and its data-parallel engines, which loads no plug-ins. Imported inside vLLM's only."""

from typing import Any

from vllm.v1.engine.coordinator import DPCoordinatorProc

from .processes import die_with_server

_run = DPCoordinatorProc.run_coordinator


def run_coordinator(**arguments: Any) -> None:
    """Do what vLLM's does, and end with the server, however that ends."""
    die_with_server()
    _run(**arguments)


def apply() -> None:
    """Have this server's coordinator begin here: it is found by the name of the function it is to run."""
    DPCoordinatorProc.run_coordinator = staticmethod(run_coordinator)
