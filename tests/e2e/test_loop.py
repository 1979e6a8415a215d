"""The whole loop on a real engine: EDCO-GRPO from rollouts to weights and back."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest
from trl import GRPOConfig, RLOOConfig

from edco_rl import CurriculumConfig, CurriculumGRPOTrainer, CurriculumRLOOTrainer, EngineConfig
from edco_rl.engine.leftovers import SERVER_PREFIX

from .conftest import TOLERANCE, largest_difference

pytestmark = pytest.mark.engine

RECIPE = Path(__file__).parents[2] / "recipes" / "quickstart" / "grpo_edco.yaml"


def varied_reward(completions, **kwargs):
    """Differs within nearly every group, so that each step changes the weights."""
    return [float(sum(map(ord, completion)) % 7) for completion in completions]


def make_trainer(model_path, tasks, folder, engine, trainer=CurriculumGRPOTrainer, config=GRPOConfig, ahead=False):
    args = config(
        output_dir=str(folder),
        report_to="none",
        bf16=False,
        use_cpu=True,
        max_steps=4 if ahead else 2,
        per_device_train_batch_size=8,
        num_generations=4,
        max_completion_length=4,
        learning_rate=1e-4,
        lr_scheduler_type="constant",
        gradient_checkpointing=False,
        save_strategy="no",
        logging_steps=1,
        disable_tqdm=True,
        **({"vllm_importance_sampling_correction": ahead} if config is GRPOConfig else {}),
    )
    curriculum = CurriculumConfig(
        strategy="edco",
        curriculum_interval=1,
        curriculum_size=2,
        curriculum_scoring_ahead=ahead,
        scoring_prefix_tokens=2,
        scoring_quick_answer=False,
    )
    return trainer(model_path, varied_reward, args, tasks, curriculum=curriculum, engine=engine)


def step_of(version):
    return int(version.partition("-")[0])


@pytest.mark.parametrize(
    "kind",
    [
        (CurriculumGRPOTrainer, GRPOConfig),
        pytest.param((CurriculumRLOOTrainer, RLOOConfig), marks=pytest.mark.slow),
    ],
    ids=["grpo", "rloo"],
)
def test_after_training_the_engine_serves_the_trainers_weights(
    model_path, tasks, tokenizer, server_url, base_weights, tmp_path, kind
):
    """Fails when a push is left out: between the last optimizer step and `sync_engine`, the engine is one step old."""
    trainer = make_trainer(model_path, tasks, tmp_path, server_url, *kind)
    prompts = tokenizer(list(tasks["prompt"]))["input_ids"]
    try:
        trainer.train()
        model = trainer.model.eval()
        assert step_of(trainer.engine.weight_version()) == 1
        assert largest_difference(trainer.engine, model, prompts) > TOLERANCE
        trainer.sync_engine()
        assert step_of(trainer.engine.weight_version()) == 2 == trainer.state.global_step
        assert largest_difference(trainer.engine, model, prompts) < TOLERANCE
    finally:
        trainer.close()
    steps = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert all(0 < entry["curriculum/rollout_entropy"] < 11 for entry in steps)
    assert all(entry["curriculum/entropy"] >= entry["curriculum/entropy_pool"] for entry in steps)
    assert all(entry["time/rollout"] > 0 for entry in steps) and sum(entry["time/sync"] for entry in steps) > 0
    assert set(trainer.curriculum.strategy.signals["entropy"].buffer.versions) == {1}
    assert trainer.engine is None


def test_the_engine_makes_rollouts_and_scores_while_the_optimizer_works(
    model_path, tasks, server_url, base_weights, tmp_path
):
    """Its log-probabilities are those of the weights it is said to have: of the trainer's while these are as old."""
    engine = EngineConfig(engine_url=server_url, rollouts_ahead=1)
    trainer = make_trainer(model_path, tasks, tmp_path, engine, ahead=True)
    seen = []
    trainer.outcome_observers.append(lambda said: seen.append((len(said), {one.version for one in said})))
    try:
        trainer.train()
    finally:
        trainer.close()
    scores = [versions for count, versions in seen if count == len(tasks)]
    rollouts = [versions for count, versions in seen if count == 2]
    assert scores == [{0}, {0}, {1}, {2}] and rollouts == [{0}, {0}, {1}, {2}]
    steps = [entry for entry in trainer.state.log_history if "loss" in entry]
    apart = [entry["sampling/sampling_logp_difference/max"] for entry in steps]
    assert apart[0] < TOLERANCE < min(apart[1:])
    assert [entry["engine/rollout_age"] for entry in steps] == [0, 1, 1, 1]


COLOCATE = """
import json, sys
from datasets import load_from_disk
from tests.e2e.conftest import largest_difference
from tests.e2e.test_loop import make_trainer
from edco_rl import EngineConfig
model_path, data, folder = sys.argv[1:]
tasks = load_from_disk(data)
config = EngineConfig(engine_mode="colocate", engine_max_model_len=256, engine_dtype="float32")
trainer = make_trainer(model_path, tasks, folder, config)
trainer.train()
prompts = trainer.processing_class(list(tasks["prompt"]))["input_ids"]
model, engine = trainer.model.eval(), trainer.engine
stale = largest_difference(engine, model, prompts)
trainer.sync_engine()
fresh = largest_difference(engine, model, prompts)
print(json.dumps([engine.weight_version(), stale, fresh]))
trainer.close()
"""


def test_a_colocated_engine_runs_the_same_loop(model_path, tasks, tmp_path):
    tasks.save_to_disk(tmp_path / "tasks")
    done = subprocess.run(
        [sys.executable, "-c", COLOCATE, model_path, str(tmp_path / "tasks"), str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "TORCH_COMPILE_DISABLE": "1"},  # a process of its own would compile for long
    )
    assert done.returncode == 0, done.stderr[-3000:]
    version, stale, fresh = json.loads(done.stdout.splitlines()[-1])
    assert step_of(version) == 2
    assert fresh < TOLERANCE < stale


def left_by_engines():
    """Shared memory, and what vLLM and its servers have in the folder of temporary files."""
    temporary = Path(tempfile.gettempdir()).iterdir()
    ours = {p.name for p in temporary if p.is_socket() or p.name.startswith(("vllm_dist_", SERVER_PREFIX))}
    return ours | {p.name for p in Path("/dev/shm").iterdir()}


def family(pid):
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


@pytest.mark.parametrize("stage", [pytest.param("while the server starts", marks=pytest.mark.slow), "while it trains"])
def test_ctrl_c_leaves_nothing_behind(tiny_served_path, tmp_path, stage):
    before = left_by_engines()
    settings = ["--model_name_or_path", tiny_served_path, "--output_dir", str(tmp_path), "--held_out_prompts", "0"]
    command = [sys.executable, "-m", "edco_rl", "train", "grpo", "--config", str(RECIPE), *settings]
    if stage == "while it trains":
        command += ["--curriculum_candidates", "8"]
    with (tmp_path / "output").open("w") as output:
        # A shell that runs the tests in the background lets its children ignore Ctrl-C.
        command = ["env", "--default-signal=INT", *command]
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
    log = tmp_path / ("engine.log" if stage == "while the server starts" else "output")
    wanted = "INFO" if stage == "while the server starts" else "s/step"
    deadline = time.monotonic() + 240
    try:
        while not (log.exists() and wanted in log.read_text(errors="replace")):
            assert process.poll() is None, (tmp_path / "output").read_text()[-3000:]
            assert time.monotonic() < deadline
            time.sleep(0.5)
        processes = family(process.pid)
        assert len(processes) > 1
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(timeout=180) == 130  # it saves a checkpoint first
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    _, alive = psutil.wait_procs(processes, timeout=10)
    assert not alive
    assert left_by_engines() <= before


def test_accelerate_launches_the_recipe_in_two_processes(model_path, server_url, tmp_path):
    config = RECIPE.parents[1] / "accelerate_configs" / "multi_cpu.yaml"
    settings = {
        "model_name_or_path": model_path,
        "engine_url": server_url,
        "output_dir": str(tmp_path),
        "max_steps": "1",
        "curriculum_candidates": "8",
        "curriculum_size": "4",
        "held_out_prompts": "8",
        "disable_tqdm": "true",
        "per_device_train_batch_size": "4",
        "num_generations": "4",
        "share_prompts": "false",
        "use_cpu": "true",
        "gates": "equal_rewards",
        "gate_max_refills": "1",
    }
    flags = [word for name, value in settings.items() for word in (f"--{name}", value)]
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(config)]
    launch += ["--main_process_port", "0"]
    command = [*launch, "-m", "edco_rl", "train", "grpo", "--config", str(RECIPE), *flags]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["steps"] == 1 and summary["held_out_prompts"] == 8 and summary["prompts_trained_on"] >= 2
    assert 0 <= summary["accuracy_before"] <= 1 and 0 <= summary["accuracy_after"] <= 1
    assert summary["seconds"]["rollout"] > 0 and summary["seconds"]["sync"] > 0
    assert done.stdout.count("held-out accuracy before") == 1  # rank 0 alone reports
