"""An audit from Python: what the pool is made of, and which curriculum would find groups with a signal in it.

The same as `edco-rl audit`, which has an engine do the work: here transformers does, on a few prompts.

python recipes/examples/audit_from_python.py [MODEL]
"""

import os
import sys
from pathlib import Path

from edco_rl import DataConfig, EngineConfig, EstimatorConfig
from edco_rl.audit.audit import run_audit
from edco_rl.config import AuditConfig

found = run_audit(
    AuditConfig(
        model_name_or_path=sys.argv[1]
        if sys.argv[1:]
        else os.path.expanduser("~/.cache/edco_rl/SmolLM2-135M-Instruct"),
        dataset_name=str(Path(__file__).with_name("questions.jsonl")),
        samples=16,  # prompts; 128 by default
        reference_samples=8,  # answers a prompt
        num_generations=4,  # of a group, as in training
        estimators=["prefix_entropy", "option_entropy"],
        output_dir="runs/audit",
    ),
    EstimatorConfig(scoring_prefix_tokens=1, scoring_sequence_tokens=4),  # the longest answer, as in training
    EngineConfig(engine_mode="none"),
    DataConfig(),
)
for kind in ("mastered", "learnable", "hopeless"):
    share = found["pool"][kind]
    print(f"{kind}: {share['value']:.2f} ({share['low']:.2f} to {share['high']:.2f})")
print("strategy:", found["advice"]["strategy"])
