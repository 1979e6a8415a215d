"""Memory of a trainer on a CPU."""

import ctypes

# Parameters of glibc's mallopt (malloc.h).
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4


def keep_freed_memory() -> None:
    """Tell glibc to keep what is freed for what is asked for next; other C libraries are left as they are.

    Gradients and activations are freed and asked for anew in each step. Given back to the system, they cost a page
    fault for each 4 KiB: up to a third of a step.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
