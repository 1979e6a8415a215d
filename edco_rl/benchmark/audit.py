"""`edco-rl audit`: measures the estimators on a sample of a data set, and says which one to use."""

import json
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray
from rich.console import Console
from transformers import AutoConfig, AutoTokenizer

from ..config import AuditConfig, ConfigurationError, DataConfig, EngineConfig, EstimatorConfig
from ..data.load import load_prompts
from ..data.prompts import Prompt
from ..engine.completion import Completion, Generator
from ..entropy import TokenLogprobs
from ..entropy.audit import (
    Interval,
    rank_correlation,
    ratio_interval,
    ratio_of_means,
    reliability_interval,
    roc_auc,
    with_interval,
)
from ..rewards import RewardFunction, default_reward, get_reward
from ..scoring import RowScorer
from .audit_report import print_report, recommend, save_plot
from .candidates import Candidate, default_candidates, free, full_sequence, named_candidates
from .run import check_model, versions
from .score import generator, model_path

FloatArray = NDArray[np.float64]

# Put before a prompt, to see whether a deterministic score says something of the question or only of its wording.
_REWORDING = "Here is a question for you.\n\n"
# Reference samples are held as log-probabilities of these many prompts at a time.
_PROMPTS_AT_A_TIME = 64


@dataclass
class Measurement:
    """What one estimator gave.

    Args:
        candidate (`Candidate`):
            The estimator.
        values (`list[NDArray[np.float64]]`):
            Scores of both runs, shape (P,). The second is of the same prompts where the estimator samples, else of
            reworded ones.
        tokens (`NDArray[np.float64]`):
            Tokens of each prompt, its own and those generated, shape (P,).
        seconds (`list[float]`):
            Time of each run.
    """

    candidate: Candidate
    values: list[FloatArray] = field(default_factory=list)
    tokens: FloatArray = field(default_factory=lambda: np.empty(0))
    seconds: list[float] = field(default_factory=list)


class Auditor:
    """Runs estimators on the same prompts.

    Args:
        rows (`datasets.Dataset`):
            The prompts, with the columns estimators and reward need.
        tokenizer (`PreTrainedTokenizerBase`):
            The policy's tokenizer.
        source (`Generator`):
            Gives log-probabilities.
        vocabulary_size (`int`):
            Width of the model's output distribution.
        log (`Callable[[str], None]`):
            Told what is going on.
    """

    def __init__(
        self, rows: Dataset, tokenizer: Any, source: Generator, vocabulary_size: int, log: Callable[[str], None]
    ) -> None:
        self.dataset = rows
        self.rows = rows.to_list()
        self.reworded = [{**row, "prompt": reword(row["prompt"])} for row in self.rows]
        self.tokenizer = tokenizer
        self.source = source
        self.vocabulary_size = vocabulary_size
        self.log = log

    def warm_up(self) -> None:
        """Let the engine compile and allocate before anything is timed."""
        scorer = self._scorer(EstimatorConfig(prefix_tokens=4, scoring_samples=4, scoring_temperature=1.0))
        scorer.score(scorer.encode(self.rows[:64]), self.source)

    def _scorer(self, config: EstimatorConfig) -> RowScorer:
        return RowScorer(self.tokenizer, config, vocabulary_size=self.vocabulary_size)

    def measure(self, candidate: Candidate) -> Measurement:
        """Two runs of an estimator, each from an empty prefix cache."""
        scorer = self._scorer(candidate.config)
        scorer.check_columns(self.dataset.column_names)
        found = Measurement(candidate)
        for rows in (self.rows, self.rows if candidate.is_sampled else self.reworded):
            self._forget()
            started = time.perf_counter()
            encoded = scorer.encode(rows)
            scores = scorer.score(encoded, self.source)
            found.seconds.append(time.perf_counter() - started)
            found.values.append(np.array([score.value for score in scores]))
            if len(found.values) == 1:
                given = map(len, encoded.prompts)
                found.tokens = np.array([n + score.tokens for n, score in zip(given, scores, strict=True)], float)
        self.log(f"{candidate.label}: {np.mean(found.seconds):.1f} s a run")
        return found

    def full_sequences(self, unit: Candidate, rollout: Candidate) -> list[Measurement]:
        """Two runs of one full sequence a prompt, and what its own tokens say for free."""
        scorers = [self._scorer(unit.config), self._scorer(rollout.config)]
        found = [Measurement(unit), Measurement(rollout)]
        request = scorers[0].request
        for _ in range(2):
            self._forget()
            started = time.perf_counter()
            prompts = scorers[0].encode(self.rows).prompts
            answers = self.source.generate(
                prompts,
                max_tokens=request.max_tokens,
                temperature=request.temperature,
                top_logprobs=request.top_logprobs,
            )
            samples = [[TokenLogprobs(c.logprobs, c.top_logprobs) for c in group] for group in answers]
            for measurement, scorer in zip(found, scorers, strict=True):
                scores = [scorer.estimator.score(group, self.vocabulary_size) for group in samples]
                measurement.values.append(np.array([score.value for score in scores]))
            found[0].seconds.append(time.perf_counter() - started)
            found[0].tokens = np.array(
                [len(p) + len(c.token_ids) for p, [c] in zip(prompts, answers, strict=True)], float
            )
        found[1].seconds, found[1].tokens = [0.0, 0.0], np.zeros(len(self.rows))
        self.log(f"{unit.label}: {np.mean(found[0].seconds):.1f} s a run")
        return found

    def reference(self, config: EstimatorConfig, samples: int) -> tuple[FloatArray, list[list[Completion]]]:
        """Entropy of each of several full sequences a prompt, shape (P, S), and the sequences."""
        scorer = self._scorer(replace(config, estimator="sequence_entropy"))
        request = scorer.request
        values, answers = [], []
        for start in range(0, len(self.rows), _PROMPTS_AT_A_TIME):
            groups = self.source.generate(
                scorer.encode(self.rows[start : start + _PROMPTS_AT_A_TIME]).prompts,
                max_tokens=request.max_tokens,
                n=samples,
                temperature=1.0,
                top_logprobs=request.top_logprobs,
            )
            for group in groups:
                single = [[TokenLogprobs(c.logprobs, c.top_logprobs)] for c in group]
                values.append([scorer.estimator.score(one, self.vocabulary_size).value for one in single])
                # Their log-probabilities are not needed any more, and are large.
                answers.append([replace(c, top_logprobs=np.empty((0, 0))) for c in group])
            self.log(f"reference: {len(values)} of {len(self.rows)} prompts")
        return np.array(values), answers

    def greedy_answers(self, max_tokens: int) -> list[list[Completion]]:
        """The greedy answer to each prompt."""
        prompts = self._scorer(EstimatorConfig(estimator="sequence_entropy")).encode(self.rows).prompts
        return self.source.generate(prompts, max_tokens=max_tokens, temperature=0.0)

    def rewards(self, reward: RewardFunction, answers: Sequence[Sequence[Completion]]) -> FloatArray:
        """Rewards of answers, shape (P, S); NaN for an answer without one."""
        repeated = [row for row, group in zip(self.rows, answers, strict=True) for _ in group]
        texts = self.tokenizer.batch_decode(
            [answer.token_ids for group in answers for answer in group], skip_special_tokens=True
        )
        completions = [
            text if isinstance(row["prompt"], str) else [{"role": "assistant", "content": text}]
            for row, text in zip(repeated, texts, strict=True)
        ]
        columns = {name: [row[name] for row in repeated] for name in self.dataset.column_names if name != "prompt"}
        values = reward(prompts=[row["prompt"] for row in repeated], completions=completions, **columns)
        return np.array([np.nan if value is None else value for value in values]).reshape(len(self.rows), -1)

    def _forget(self) -> None:
        # A prompt scored a second time would be in the engine's cache: cheaper than it is in use.
        reset = getattr(self.source, "reset_prefix_cache", None)
        if reset is not None:
            reset()


def reword(prompt: Prompt) -> Prompt:
    """The same question in slightly other words."""
    if isinstance(prompt, str):
        return _REWORDING + prompt
    first = next((i for i, message in enumerate(prompt) if message["role"] == "user"), 0)
    messages = list(prompt)
    messages[first] = {**prompt[first], "content": _REWORDING + prompt[first]["content"]}
    return messages


def run_audit(
    audit: AuditConfig, estimator: EstimatorConfig, engine: EngineConfig, data: DataConfig
) -> dict[str, Any]:
    """Compare estimators, print the result, and write it to `audit.output_dir`.

    Returns:
        `dict[str, Any]`: what `audit.json` holds.

    Raises:
        ConfigurationError: A setting or row to be changed.
    """
    assert audit.model_name_or_path and audit.dataset_name
    console = Console(stderr=True)
    model = model_path(audit.model_name_or_path)
    check_model(model)
    rows = _sample(audit, data)
    tokenizer = AutoTokenizer.from_pretrained(model)
    width = AutoConfig.from_pretrained(model).get_text_config().vocab_size
    reward_name = audit.reward_func or default_reward(rows.column_names)
    reward = None if reward_name is None else get_reward(reward_name)
    candidates = (
        default_candidates(estimator, rows.column_names)
        if audit.estimators is None
        else named_candidates(estimator, audit.estimators)
    )
    for candidate in candidates:
        RowScorer(tokenizer, candidate.config).check_columns(rows.column_names)
    folder = Path(audit.output_dir).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    # Standard output is for the result alone, whatever a library has to say.
    with redirect_stdout(sys.stderr), generator(engine, model, tokenizer, folder / "engine.log") as source:
        auditor = Auditor(rows, tokenizer, source, width, lambda text: console.print(text, style="dim"))
        auditor.warm_up()
        measurements = [auditor.measure(candidate) for candidate in candidates]
        full, rollouts = auditor.full_sequences(full_sequence(estimator), free(estimator))
        greedy = auditor.greedy_answers(estimator.sequence_tokens)
        reference, answers = auditor.reference(estimator, audit.reference_samples)
    wrong = variance = None
    if reward is not None:
        greedy_rewards, group_rewards = auditor.rewards(reward, greedy), auditor.rewards(reward, answers)
        wrong = np.where(np.isnan(greedy_rewards[:, 0]), np.nan, greedy_rewards[:, 0] < 1.0)
        variance = group_rewards.var(axis=1)
    entries = [_entry(m, full, reference, wrong, variance, audit.seed) for m in [*measurements, rollouts, full]]
    reliability = reliability_interval(reference, seed=audit.seed)
    result: dict[str, Any] = {
        "model": audit.model_name_or_path,
        "dataset": audit.dataset_name,
        "prompts": len(rows),
        "reference": {
            "samples": audit.reference_samples,
            "max_tokens": estimator.sequence_tokens,
            "mean_tokens": float(np.mean([len(c.token_ids) for group in answers for c in group])),
            "reliability": asdict(reliability),
            "single_sample_reliability": _single_sample(reliability.value, audit.reference_samples),
            "ceiling": float(np.sqrt(max(reliability.value, 0.0))),
        },
        "reward": reward_name,
        "wrong_answers": None if wrong is None else float(np.nanmean(wrong)),
        "groups_with_reward_variance": None if variance is None else float(np.nanmean(variance > 0)),
        "full_sequence_seconds": float(np.mean(full.seconds)),
        "estimators": entries,
        "versions": versions(),
        "config": {"audit": asdict(audit), "estimator": asdict(estimator), "engine": asdict(engine)},
    }
    result["recommendation"] = recommend(result, audit.cost_limit)
    np.savez_compressed(
        folder / "measurements.npz",
        labels=np.array([m.candidate.label for m in [*measurements, rollouts, full]]),
        values=np.array([m.values for m in [*measurements, rollouts, full]]),
        reference=reference,
        wrong=np.empty(0) if wrong is None else wrong,
        reward_variance=np.empty(0) if variance is None else variance,
    )
    plain = _without_nan(result)
    (folder / "audit.json").write_text(json.dumps(plain, indent=2) + "\n")
    save_plot(result, audit.cost_limit, folder / "audit.svg")
    if audit.json:
        print(json.dumps(plain))
    else:
        print_report(result, folder)
    return plain


def _entry(
    found: Measurement,
    full: Measurement,
    reference: FloatArray,
    wrong: NDArray[Any] | None,
    variance: NDArray[Any] | None,
    seed: int,
) -> dict[str, Any]:
    first, second = found.values
    # The full sequence was drawn apart from the reference: agreement with it is no autocorrelation.
    undetermined = Interval(float("nan"), float("nan"), float("nan"))
    return {
        "label": found.candidate.label,
        "estimator": found.candidate.config.estimator,
        "settings": asdict(found.candidate.config),
        "reliability_over": "repetition" if found.candidate.is_sampled else "rewording",
        "reliability": asdict(with_interval(rank_correlation, first, second, seed=seed)),
        "reference_correlation": asdict(with_interval(rank_correlation, first, reference.mean(axis=1), seed=seed)),
        "wrong_answer_auc": asdict(undetermined if wrong is None else with_interval(roc_auc, first, wrong, seed=seed)),
        "reward_variance_correlation": asdict(
            undetermined if variance is None else with_interval(rank_correlation, first, variance, seed=seed)
        ),
        "relative_seconds": asdict(ratio_interval(np.array(found.seconds), np.array(full.seconds), seed=seed)),
        "relative_tokens": asdict(with_interval(ratio_of_means, found.tokens, full.tokens, seed=seed)),
        "seconds": float(np.mean(found.seconds)),
        "tokens": int(found.tokens.sum()),
    }


def _sample(audit: AuditConfig, data: DataConfig) -> Dataset:
    assert audit.dataset_name
    settings = asdict(data) | {"held_out_prompts": 0}
    rows, _ = load_prompts(
        audit.dataset_name,
        config_name=audit.dataset_config,
        train_split=audit.dataset_train_split,
        seed=audit.seed,
        **settings,
    )
    if len(rows) < audit.samples:
        raise ConfigurationError(
            f"dataset_name {audit.dataset_name!r} has {len(rows)} rows; samples is {audit.samples}."
        )
    return rows.shuffle(seed=audit.seed).select(range(audit.samples))


def _single_sample(reliability: float, samples: int) -> float:
    """Spearman-Brown the other way: from the reliability of a mean to that of one sample."""
    return reliability / (samples - (samples - 1) * reliability)


def _without_nan(value: Any) -> Any:
    """JSON has no NaN: what the data do not determine is null."""
    if isinstance(value, dict):
        return {name: _without_nan(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_without_nan(part) for part in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
