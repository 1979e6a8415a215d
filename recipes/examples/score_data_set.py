"""Scores of a data set as a table: how unsure the model is of each answer, in nats.

The same as `edco-rl score`: it takes any size, and goes on where it was stopped.

python recipes/examples/score_data_set.py [MODEL]
"""

import os
import sys
from pathlib import Path

import pyarrow.parquet as pq

from edco_rl import DataConfig, EngineConfig, EstimatorConfig
from edco_rl.config import ScoreConfig
from edco_rl.runs.score import run_score

run_score(
    ScoreConfig(
        model_name_or_path=sys.argv[1]
        if sys.argv[1:]
        else os.path.expanduser("~/.cache/edco_rl/SmolLM2-135M-Instruct"),
        dataset_name=str(Path(__file__).with_name("questions.jsonl")),
        output="runs/scores.parquet",
    ),
    EstimatorConfig(estimator="option_entropy"),  # over the options' labels, 0 to 1
    EngineConfig(engine_mode="none"),  # transformers; "colocate" is vLLM in this process
    DataConfig(),
)
table = pq.read_table("runs/scores.parquet").sort_by([("score", "descending")])
for row in table.select(["id", "score"]).slice(0, 5).to_pylist():
    print(f"{row['score']:.3f}  {row['id']}")
