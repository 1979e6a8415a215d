"""What the time goes to."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

PARTS = {
    "rollout": "completions made to train on",
    "scoring": "prompts scored for the curriculum",
    "sync": "weights pushed to the engine",
    "reward": "completions rewarded",
    "optimizer": "what no other part of a step claims: forward and backward passes, and the update",
    "teacher": "a teacher's chains of thought, before training",
    "difficulty": "the prompts' difficulty for the student, before training",
    "evaluation": "held-out prompts answered, which is no part of training",
}
"""Parts of a run's time, in the order they are shown in, and what each is spent on."""


class Stopwatch:
    """Adds up seconds by part. Parts must not be nested.

    Example:

    ```python
    >>> watch = Stopwatch()
    >>> with watch("rollout"):
    ...     generate()
    >>> watch.seconds["rollout"]
    1.9
    ```
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Count the time of the `with` block towards `part`, one of `PARTS`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - start
