"""What a scoring's time goes to: the prompts of the quickstart, scored by a real server.

Wall time, and of it the time of the processor in the process that asks (rows to tokens, the answer's JSON to scores),
in vLLM's API server (which turns log-probabilities into JSON) and in its engine. The floor of the wall time is the
engine's least work: the same prompts with one token each and no log-probabilities beside its own. Sizes are prompts;
parts are the tokens scored a prompt.
"""

import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median

import psutil
from transformers import AutoTokenizer

from edco_rl import CurriculumConfig, EngineConfig
from edco_rl.data.tokens import RowTokenizer
from edco_rl.engine.client import EngineClient
from edco_rl.engine.protocol import Sampling
from edco_rl.engine.server import VLLMServer
from edco_rl.scoring import RowScorer
from tests.benchmarks.speed import Figure
from tests.conftest import CACHE

SIZES = (240,)
PARTS = ("3", "16")
ROUNDS = 5


def processors() -> dict[str, float]:
    """Seconds of the processor by now: of this process, of vLLM's API server, and of all below that."""
    found = {"asking": time.process_time(), "API server": 0.0, "engine": 0.0}
    for server in psutil.Process().children():
        for place, process in enumerate([server, *server.children(recursive=True)]):
            taken = process.cpu_times()
            found["engine" if place else "API server"] += taken.user + taken.system
    return found


def timed(work: Callable[[], object]) -> dict[str, float]:
    """Seconds that work takes, on the wall and by process."""
    before, began = processors(), time.perf_counter()
    work()
    wall, after = time.perf_counter() - began, processors()
    return {"wall": wall} | {name: after[name] - before[name] for name in after}


def measure(sizes: Sequence[int], parts: Sequence[str]) -> Iterator[Figure]:
    """Each number of prompts, with each number of tokens."""
    model = str(CACHE / "SmolLM2-135M-Instruct")
    tokenizer = RowTokenizer(AutoTokenizer.from_pretrained(model))
    question = "State the final answer to the following arithmetic problem: {} + {} ="
    with (
        tempfile.TemporaryDirectory() as folder,
        VLLMServer(
            model, EngineConfig(engine_max_model_len=256, engine_dtype="float32"), Path(folder) / "engine.log"
        ) as server,
    ):
        engine = EngineClient(server.url)
        for size in sizes:
            rows = [{"prompt": question.format(10 + i % 90, 10 + i * 37 % 90)} for i in range(size)]
            for part in parts:
                config = CurriculumConfig(scoring_prefix_tokens=int(part), scoring_quick_answer=False)
                scorer = RowScorer(tokenizer, config)
                prompts = scorer.encode(rows).prompts
                works = {
                    "scored": lambda scorer=scorer, rows=rows: scorer.score(scorer.encode(rows), engine),
                    "floor": lambda prompts=prompts: engine.generate(prompts, Sampling(1, temperature=0.0)),
                }
                found = defaultdict(list)
                for number in range(ROUNDS + 1):
                    for name, work in works.items():
                        engine.reset_prefix_cache()
                        taken = timed(work)
                        if number:  # the first pays for warming up
                            found[name].append(taken)
                floor = median(taken["wall"] for taken in found["floor"])
                for name in found["scored"][0]:
                    value = median(taken[name] for taken in found["scored"])
                    of = "scoring" if name == "wall" else f"processor, {name}"
                    yield Figure(f"{size} prompts, {part} tokens: {of}", value, "s", floor if name == "wall" else None)
        engine.close()
