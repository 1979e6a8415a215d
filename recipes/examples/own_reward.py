"""A reward of your own: 1 for the right number, a tenth for any other.

It takes what TRL gives rewards (prompts, completions, and each column of the rows) and returns a number for each
completion, or None where it says nothing. In a recipe it is `reward_funcs: ["own_reward:right_number"]`.

python recipes/examples/own_reward.py [MODEL]
"""

import os
import re
import sys

from datasets import Dataset
from trl import GRPOConfig

from edco_rl import CurriculumConfig, CurriculumGRPOTrainer


def right_number(completions, answer, **kwargs):
    rewards = []
    for text, number in zip(completions, answer, strict=True):
        said = re.search(r"\d+", text)
        rewards.append(0.0 if said is None else 1.0 if said[0] == number else 0.1)
    return rewards


if __name__ == "__main__":
    model = sys.argv[1] if sys.argv[1:] else os.path.expanduser("~/.cache/edco_rl/SmolLM2-135M-Instruct")
    sums = [{"prompt": f"Question: {a} + {b} = ?\nAnswer:", "answer": str(a + b)} for a in range(9) for b in range(9)]
    trainer = CurriculumGRPOTrainer(
        model=model,
        reward_funcs=right_number,
        args=GRPOConfig("runs/own_reward", max_steps=3, max_completion_length=8, logging_steps=1, bf16=False),
        train_dataset=Dataset.from_list(sums),
        # Groups whose rewards are all equal teach nothing: others take their place.
        curriculum=CurriculumConfig(strategy="random", gates=["equal_rewards"]),
    )
    trainer.train()
    print("mean reward by step:", [round(log["reward"], 2) for log in trainer.state.log_history if "reward" in log])
