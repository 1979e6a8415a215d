"""A trainer of your own: TRL's DPO with a curriculum that learns from the losses.

With a pair a batch, DPO's loss is minus the logarithm of the chance the policy gives the preferred answer. That chance
is told to the strategy like a reward, and `target_pass_rate` trains on the pairs that are nearest undecided.

python recipes/examples/own_trainer.py [MODEL]
"""

import math
import os
import sys

from datasets import Dataset
from trl import DPOConfig, DPOTrainer

from edco_rl import CurriculumMixin, Outcome


class CurriculumDPOTrainer(CurriculumMixin, DPOTrainer):
    """TRL's DPO with a curriculum."""

    def compute_loss(self, model, inputs, *args, **kwargs):
        loss = super().compute_loss(model, inputs, *args, **kwargs)
        [pair] = self.curriculum.batch.tolist()
        self.observe([Outcome(pair, self.state.global_step, rewards=(math.exp(-loss.item()),))])
        return loss


if __name__ == "__main__":
    model = sys.argv[1] if sys.argv[1:] else os.path.expanduser("~/.cache/edco_rl/SmolLM2-135M-Instruct")
    pairs = [{"prompt": f"{i} + {i} =", "chosen": f" {2 * i}", "rejected": f" {2 * i + 1}"} for i in range(16)]
    trainer = CurriculumDPOTrainer(
        model,
        args=DPOConfig("runs/own_trainer", max_steps=4, per_device_train_batch_size=1, logging_steps=2, bf16=False),
        train_dataset=Dataset.from_list(pairs),
        curriculum="target_pass_rate",
    )
    trainer.train()
    print("pairs trained on:", sorted(trainer.curriculum.pool.visits.nonzero()[0].tolist()))
