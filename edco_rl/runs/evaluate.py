"""`edco-rl evaluate`: accuracy of a model or a LoRA adapter on a data set, with confidence intervals."""

import dataclasses
import itertools
import json
import logging
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from transformers import AutoTokenizer

from ..config import DataConfig, EngineConfig, EvaluateConfig
from ..data.lengths import check_prompts_fit
from ..data.load import iter_rows, load_prompts, to_dataset
from ..data.tasks import is_generated
from ..data.tokens import RowTokenizer
from ..engine.launch import adapter_engine, check_installed, scoring_engine
from ..engine.protocol import GenerationBackend, Sampling
from ..errors import ConfigurationError
from ..rewards import RewardFunction, default_reward, get_rewards
from ..statistics import over_prompts, pass_at_k, wilson_interval
from ..store import write_json
from ..terminal import print_rows
from .grading import GradedAnswers, grade_answers
from .overlap import count_trained_on
from .provenance import versions
from .settings import check_model

logger = logging.getLogger(__name__)

# Prompts sent, graded and reported on at a time.
_PROMPTS_AT_ONCE = 256
_RESAMPLES = 9999


@dataclass(frozen=True)
class ServedModel:
    """What answers.

    Args:
        path (`str`):
            Model folder or hub id.
        adapter (`str`, *optional*):
            Folder of the LoRA adapter over it.
        rank (`int`):
            Rank of the adapter.
    """

    path: str
    adapter: str | None = None
    rank: int = 0

    def engine(self, config: EngineConfig, log_path: Path) -> AbstractContextManager[Any]:
        """An engine that answers with it."""
        if self.adapter is None:
            return scoring_engine(config, self.path, log_path=log_path)
        return adapter_engine(config, self.path, self.adapter, rank=self.rank, log_path=log_path)


def run_evaluate(evaluate: EvaluateConfig, engine: EngineConfig, data: DataConfig) -> dict[str, Any]:
    """Measure accuracy, print it as a table, and write it to `output`.

    Returns:
        `dict[str, Any]`: what `output` holds: `greedy` (`accuracy`, `interval`, ...), `pass_at` (by k), `subjects`.

    Raises:
        ConfigurationError: A setting or row to be changed; raised before an engine is started.
    """
    assert evaluate.model_name_or_path and evaluate.dataset_name
    if engine.engine_mode == "none":
        raise ConfigurationError("engine_mode none: evaluate answers through an engine; use server or colocate.")
    check_installed(engine)
    model = find_model(os.path.expanduser(evaluate.model_name_or_path))
    rows = _load(evaluate, data)
    reward_name = evaluate.reward_func or default_reward(rows.column_names)
    if reward_name is None:
        raise ConfigurationError(f"dataset_name {evaluate.dataset_name!r} has no column 'answer' to compare with.")
    [reward] = get_rewards([reward_name], evaluate.reward_kwargs)  # type: ignore[arg-type]
    overlap = count_trained_on(evaluate, data, rows)
    tokenizer = AutoTokenizer.from_pretrained(model.adapter if _has_tokenizer(model.adapter) else model.path)
    folder = Path(evaluate.output).expanduser().parent if evaluate.output else Path()
    assert not isinstance(evaluate.chat_template_kwargs, str)  # the configuration has parsed it
    row_tokenizer = RowTokenizer(tokenizer, evaluate.chat_template_kwargs)
    with model.engine(engine, folder / "engine.log") as backend:
        result = evaluate_model(backend, row_tokenizer, rows, reward, evaluate)
    result = {
        "model": model.path,
        "adapter": model.adapter,
        "engine_url": engine.engine_url,
        "dataset_name": evaluate.dataset_name,
        "reward": reward_name,
        "overlap": overlap,
        **result,
        "versions": versions(),
        "config": {name: dataclasses.asdict(c) for name, c in (("evaluate", evaluate), ("data", data))},
    }
    print_evaluation(result)
    if evaluate.output:
        write_json(Path(evaluate.output).expanduser(), result)
    return result


def find_model(name: str) -> ServedModel:
    """A model, or a LoRA adapter and the model it belongs to.

    Raises:
        ConfigurationError: It cannot be found, or the adapter is no LoRA adapter.
    """
    settings = Path(name) / "adapter_config.json"
    if not settings.is_file():
        check_model(name)
        return ServedModel(name)
    adapter = json.loads(settings.read_text())
    base = adapter.get("base_model_name_or_path")
    if adapter.get("peft_type") != "LORA" or not base:
        raise ConfigurationError(f"{settings}: expected peft_type LORA and a base_model_name_or_path.")
    check_model(base)
    return ServedModel(base, name, int(adapter["r"]))


def _has_tokenizer(adapter: str | None) -> bool:
    return adapter is not None and (Path(adapter) / "tokenizer_config.json").is_file()


def _load(evaluate: EvaluateConfig, data: DataConfig) -> Dataset:
    assert evaluate.dataset_name
    if is_generated(evaluate.dataset_name):
        _, held_out = load_prompts(evaluate.dataset_name, seed=evaluate.seed, **vars(data))
        if held_out is None:
            raise ConfigurationError("held_out_prompts is 0: the prompts of a generated task that are evaluated.")
        return held_out.select(range(min(evaluate.max_prompts or len(held_out), len(held_out))))
    for name in ("train_prompts", "eval_dataset_name"):
        if getattr(data, name) is not None:
            raise ConfigurationError(f"{name} is a setting of training; evaluate has dataset_name and max_prompts.")
    rows = iter_rows(
        evaluate.dataset_name, config_name=evaluate.dataset_config, split=evaluate.dataset_test_split, **vars(data)
    )
    return to_dataset(evaluate.dataset_name, list(itertools.islice(rows, evaluate.max_prompts)))


def evaluate_model(
    backend: GenerationBackend,
    tokenizer: RowTokenizer,
    rows: Dataset,
    reward: RewardFunction,
    evaluate: EvaluateConfig,
) -> dict[str, Any]:
    """Greedy accuracy, and pass@k where answers are sampled, of all rows and of each subject.

    Args:
        backend (`GenerationBackend`):
            Answers the prompts.
        tokenizer ([`~edco_rl.data.tokens.RowTokenizer`]):
            Makes token ids of the prompts.
        rows (`datasets.Dataset`):
            The prompts, with the columns the reward needs.
        reward (`RewardFunction`):
            A reward of 1 is a right answer. Rows it says nothing about are left out, and counted.
        evaluate (`EvaluateConfig`):
            Settings.

    Raises:
        ConfigurationError: A prompt is longer than the engine takes, or no answer could be judged.
    """
    plain, longest = rows.to_list(), evaluate.max_completion_length
    most = backend.max_model_len()
    check_prompts_fit(plain, tokenizer.prompts(plain), longest, most, "max_completion_length")
    greedy, sampled = _answer(backend, tokenizer, rows, reward, evaluate)
    judged = ~np.isnan(greedy.right[:, 0])
    if not judged.any():
        raise ConfigurationError("The reward says nothing about any row: is it the right one for this data set?")
    if not judged.all():
        logger.warning("The reward says nothing about %d of %d rows: left out.", (~judged).sum(), len(rows))
    subjects = np.array(rows["subject"] if "subject" in rows.column_names else [""] * len(rows), dtype=object)
    result: dict[str, Any] = {
        "prompts": int(judged.sum()),
        "prompts_without_reward": int((~judged).sum()),
        "chance": _chance(rows, judged),
        "confidence_level": evaluate.confidence_level,
        **_measure(greedy, sampled, judged, evaluate),
    }
    names = sorted({str(subject) for subject in subjects[judged]})
    if len(names) > 1:
        result["subjects"] = {
            name or "(none)": {"prompts": int(chosen.sum()), **_measure(greedy, sampled, chosen, evaluate)}
            for name in names
            for chosen in [judged & (subjects == name)]
        }
    return result


def _answer(
    backend: GenerationBackend,
    tokenizer: RowTokenizer,
    rows: Dataset,
    reward: RewardFunction,
    evaluate: EvaluateConfig,
) -> tuple[GradedAnswers, GradedAnswers | None]:
    parts = [range(i, min(i + _PROMPTS_AT_ONCE, len(rows))) for i in range(0, len(rows), _PROMPTS_AT_ONCE)]
    most = evaluate.max_completion_length
    runs = [Sampling(most, temperature=0.0)]
    if evaluate.samples:
        runs.append(Sampling(most, evaluate.samples, evaluate.temperature, evaluate.top_p))
    work = [(run, part) for run in range(len(runs)) for part in parts]
    graded: list[list[GradedAnswers]] = [[] for _ in runs]
    for run, part in track(work, description="Answering", console=Console(stderr=True), transient=True):
        graded[run].append(
            grade_answers(
                backend,
                tokenizer,
                rows.select(part),
                reward,
                sampling=runs[run],
                timeout=evaluate.reward_timeout,
            )
        )
    joined = [GradedAnswers(*map(np.concatenate, zip(*answers, strict=True))) for answers in graded]
    return joined[0], joined[1] if evaluate.samples else None


def _measure(
    greedy: GradedAnswers, sampled: GradedAnswers | None, chosen: NDArray[np.bool_], evaluate: EvaluateConfig
) -> dict[str, Any]:
    right = greedy.right[chosen, 0]
    level = evaluate.confidence_level
    measured: dict[str, Any] = {
        "greedy": {
            "accuracy": float(right.mean()),
            "interval": wilson_interval(int(right.sum()), len(right), level),
            "tokens": float(greedy.tokens[chosen].mean()),
            "truncated": float(greedy.truncated[chosen].mean()),
        }
    }
    if sampled is not None:
        measured["sampled"] = {
            "tokens": float(sampled.tokens[chosen].mean()),
            "truncated": float(sampled.truncated[chosen].mean()),
        }
        measured["pass_at"] = {}
        for k in evaluate.pass_at or []:
            values = pass_at_k(sampled.right[chosen], k)
            found = over_prompts(values, level, seed=evaluate.seed, resamples=_RESAMPLES)
            measured["pass_at"][str(k)] = {"value": found.value, "interval": (found.low, found.high)}
    return measured


def _chance(rows: Dataset, judged: NDArray[np.bool_]) -> float | None:
    """Accuracy of guessing among the options."""
    if "options" not in rows.column_names:
        return None
    counts = [len(options) for options, known in zip(rows["options"], judged, strict=True) if known and options]
    return float(np.mean([1 / count for count in counts])) if counts else None


def print_evaluation(result: dict[str, Any]) -> None:
    """Print an evaluation as a table: all prompts, and each subject."""
    level = f"{result['confidence_level']:.0%}"
    measured = [*result.get("subjects", {}).items(), ("all", result)]
    rows = [
        {"subject": name, "prompts": str(part["prompts"])}
        | {f"greedy accuracy ({level})": _cell(part["greedy"]["accuracy"], part["greedy"]["interval"])}
        | {f"pass@{k} ({level})": _cell(one["value"], one["interval"]) for k, one in part.get("pass_at", {}).items()}
        for name, part in measured
    ]
    console = Console()
    title = f"{result['adapter'] or result['model']} on {result['dataset_name']}"
    print_rows(rows, title=title, elsewhere="the file of --output", console=console, bold=[len(rows) - 1])
    for line in _remarks(result):
        console.print(line, soft_wrap=True, markup=False)


def _cell(value: float, interval: tuple[float, float]) -> str:
    return f"{value:.3f} ({interval[0]:.3f} to {interval[1]:.3f})" if np.isfinite(interval[0]) else f"{value:.3f}"


def _remarks(result: dict[str, Any]) -> Iterator[str]:
    if result["chance"] is not None:
        yield f"Guessing among the options would reach {result['chance']:.3f}."
    if result["overlap"]:
        yield result["overlap"]["text"]
    if result["prompts_without_reward"]:
        yield f"{result['prompts_without_reward']} rows have no answer that {result['reward']} could judge."
    if result["greedy"]["truncated"] > 0:
        yield f"max_completion_length cut off {result['greedy']['truncated']:.0%} of the greedy answers."
