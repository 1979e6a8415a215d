"""Held-out prompts of a run, and how the answers to them are judged."""

from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from ..config import RunConfig
from ..data.ids import prompt_ids
from ..engine.protocol import Sampling
from ..rewards import RewardFunction, get_reward, get_rewards
from ..store import fingerprint
from .grading import grade_answers

METRICS = {"accuracy": "accuracy", "rouge_l": "ROUGE-L"}
"""What is measured, by its name in results: the share of full rewards, or the mean reward."""


@dataclass(frozen=True)
class HeldOut:
    """Held-out prompts, and how they are answered.

    Args:
        rows (`datasets.Dataset`, *optional*), reward (`RewardFunction`, *optional*):
            The prompts, and what judges the answers; without either nothing is measured.
        sampling (`Sampling`, *optional*):
            How prompts are answered, by default greedily with one token; what several answers earn is averaged.
        metric (`str`, *optional*, defaults to `"accuracy"`):
            One of `METRICS`.
    """

    rows: Dataset | None
    reward: RewardFunction | None = None
    sampling: Sampling = field(default_factory=lambda: Sampling(1, temperature=0.0))
    metric: str = "accuracy"

    @classmethod
    def judged_by(
        cls, reward: RewardFunction | str | None, rows: Dataset | None, max_tokens: int, run: RunConfig
    ) -> Self:
        """Held-out prompts whose answers a reward judges, one of that name with its `reward_kwargs`."""
        if rows is None or reward is None:
            return cls(rows)
        metric = "accuracy"
        if isinstance(reward, str):
            metric = reward if reward in METRICS else metric
            reward = get_reward(reward, **reward_kwargs(run).get(reward, {}))
        sampling = Sampling(max_tokens, run.held_out_samples, run.held_out_temperature)
        return cls(rows, reward, sampling, metric)

    @property
    def answers(self) -> str:
        """How prompts are answered, as a table says it."""
        if self.sampling.temperature == 0:
            return "greedy"
        return f"mean of {self.sampling.n} at temperature {self.sampling.temperature:g}"

    def __len__(self) -> int:
        return 0 if self.rows is None else len(self.rows)

    @property
    def fingerprint(self) -> str | None:
        """The same for the same prompts in the same order."""
        return None if self.rows is None else fingerprint(prompt_ids(self.rows))

    def subjects(self) -> list[str] | None:
        """The rows' `subject`, one a prompt; `None` with fewer than two different ones."""
        if self.rows is None or "subject" not in self.rows.column_names:
            return None
        found = list(map(str, self.rows["subject"]))
        return found if len(set(found)) > 1 else None

    def by_subject(self, before: NDArray[np.float64], after: NDArray[np.float64]) -> dict[str, dict[str, float]]:
        """What answers earned before and after training, by the rows' `subject`; empty with fewer than two of them.

        Args:
            before (`NDArray[np.float64]`), after (`NDArray[np.float64]`):
                What the answers to each prompt earned, NaN where it cannot be judged, shape (P,).
        """
        subjects = np.array(self.subjects() or [""] * len(self))
        judged = ~np.isnan(before) & ~np.isnan(after)
        names = sorted(set(subjects[judged]))
        return {
            name: {
                "prompts": int(chosen.sum()),
                f"{self.metric}_before": float(before[chosen].mean()),
                f"{self.metric}_after": float(after[chosen].mean()),
            }
            for name in (names if len(names) > 1 else ())
            for chosen in [judged & (subjects == name)]
        }

    def measure(self, trainer: Any, timeout: float | None = None) -> NDArray[np.float64] | None:
        """What the trainer's weights earn on each prompt, shape (P,); `None` where there is nothing to measure.

        A collective: called on every rank, `None` on all but the first.

        Args:
            trainer (`Trainer`):
                A trainer with a curriculum.
            timeout (`float`, *optional*):
                Seconds that a call of the reward may take.
        """
        if self.rows is None or self.reward is None:
            return None
        with trainer.scoring_backend() as backend:
            if backend is None or not trainer.accelerator.is_main_process:
                return None
            with trainer.stopwatch("evaluation"):
                graded = grade_answers(
                    backend,
                    trainer.row_tokenizer,
                    self.rows,
                    self.reward,
                    sampling=self.sampling,
                    timeout=timeout,
                )
        return (graded.right if self.metric == "accuracy" else graded.rewards).mean(axis=1)


def training_rewards(script: Any, run: RunConfig) -> list[RewardFunction]:
    """The rewards a run is trained on, with their `reward_kwargs`; those of `held_out_reward` alone are not theirs.

    Raises:
        ConfigurationError: There is no such reward, or it does not take them.
    """
    names = script.reward_funcs or []
    kwargs = {
        name: values for name, values in reward_kwargs(run).items() if name in names or name != run.held_out_reward
    }
    return get_rewards(names, kwargs)


def reward_kwargs(run: RunConfig) -> dict[str, dict[str, Any]]:
    """Keyword arguments of rewards by their names."""
    assert not isinstance(run.reward_kwargs, str)  # the configuration has parsed it
    return run.reward_kwargs or {}
