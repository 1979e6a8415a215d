"""A setting of vLLM on a CPU that no argument reaches, imported inside vLLM's processes only."""

from functools import partialmethod

from vllm.distributed.device_communicators.shm_broadcast import SpinCondition

BUSY_LOOP_SECONDS = 0.002


def apply() -> None:
    """Let readers of a message queue sleep soon after the last message.

    vLLM's polls for a second, which on a CPU takes a core from the trainer, after each rollout and each push.
    """
    if not isinstance(SpinCondition.__dict__["__init__"], partialmethod):
        SpinCondition.__init__ = partialmethod(SpinCondition.__init__, busy_loop_s=BUSY_LOOP_SECONDS)
