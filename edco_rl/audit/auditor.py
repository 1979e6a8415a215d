"""Measures estimators on the same prompts, step by step, each kept on disk so that a killed audit goes on."""

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from ..config import EstimatorConfig
from ..data.lengths import check_lengths
from ..data.prompts import Prompt
from ..data.tokens import Row, RowTokenizer, name_row
from ..engine.protocol import Completion, GenerationBackend, Sampling
from ..entropy import TokenLogprobs
from ..rewards import RewardFunction
from ..runs.grading import grade
from ..scoring import RowScorer
from ..statistics import FloatArray
from ..store import once_value
from .candidates import Candidate

Arrays = dict[str, FloatArray]

# Put before a prompt, to see whether a deterministic score says something of the question or only of its wording.
_REWORDING = "Here is a question for you.\n\n"
# Reference sequences are made for these many prompts at a time.
_PROMPTS_AT_A_TIME = 16


@dataclass(frozen=True)
class Measurement:
    """What one estimator gave in two runs.

    Args:
        candidate (`Candidate`):
            The estimator.
        values (`NDArray[np.float64]`):
            Scores, shape (2, P). The second run is over the same prompts where the estimator samples, else over
            reworded ones.
        tokens (`NDArray[np.float64]`):
            Tokens of each prompt in the first run, its own and those generated, shape (P,).
        seconds (`NDArray[np.float64]`):
            Time of each run, shape (2,).
    """

    candidate: Candidate
    values: FloatArray
    tokens: FloatArray
    seconds: FloatArray


class Auditor:
    """Runs estimators on the same prompts.

    Args:
        rows (`datasets.Dataset`):
            The prompts, with the columns estimators and reward need.
        tokenizer ([`~edco_rl.data.tokens.RowTokenizer`]):
            Makes token ids of rows.
        source (`GenerationBackend`):
            Gives log-probabilities.
        vocabulary_size (`int`):
            Width of the model's output distribution.
        folder (`Path`):
            Where each step's measurements are kept.
        made_from (`dict`):
            All that they depend on.
        reward (`Callable`, *optional*):
            Reward of an answer.
        log (`Callable[[str], None]`):
            Told what is going on.

    Raises:
        ConfigurationError: The folder holds measurements that were made from something else.
    """

    def __init__(
        self,
        rows: Dataset,
        tokenizer: RowTokenizer,
        source: GenerationBackend,
        vocabulary_size: int,
        folder: Path,
        made_from: dict[str, Any],
        reward: RewardFunction | None,
        log: Callable[[str], None],
    ) -> None:
        self.dataset = rows
        self.rows = rows.to_list()
        self.reworded = [{**row, "prompt": reword(row["prompt"])} for row in self.rows]
        self.tokenizer = tokenizer
        self.source = source
        self.vocabulary_size = vocabulary_size
        self.folder = folder
        self.made_from = made_from
        self.reward = reward
        self.log = log
        self._is_warm = False
        once_value(folder / "settings", made_from, lambda: None)

    def check_lengths(self, candidates: Sequence[Candidate]) -> None:
        """Check that the rows are no longer than what answers them takes.

        Raises:
            ConfigurationError: A row is; it is named.
        """
        for scorer in [self._scorer(candidate.config) for candidate in candidates]:
            lengths, most = scorer.lengths(scorer.encode(self.rows)), self.source.max_model_len()
            check_lengths(lengths, most, f"what {scorer.name} adds to it", lambda n: name_row(self.rows[n]))

    def measure(self, candidate: Candidate) -> Measurement:
        """Two runs of an estimator, each from an empty prefix cache."""
        scorer = self._scorer(candidate.config)

        def run(rows: Sequence[Row]) -> dict[str, Any]:
            started = self._start()
            encoded = scorer.encode(rows)
            scores = scorer.score(encoded, self.source)
            seconds = time.perf_counter() - started
            tokens = [len(prompt) + score.tokens for prompt, score in zip(encoded.prompts, scores, strict=True)]
            self.log(f"{candidate.label}: {seconds:.1f} s")
            return {"values": [score.value for score in scores], "tokens": tokens, "seconds": seconds}

        again = self.rows if candidate.is_sampled else self.reworded
        runs = [
            self._step(f"{candidate.label}-{number}", lambda rows=rows: run(rows))  # type: ignore[misc]
            for number, rows in enumerate((self.rows, again))
        ]
        return _measurement(candidate, runs)

    def full_sequences(self, unit: Candidate, rollout: Candidate) -> tuple[Measurement, Measurement]:
        """Two runs of one full sequence a prompt, and what its own tokens say for free."""
        scorers = {"values": self._scorer(unit.config), "free": self._scorer(rollout.config)}
        request = scorers["values"].request

        def run() -> dict[str, Any]:
            started = self._start()
            prompts = scorers["values"].encode(self.rows).prompts
            answers = self.source.generate(
                prompts,
                Sampling(
                    request.max_tokens,
                    temperature=request.temperature,
                    top_p=request.top_p,
                    top_logprobs=request.top_logprobs,
                ),
            )
            scores = {name: self._values(scorer, answers)[:, 0] for name, scorer in scorers.items()}
            seconds = time.perf_counter() - started
            tokens = [len(prompt) + len(c.token_ids) for prompt, [c] in zip(prompts, answers, strict=True)]
            self.log(f"{unit.label}: {seconds:.1f} s")
            return {**scores, "tokens": tokens, "seconds": seconds}

        runs = [self._step(f"{unit.label}-{number}", run) for number in range(2)]
        nothing = {"tokens": np.zeros(len(self.rows)), "seconds": np.array(0.0)}
        return _measurement(unit, runs), _measurement(rollout, [{"values": r["free"], **nothing} for r in runs])

    def reference(self, config: EstimatorConfig, samples: int, temperature: float, top_p: float) -> Arrays:
        """`values`, `rewards` and `lengths` of several full sequences a prompt, each of shape (P, S)."""
        scorer = self._scorer(replace(config, estimator="sequence_entropy"))

        def run(start: int) -> dict[str, Any]:
            self._start()
            rows = self.dataset.select(range(start, min(start + _PROMPTS_AT_A_TIME, len(self.rows))))
            answers = self.source.generate(
                scorer.encode(rows.to_list()).prompts,
                Sampling(
                    scorer.request.max_tokens, samples, temperature, top_p, top_logprobs=scorer.request.top_logprobs
                ),
            )
            self.log(f"reference: {start + len(rows)} of {len(self.rows)} prompts")
            graded = grade(answers, self.tokenizer.tokenizer, rows, self.reward)
            return {"values": self._values(scorer, answers), "rewards": graded.rewards, "lengths": graded.tokens}

        starts = range(0, len(self.rows), _PROMPTS_AT_A_TIME)
        chunks = [self._step(f"reference-{start}", lambda start=start: run(start)) for start in starts]  # type: ignore[misc]
        return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}

    def greedy_rewards(self, max_tokens: int) -> FloatArray:
        """Reward of the greedy answer to each prompt, shape (P,); NaN without one."""

        def run() -> dict[str, Any]:
            self._start()
            prompts = self._scorer(EstimatorConfig(estimator="sequence_entropy")).encode(self.rows).prompts
            answers = self.source.generate(prompts, Sampling(max_tokens, temperature=0.0))
            self.log("greedy answers")
            return {"rewards": grade(answers, self.tokenizer.tokenizer, self.dataset, self.reward).rewards[:, 0]}

        return self._step("greedy-answers", run)["rewards"]

    def _step(self, name: str, make: Callable[[], dict[str, Any]]) -> Arrays:
        """What a step gave: read where it was done before, else made and kept."""
        made = once_value(step_path(self.folder, name), self.made_from, make)
        return {key: np.array(values, dtype=np.float64) for key, values in made.value.items()}

    def _scorer(self, config: EstimatorConfig) -> RowScorer:
        return RowScorer(self.tokenizer, config, vocabulary_size=self.vocabulary_size)

    def _start(self) -> float:
        """Begin a measurement on a warm engine that remembers no prompt, and return the time."""
        if not self._is_warm:  # the first requests compile and allocate
            scorer = self._scorer(EstimatorConfig(scoring_prefix_tokens=4, scoring_samples=4, scoring_temperature=1.0))
            scorer.score(scorer.encode(self.rows[:16]), self.source)
            self._is_warm = True
        self.source.reset_prefix_cache()
        return time.perf_counter()

    def _values(self, scorer: RowScorer, answers: Sequence[Sequence[Completion]]) -> FloatArray:
        """Score of each answer on its own, shape (P, S)."""
        return np.array(
            [
                [
                    scorer.estimator.score([TokenLogprobs(c.logprobs, c.top_logprobs)], self.vocabulary_size).value
                    for c in group
                ]
                for group in answers
            ]
        )


def step_path(folder: Path, name: str) -> Path:
    """Where a step's measurements are kept."""
    return folder / re.sub(r"[^A-Za-z0-9_.=]+", "-", name).strip("-")


def _measurement(candidate: Candidate, runs: Sequence[Arrays]) -> Measurement:
    values, seconds = (np.array([run[name] for run in runs]) for name in ("values", "seconds"))
    return Measurement(candidate, values, runs[0]["tokens"], seconds)


def reword(prompt: Prompt) -> Prompt:
    """The same question in slightly other words."""
    if isinstance(prompt, str):
        return _REWORDING + prompt
    first = next((i for i, message in enumerate(prompt) if message["role"] == "user"), 0)
    messages = list(prompt)
    messages[first] = {**prompt[first], "content": _REWORDING + prompt[first]["content"]}
    return messages
