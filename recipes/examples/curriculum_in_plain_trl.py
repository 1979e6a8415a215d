"""A curriculum in plain TRL: score the rows once, put them in order, and train with TRL's own trainer.

The order is that of the model before training. One that follows the policy takes a trainer of this package.

python recipes/examples/curriculum_in_plain_trl.py [MODEL]
"""

import os
import sys
from pathlib import Path

import pyarrow.parquet as pq
from trl import SFTConfig, SFTTrainer

from edco_rl import DataConfig, EngineConfig, EstimatorConfig
from edco_rl.config import ScoreConfig
from edco_rl.data.load import load_prompts
from edco_rl.runs.score import run_score

model = sys.argv[1] if sys.argv[1:] else os.path.expanduser("~/.cache/edco_rl/SmolLM2-135M-Instruct")
questions = str(Path(__file__).with_name("questions.jsonl"))
scores = "runs/perplexity.parquet"
run_score(
    ScoreConfig(model_name_or_path=model, dataset_name=questions, output=scores),
    EstimatorConfig(estimator="perplexity"),  # of the reference answer
    EngineConfig(engine_mode="none"),
    DataConfig(),
)
table = pq.read_table(scores)
score_of = dict(zip(table["id"].to_pylist(), table["score"].to_pylist(), strict=True))
rows, _ = load_prompts(questions)
rows = rows.add_column("score", [score_of[row] for row in rows["id"]]).sort("score")  # easy to hard
trainer = SFTTrainer(
    model,
    args=SFTConfig(
        "runs/plain_trl",
        train_sampling_strategy="sequential",  # TRL would shuffle them
        per_device_train_batch_size=4,
        max_steps=3,
        logging_steps=1,
        bf16=False,
    ),
    train_dataset=rows.select_columns(["prompt", "completion"]),
)
trainer.train()
print("loss by step:", [round(log["loss"], 2) for log in trainer.state.log_history if "loss" in log])
