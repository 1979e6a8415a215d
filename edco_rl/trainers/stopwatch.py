"""What the time goes to."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


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
        """Count the time of the `with` block towards `part`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - start
