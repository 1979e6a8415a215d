"""Throughput of `edco-rl score` against vLLM alone: `python -m tests.benchmarks.score_throughput --help`.

Both answer the same prompts with the same number of tokens, in turn and within one process. vLLM alone means its
offline `LLM.generate` over prompts that are token ids already, without log-probabilities. `score` reads the file,
checks and encodes the rows, asks for log-probabilities, computes scores and writes the Parquet file.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table
from transformers import AutoTokenizer
from trl import TrlParser

from edco_rl.config import DataConfig, EstimatorConfig, InputConfig, ScoringEngineConfig
from edco_rl.data.load import iter_rows
from edco_rl.data.tokens import Row, RowTokenizer
from edco_rl.engine import Engine
from edco_rl.engine.colocate import ColocatedEngine
from edco_rl.engine.launch import scoring_engine
from edco_rl.entropy.estimator import Request
from edco_rl.errors import ConfigurationError, EdcoRLError
from edco_rl.scoring import RowScorer
from edco_rl.scoring.job import score_rows
from edco_rl.store import Parts, remove


@dataclass
class ThroughputConfig(InputConfig):
    """What is measured."""

    max_prompts: int | None = field(default=None, metadata={"help": "Prompts scored; by default all."})
    part_prompts: int = field(default=512, metadata={"help": "Prompts scored and written at a time."})
    rounds: int = field(default=3, metadata={"help": "Times each of the two is run."})


def read_rows(config: ThroughputConfig, data: DataConfig) -> Iterator[Row]:
    """The rows as `score` reads them."""
    assert config.dataset_name
    return iter_rows(
        config.dataset_name,
        config_name=config.dataset_config,
        split=config.dataset_train_split,
        seed=config.seed,
        **asdict(data) | {"train_prompts": config.max_prompts},
    )


def time_score(
    config: ThroughputConfig, data: DataConfig, scorer: RowScorer, engine: Engine, output: Path
) -> tuple[float, list[int]]:
    """Seconds `score` takes from the first row read to the file complete, and the tokens generated for each row."""
    remove(output)
    engine.reset_prefix_cache()
    started = time.perf_counter()
    with Parts(output, {}) as parts:
        score_rows(
            read_rows(config, data),
            scorer,
            engine,
            parts,
            policy_version="0",
            part_prompts=config.part_prompts,
            in_flight=engine.requests_in_flight,
        )
        parts.merge()
    return time.perf_counter() - started, pq.read_table(output, columns=["tokens"])["tokens"].to_pylist()


def time_vllm(engine: ColocatedEngine, prompts: list[list[int]], tokens: list[int], request: Request) -> float:
    """Seconds vLLM's `LLM.generate` takes for as many tokens, without log-probabilities."""
    from vllm import SamplingParams

    engine.reset_prefix_cache()
    lengths = [max(round(count / request.samples), 1) for count in tokens]
    sampling = {"n": request.samples, "temperature": request.temperature, "top_p": request.top_p}
    started = time.perf_counter()
    engine.llm.generate(
        [{"prompt_token_ids": prompt} for prompt in prompts],
        [SamplingParams(**sampling, max_tokens=length, ignore_eos=True) for length in lengths],
        use_tqdm=False,
    )
    return time.perf_counter() - started


def measure(
    config: ThroughputConfig, estimator: EstimatorConfig, engine: ScoringEngineConfig, data: DataConfig
) -> tuple[list[float], list[float], int, int]:
    """Run both in turn.

    Returns:
        `tuple[list[float], list[float], int, int]`: seconds of `score` and of vLLM alone in each round; tokens of all
        prompts, and tokens generated in a round.
    """
    assert config.model_name_or_path
    model = os.path.expanduser(config.model_name_or_path)
    scorer = RowScorer(RowTokenizer(AutoTokenizer.from_pretrained(model)), estimator)
    if scorer.request.evidence == "reference" or engine.engine_mode == "none":
        raise ConfigurationError("Only estimators that generate, on an engine, can be compared with generation.")
    prompts = scorer.encode(list(read_rows(config, data))).prompts
    scored, alone = [], []
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "scores.parquet"
        if engine.engine_mode != "colocate":  # two engines at a time would share the cores
            with scoring_engine(engine, model, log_path=Path(folder) / "engine.log") as other:
                time_score(config, data, scorer, other, output)  # the first requests compile and allocate
                scored = [time_score(config, data, scorer, other, output)[0] for _ in range(config.rounds)]
        offline = replace(engine, engine_mode="colocate", engine_url=None)
        with closing(ColocatedEngine(model, offline)) as own:
            _, tokens = time_score(config, data, scorer, own, output)
            for _ in range(config.rounds):
                alone.append(time_vllm(own, prompts, tokens, scorer.request))
                if engine.engine_mode == "colocate":
                    scored.append(time_score(config, data, scorer, own, output)[0])
    return scored, alone, sum(map(len, prompts)), sum(tokens)


def main() -> None:
    """Measure and print both throughputs and their ratio."""
    parser = TrlParser((ThroughputConfig, EstimatorConfig, ScoringEngineConfig, DataConfig))
    try:
        config, *others = parser.parse_args_and_config(fail_with_unknown_args=True)
        engine = others[1]
        scored, alone, given, generated = measure(config, *others)
    except EdcoRLError as error:
        raise SystemExit(f"score_throughput: error: {error}") from error
    table = Table(title=f"{given} tokens in and {generated} generated, {config.rounds} rounds in turn")
    for column in ("", "seconds (each round)", "tokens/s"):
        table.add_column(column, justify="right" if column else "left")
    for name, seconds in ((f"edco-rl score, engine_mode {engine.engine_mode}", scored), ("vLLM alone", alone)):
        rounds = ", ".join(f"{value:.1f}" for value in seconds)
        table.add_row(name, rounds, f"{(given + generated) / statistics.median(seconds):.0f}")
    console = Console()
    console.print(table)
    ratio = statistics.median(alone) / statistics.median(scored)
    console.print(f"score reaches {ratio:.3f} of vLLM's own throughput (medians).")


if __name__ == "__main__":
    main()
