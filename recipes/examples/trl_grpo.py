"""Stock TRL: GRPO on sums. The README shows the three lines that give it a curriculum.

python recipes/examples/trl_grpo.py [MODEL]
"""

import os
import sys

from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer


def right(completions, answer, **kwargs):
    return [float(text.strip().startswith(number)) for text, number in zip(completions, answer, strict=True)]


numbers = [(a, b) for a in range(10, 26) for b in range(10, 26)]
sums = [{"prompt": f"Question: {a} + {b} = ?\nAnswer:", "answer": str(a + b)} for a, b in numbers]
trainer = GRPOTrainer(
    model=sys.argv[1] if sys.argv[1:] else os.path.expanduser("~/.cache/edco_rl/SmolLM2-135M-Instruct"),
    reward_funcs=right,
    args=GRPOConfig("runs/script", max_steps=3, max_completion_length=8, bf16=False),  # bf16 needs a GPU
    train_dataset=Dataset.from_list(sums),
)
trainer.train()
