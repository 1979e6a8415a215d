"""A strategy of your own: prompts whose mean reward was nearest a target, those not tried yet before all others.

In a recipe it is `strategy: own_strategy:NearTarget` with `strategy_kwargs: {target: 0.4}`.

python recipes/examples/own_strategy.py [MODEL]
"""

import os
import sys

import numpy as np
from datasets import Dataset
from trl import GRPOConfig

from edco_rl import CurriculumConfig, CurriculumGRPOTrainer, Strategy


class NearTarget(Strategy):
    """The prompts whose mean reward was nearest `target`."""

    def __init__(self, context, *, target=0.5):
        super().__init__(context)
        self.target = target
        self.rewards = {}  # by the prompt's id, so that a data set that grew resumes

    def observe(self, outcomes):
        self.rewards |= {self.pool.ids[o.index]: float(np.mean(o.rewards)) for o in outcomes if o.rewards}

    def select(self, n):
        order = self.rng.permutation(len(self.pool))  # ties at random, and the same on every rank
        distance = [abs(self.rewards.get(self.pool.ids[i], self.target) - self.target) for i in order]
        return order[np.argsort(distance, kind="stable")[:n]]

    def state_dict(self):
        return super().state_dict() | {"rewards": self.rewards}

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.rewards = state["rewards"]


def digits(completions, **kwargs):
    """Share of digits among the characters."""
    return [sum(map(str.isdigit, text)) / max(len(text), 1) for text in completions]


if __name__ == "__main__":
    model = sys.argv[1] if sys.argv[1:] else os.path.expanduser("~/.cache/edco_rl/SmolLM2-135M-Instruct")
    trainer = CurriculumGRPOTrainer(
        model=model,
        reward_funcs=digits,
        args=GRPOConfig("runs/own_strategy", max_steps=3, max_completion_length=8, bf16=False),
        train_dataset=Dataset.from_list([{"prompt": f"Count to {i}:"} for i in range(16)]),
        curriculum=CurriculumConfig(strategy="own_strategy:NearTarget", strategy_kwargs={"target": 0.4}),
    )
    trainer.train()
    print(trainer.curriculum.strategy.rewards)
