"""How rollouts scale over servers: stand-ins, each in a process of its own, that take their time for every token.

A server works on four requests at a time, and generates a token of each in a millisecond. Answers are of 1 to 64
tokens, which nobody knows before. The floor of several is the time that one takes, divided by their number; the goal
is nine tenths of what they could do. The last figure is what the client itself takes in where servers answer at once.
"""

import random
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import requests

from edco_rl import EngineConfig
from edco_rl.engine import Sampling
from edco_rl.engine.launch import scoring_engine
from edco_rl.engine.server import free_port
from tests.benchmarks.speed import Figure
from tests.engine.own_server import start_stand_in

SIZES = (1, 2, 4, 8)
PARTS = ("varied", "equal")
PROMPTS, TOKENS, PACE = 8192, 64, 1e-3
_EFFICIENCY = 0.9


@contextmanager
def stand_ins(number: int, **settings: object) -> Iterator[list[str]]:
    """URLs of that many servers."""
    ports = [free_port("127.0.0.1") for _ in range(number)]
    processes = [start_stand_in(port) for port in ports]
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    try:
        for url in urls:
            requests.post(f"{url}/be", json=settings, timeout=5).raise_for_status()
        yield urls
    finally:
        for process in processes:
            process.kill()
            process.wait()


def seconds(number: int, prompts: list[list[int]], **settings: object) -> float:
    """Seconds until that many servers have continued the prompts."""
    with (
        stand_ins(number, max_model_len=4096, **settings) as urls,
        scoring_engine(EngineConfig(engine_url=urls), "") as engine,
    ):
        engine.generate(prompts[:number], Sampling(1))
        began = time.perf_counter()
        engine.generate(prompts, Sampling(TOKENS))
        return time.perf_counter() - began


def measure(sizes: Sequence[int], parts: Sequence[str]) -> Iterator[Figure]:
    """Every number of servers, with answers of equal and of varied lengths."""
    numbers = random.Random(0)
    prompts = [[numbers.randrange(TOKENS) for _ in range(32)] for _ in range(PROMPTS)]
    for part in parts:
        one = None
        for number in sorted({1, *sizes}):
            print(f"{part}, {number}", file=sys.stderr, flush=True)
            taken = seconds(number, prompts, pace=PACE, vary=part == "varied")
            one = one or taken
            floor = None if number == 1 else one / number
            yield Figure(
                f"{part} answers, {number} servers", taken, "s", floor, None if floor is None else floor / _EFFICIENCY
            )
        taken = seconds(max(sizes), prompts, vary=part == "varied")
        tokens = sum(1 + prompt[0] for prompt in prompts) if part == "varied" else TOKENS * PROMPTS
        yield Figure(f"{part} answers, taken in by the client", tokens / taken, "tokens/s")
