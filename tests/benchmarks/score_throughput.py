"""Throughput of `edco-rl score` against vLLM alone: `python -m tests.benchmarks.score_throughput --help`.

Both answer the same prompts with the same number of tokens, in turn and within one process. vLLM alone means its
offline `LLM.generate` over prompts that are token ids already, without log-probabilities. `score` reads the file,
checks and encodes the rows, asks for log-probabilities, computes scores and writes the Parquet file.
"""

import os
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table
from transformers import AutoTokenizer
from trl import TrlParser

from edco_rl.config import DataConfig, EstimatorConfig, InputConfig, ScoringEngineConfig
from edco_rl.data.load import iter_rows
from edco_rl.engine.colocate import ColocatedEngine
from edco_rl.engine.protocol import GenerationBackend
from edco_rl.errors import ConfigurationError
from edco_rl.runs.score import open_backend
from edco_rl.scoring import RowScorer
from edco_rl.scoring.job import score_rows
from edco_rl.store import Parts, remove


@dataclass
class ThroughputConfig(InputConfig):
    """What is measured."""

    max_prompts: int | None = field(default=None, metadata={"help": "Prompts scored; by default all."})
    part_prompts: int = field(default=512, metadata={"help": "Prompts scored and written at a time."})
    rounds: int = field(default=3, metadata={"help": "Times each of the two is run."})


def time_score(
    config: ThroughputConfig, data: DataConfig, scorer: RowScorer, source: GenerationBackend, output: Path
) -> tuple[float, list[int]]:
    """Seconds `score` takes from the first row read to the file complete, and the tokens generated for each row."""
    remove(output)
    source.reset_prefix_cache()
    started = time.perf_counter()
    assert config.dataset_name
    with Parts(output, {}) as parts:
        rows = iter_rows(
            config.dataset_name,
            config_name=config.dataset_config,
            split=config.dataset_train_split,
            seed=config.seed,
            **asdict(data) | {"train_prompts": config.max_prompts},
        )
        score_rows(
            rows,
            scorer,
            source,
            parts,
            policy_version="0",
            part_prompts=config.part_prompts,
            in_flight=source.requests_in_flight,
        )
        parts.merge()
    return time.perf_counter() - started, pq.read_table(output, columns=["tokens"])["tokens"].to_pylist()


def time_vllm(engine: ColocatedEngine, prompts: list[list[int]], tokens: list[int], samples: int) -> float:
    """Seconds vLLM's `LLM.generate` takes for as many tokens, without log-probabilities."""
    from vllm import SamplingParams

    engine.reset_prefix_cache()
    lengths = [max(round(count / samples), 1) for count in tokens]
    started = time.perf_counter()
    temperature = 0.0 if samples == 1 else 1.0
    engine._llm.generate(
        [{"prompt_token_ids": prompt} for prompt in prompts],
        [SamplingParams(n=samples, temperature=temperature, max_tokens=most, ignore_eos=True) for most in lengths],
        use_tqdm=False,
    )
    return time.perf_counter() - started


def main() -> None:
    """Measure and print both throughputs and their ratio."""
    parser = TrlParser((ThroughputConfig, EstimatorConfig, ScoringEngineConfig, DataConfig))
    config, estimator, engine, data = parser.parse_args_and_config(fail_with_unknown_args=True)
    assert config.model_name_or_path
    model = os.path.expanduser(config.model_name_or_path)
    tokenizer = AutoTokenizer.from_pretrained(model)
    scorer = RowScorer(tokenizer, estimator)
    if scorer.request.evidence == "reference" or engine.engine_mode == "none":
        raise ConfigurationError("Only estimators that generate, on an engine, can be compared with generation.")
    rows = iter_rows(
        config.dataset_name,
        config_name=config.dataset_config,
        split=config.dataset_train_split,
        seed=config.seed,
        **asdict(data) | {"train_prompts": config.max_prompts},
    )
    prompts = scorer.encode(list(rows)).prompts
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "scores.parquet"

        tokens: list[int] = []

        def score_on(source: GenerationBackend) -> float:
            nonlocal tokens
            seconds, tokens = time_score(config, data, scorer, source, output)
            return seconds

        scored: list[float] = []
        alone: list[float] = []
        if engine.engine_mode == "server":  # two engines at a time would share the cores
            with open_backend(engine, model, tokenizer, Path(folder) / "engine.log") as source:
                score_on(source)  # the first requests compile and allocate
                scored = [score_on(source) for _ in range(config.rounds)]
        offline = ScoringEngineConfig(**asdict(engine) | {"engine_mode": "colocate", "engine_url": None})
        with open_backend(offline, model, tokenizer, Path(folder) / "engine.log") as source:
            assert isinstance(source, ColocatedEngine)
            score_on(source)
            for _ in range(config.rounds):
                alone.append(time_vllm(source, prompts, tokens, scorer.request.samples))
                if engine.engine_mode == "colocate":
                    scored.append(score_on(source))
    work = sum(map(len, prompts)) + sum(tokens)
    table = Table(
        title=f"{len(prompts)} prompts, {work - sum(tokens)} tokens in and {sum(tokens)} generated, "
        f"{config.rounds} rounds in turn"
    )
    for column in ("", "seconds (each round)", "prompts/s", "tokens/s"):
        table.add_column(column, justify="right" if column else "left")
    for name, seconds in ((f"edco-rl score, engine_mode {engine.engine_mode}", scored), ("vLLM alone", alone)):
        median = statistics.median(seconds)
        rounds = ", ".join(f"{value:.1f}" for value in seconds)
        table.add_row(name, rounds, f"{len(prompts) / median:.1f}", f"{work / median:.0f}")
    console = Console()
    console.print(table)
    ratio = statistics.median(alone) / statistics.median(scored)
    console.print(f"score reaches {ratio:.3f} of vLLM's own throughput (medians).")


if __name__ == "__main__":
    main()
