"""Scoring as `edco-rl score` does it, beside vLLM alone; and prefixes of answers beside whole ones of 512 tokens.

The size is the number of prompts, of some 140 tokens, on SmolLM2-135M in this process. Scoring reads the file, checks
and encodes the rows, asks for log-probabilities, computes scores and writes the Parquet file. Its floor is vLLM's own
`LLM.generate` over prompts that are token ids already, for as many tokens without log-probabilities, in turn with it.
Whole answers, and prefixes beside them, are of an eighth of the prompts, and again of short ones: a prefix costs
mostly the reading of its prompt. Seconds are of the clock.
"""

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from transformers import AutoTokenizer

from edco_rl.config import DataConfig, EstimatorConfig, ScoringEngineConfig
from edco_rl.data.load import iter_rows
from edco_rl.data.tokens import RowTokenizer
from edco_rl.engine import Sampling
from edco_rl.engine.colocate import ColocatedEngine
from edco_rl.scoring import RowScorer
from edco_rl.scoring.job import score_rows
from edco_rl.store import Parts, remove
from tests.benchmarks.speed import Figure, in_turn

SIZES = (128,)
PARTS = ("throughput", "prefix")
MODEL = str(Path.home() / ".cache" / "edco_rl" / "SmolLM2-135M-Instruct")
_PART_PROMPTS, _ROUNDS = 512, 3
_LEAST_THROUGHPUT, _LEAST_SAVED = 0.95, 0.95
_WHOLE, _SHARE = 512, 8
_FILLER = "A counter is raised and lowered in turn, and what it shows after the last of these changes is to be said. "


class Scored:
    """Prompts in a file, and the ways to answer them.

    Args:
        folder (`Path`):
            Where file and scores are.
        size (`int`):
            Prompts.
        engine (`ColocatedEngine`):
            What answers.
        sentences (`int`, *optional*, defaults to `5`):
            How much there is to read before the question.
    """

    def __init__(self, folder: Path, size: int, engine: ColocatedEngine, sentences: int = 5) -> None:
        self.rows, self.output, self.engine = folder / "rows.jsonl", folder / "scores.parquet", engine
        prompts = (f"{number}: {_FILLER * sentences}{number + 7} and {number * 3}?" for number in range(size))
        self.rows.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
        self.scorer = RowScorer(RowTokenizer(AutoTokenizer.from_pretrained(MODEL)), EstimatorConfig())
        self.prompts = self.scorer.encode(list(self._read())).prompts

    def _read(self) -> Iterator[dict]:
        return iter_rows(str(self.rows), **asdict(DataConfig(held_out_prompts=0)))

    def score(self) -> None:
        """From the file to the file of scores."""
        remove(self.output)
        self.engine.reset_prefix_cache()
        with Parts(self.output, {}) as parts:
            counts = {"part_prompts": _PART_PROMPTS, "in_flight": self.engine.requests_in_flight}
            score_rows(self._read(), self.scorer, self.engine, parts, policy_version="0", **counts)
            parts.merge()

    def tokens(self) -> list[int]:
        """Tokens that were generated for each prompt."""
        return pq.read_table(self.output, columns=["tokens"])["tokens"].to_pylist()

    def generate(self, tokens: Sequence[int]) -> None:
        """As many tokens by vLLM alone."""
        from vllm import SamplingParams

        self.engine.reset_prefix_cache()
        request = self.scorer.request
        sampling = {"temperature": request.temperature, "top_p": request.top_p, "ignore_eos": True}
        self.engine.llm.generate(
            [{"prompt_token_ids": prompt} for prompt in self.prompts],
            [SamplingParams(**sampling, max_tokens=count) for count in tokens],
            use_tqdm=False,
        )

    def answer(self, tokens: int) -> None:
        """Answers of so many tokens to a share of the prompts, with the log-probabilities that scores are made of."""
        self.engine.reset_prefix_cache()
        top = self.scorer.config.scoring_top_logprobs
        sampling = Sampling(tokens, temperature=0.0, top_logprobs=top, extra={"ignore_eos": True})
        self.engine.generate(self.prompts[::_SHARE], sampling)


def measure(sizes: Sequence[int], parts: Sequence[str]) -> Iterator[Figure]:
    """Those of the parts, at each size."""
    with closing(ColocatedEngine(MODEL, ScoringEngineConfig(engine_max_model_len=1024))) as engine:
        for size in sizes:
            with tempfile.TemporaryDirectory() as folder:
                yield from measure_one(Path(folder), size, engine, parts)


def measure_one(folder: Path, size: int, engine: ColocatedEngine, parts: Sequence[str]) -> Iterator[Figure]:
    """Those of the parts, over so many prompts."""
    scored = Scored(folder, size, engine)
    scored.score()  # the first requests compile and allocate
    tokens = scored.tokens()
    if "throughput" in parts:
        alone, ours = in_turn(lambda: scored.generate(tokens), scored.score, rounds=_ROUNDS)
        yield Figure(f"{size} prompts: scoring", ours, "s", alone, alone / _LEAST_THROUGHPUT)
    if "prefix" in parts:
        yield saved(scored, max(tokens))
        yield saved(Scored(folder, size, engine, sentences=0), max(tokens))


def saved(scored: Scored, tokens: int) -> Figure:
    """The time of prefixes, of that of whole answers."""
    prefix, whole = in_turn(lambda: scored.answer(tokens), lambda: scored.answer(_WHOLE), rounds=1)
    length = np.mean([len(prompt) for prompt in scored.prompts])
    name = f"prompts of {length:.0f} tokens: prefixes of {tokens}, of the time of {_WHOLE}"
    return Figure(name, prefix / whole, "", goal=1 - _LEAST_SAVED)
