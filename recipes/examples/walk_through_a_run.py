"""A walk through a run.

Editors that know cells (# %%) open it as a notebook; as a program, from the top of the repository:
[MODEL=folder] [STEPS=30] python recipes/examples/walk_through_a_run.py
"""

# %% [markdown]
# Train as a recipe says, here the quickstart's on fewer prompts and without an engine. What is given beside the recipe
# are flags, as of `edco-rl train grpo`.
# %%
import json
import os
from pathlib import Path

from matplotlib.figure import Figure

from edco_rl.cli import main
from edco_rl.runs.recorder import read_records

model = os.environ.get("MODEL", os.path.expanduser("~/.cache/edco_rl/SmolLM2-135M-Instruct"))
steps = os.environ.get("STEPS", "30")
run = Path("runs/walk")
flags = f"--engine_mode none --train_prompts 128 --held_out_prompts 32 --max_steps {steps} --output_dir {run}"
flags += " --curriculum_interval 10 --curriculum_candidates 64 --curriculum_size 32 --per_device_train_batch_size 16"
recipe = ["--config", "recipes/quickstart/grpo_edco.yaml", "--model_name_or_path", model]
main(["train", "grpo", *recipe, *flags.split()])
# %% [markdown]
# `summary.json` has the result, with the settings and versions that made it.
# %%
summary = json.loads((run / "summary.json").read_text())
print({name: summary[name] for name in ("accuracy_before", "accuracy_after", "steps", "seconds")})
# %% [markdown]
# `records.jsonl` has a line a step and a line a scoring: what the policy earns, how widely the strategy chooses, and
# how unsure the policy is of the prompts that were scored.
# %%
records = read_records(run / "records.jsonl")
trained = [line for line in records if line["kind"] == "step"]
scored = [line for line in records if line["kind"] == "scores"]
figure = Figure(figsize=(11, 3), layout="constrained")
left, middle, right = figure.subplots(1, 3)
left.plot([line["step"] for line in trained], [line["metrics"]["reward"] for line in trained])
left.set(title="mean reward", xlabel="step")
drawn = [len({prompt for line in trained[:end] for prompt in line["prompts"]}) for end in range(1, len(trained) + 1)]
middle.plot([line["step"] for line in trained], drawn)
middle.set(title="different prompts so far", xlabel="step")
right.plot([line["step"] for line in scored], [line["mean"] for line in scored], marker="o")
right.set(title="entropy of the scored prompts, nats", xlabel="step")
figure.savefig(run / "walk.svg", metadata={"Date": None})
# %% [markdown]
# ![Reward, prompts and entropy by step](../../docs/images/walk.svg)
#
# That is `STEPS=15` with SmolLM2-135M-Instruct on a CPU: a look at a run, not a result. Of 32 held-out prompts 0.375
# were right before and 0.250 after, which is within chance.
# %% [markdown]
# The report draws these and more, of one run or many, as one page.
# %%
main(["report", str(run)])
