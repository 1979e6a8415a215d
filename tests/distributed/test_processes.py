"""Runs in processes of their own: two ranks against one, and runs that are killed and resumed."""

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EDCO = {
    "strategy": "edco",
    "curriculum_interval": 4,
    "scoring_prefix_tokens": 2,
    "scoring_quick_answer": False,
    "curriculum_candidates": 20,
}
COMBINED = EDCO | {"strategy": "combined", "curriculum_exploration": 0.25, "curriculum_half_life": 8.0}
HEAD = EDCO | {"strategy": "learning_edge", "strategy_kwargs": {"hidden_state": True, "success_at": 1.0}}
GATED = EDCO | {"gates": ["equal_rewards"], "gate_max_refills": 2, "curriculum_size": 12}
ONE_STEP = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 1, "max_steps": 20}

# Rollouts are used for two optimizer steps, twice: steps 3, 5 and 6 lie within a generation batch.
REUSED = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 1, "steps_per_generation": 2}
REUSED |= {"num_iterations": 2, "beta": 0.1, "max_steps": 18}


@pytest.fixture(scope="module")
def run():
    """Trains with settings in so many processes; the exit code and what was written."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.distributed.run"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:

        def run(folder, model, curriculum, args, processes=1, check=True, **settings):
            path = write_settings(folder, model, curriculum, args, **settings)
            log = folder / "log.txt"
            log.write_text("")
            with socket.create_server(("127.0.0.1", 0)) as free:
                port = free.getsockname()[1]
            line = {"settings": str(path), "log": str(log), "processes": processes, "port": port}
            print(json.dumps(line), file=server.stdin, flush=True)
            code = int(server.stdout.readline())
            assert code == 0 or not check, log.read_text()[-3000:]
            return code, log.read_text()

        yield run
        server.stdin.close()


def write_settings(folder, model, curriculum, args, **settings):
    folder.mkdir(exist_ok=True)
    path = folder / "settings.json"
    settings |= {"folder": str(folder), "model": model, "rows": 30, "curriculum": curriculum, "args": args}
    path.write_text(json.dumps(settings))
    return path


def record(folder, rank=0):
    """Lines by step; of a step that was done twice, the last."""
    steps, losses = {}, {}
    for line in map(json.loads, (folder / f"record_{rank}.jsonl").read_text().splitlines()):
        (losses if "loss" in line else steps)[line["step"]] = line
    return steps, losses


def test_two_processes_train_on_the_prompts_of_one(run, tiny_model_path, tmp_path):
    """As accelerate launches them; scores are shared out, a gate refills, the optimizer forgets each round."""
    curriculum = GATED | {"curriculum_reset_optimizer": True}
    run(tmp_path / "one", tiny_model_path, curriculum, ONE_STEP | {"save_strategy": "no"})
    two = ONE_STEP | {"per_device_train_batch_size": 4, "save_strategy": "no"}
    path = write_settings(tmp_path / "two", tiny_model_path, curriculum, two)
    config = ROOT / "recipes" / "accelerate_configs" / "multi_cpu.yaml"
    launch = ["accelerate.commands.launch", "--config_file", str(config), "--main_process_port", "0"]
    command = [sys.executable, "-m", *launch, "-m", "tests.distributed.run", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    alone, _ = record(tmp_path / "one")
    first, second = (record(tmp_path / "two", rank)[0] for rank in (0, 1))
    assert len(alone) == 20 and first == second
    assert [first[step]["ids"] for step in first] == [alone[step]["ids"] for step in alone]
    change, change_alone = first[20]["w"] - first[1]["w"], alone[20]["w"] - alone[1]["w"]
    assert change == pytest.approx(change_alone, rel=0.01) and abs(change) > 0.01


@pytest.mark.parametrize(("before", "after"), [(2, 1), pytest.param(1, 2, marks=pytest.mark.slow)])
def test_another_number_of_processes_goes_on_with_the_same_prompts(run, tiny_model_path, tmp_path, before, after):
    folder = tmp_path / "changed"
    for processes, settings in ((before, {"kill_at": 5}), (after, {"resume": str(folder / "checkpoint-5")})):
        args = ONE_STEP | {"per_device_train_batch_size": 8 // processes, "max_steps": 10}
        run(folder, tiny_model_path, GATED, args, processes, check=processes == after, **settings)
    run(tmp_path / "one", tiny_model_path, GATED, ONE_STEP | {"max_steps": 10, "save_strategy": "no"})
    changed, alone = record(folder)[0], record(tmp_path / "one")[0]
    assert len(changed) == 10 and [changed[step]["ids"] for step in changed] == [alone[step]["ids"] for step in alone]


@pytest.mark.slow
def test_two_processes_share_the_hidden_states_that_a_strategy_asks_for(run, tiny_model_path, tmp_path):
    for processes in (1, 2):
        args = ONE_STEP | {"per_device_train_batch_size": 16 // processes, "max_steps": 6, "save_strategy": "no"}
        run(tmp_path / str(processes), tiny_model_path, HEAD, args, processes)
    alone, (first, second) = record(tmp_path / "1")[0], (record(tmp_path / "2", rank)[0] for rank in (0, 1))
    assert len(alone) == 6 and len({index for step in range(1, 5) for index in alone[step]["ids"]}) >= 16
    assert first == second
    assert [first[step]["ids"] for step in first] == [alone[step]["ids"] for step in alone]


@pytest.mark.slow
def test_two_processes_share_what_one_engine_makes_ahead(run, tiny_model_path, tmp_path):
    engine = {"engine_mode": "tests.engine.own:BesideEngine", "rollouts_ahead": 1}
    ahead = EDCO | {"curriculum_scoring_ahead": True}
    resume = {"resume": str(tmp_path / "two" / "checkpoint-3")}
    for name, processes, settings in (("one", 1, {}), ("two", 2, {}), ("again", 2, resume)):
        args = ONE_STEP | {"per_device_train_batch_size": 8 // processes, "max_steps": 10}
        run(tmp_path / name, tiny_model_path, ahead, args, processes, engine=engine, **settings)
    alone, again = record(tmp_path / "one")[0], record(tmp_path / "again")[0]
    first, second = (record(tmp_path / "two", rank)[0] for rank in (0, 1))
    assert len(alone) == 10 and first == second
    assert [first[step]["ids"] for step in first] == [alone[step]["ids"] for step in alone]
    assert [line["ids"] for line in again.values()] == [first[step]["ids"] for step in range(4, 11)]


def test_within_a_generation_batch_another_number_of_processes_is_refused(run, tiny_model_path, tmp_path):
    run(tmp_path, tiny_model_path, EDCO, REUSED | {"max_steps": 3, "per_device_train_batch_size": 8})
    args = REUSED | {"max_steps": 6}
    checkpoint = str(tmp_path / "checkpoint-3")
    code, log = run(tmp_path, tiny_model_path, EDCO, args, 2, check=False, resume=checkpoint)
    assert code == 1 and "made with per_device_train_batch_size 8, this run has 4" in log
    code, log = run(
        tmp_path, tiny_model_path, EDCO, args | {"per_device_train_batch_size": 8}, 2, check=False, resume=checkpoint
    )
    assert code == 1 and "made with processes 1, this run has 2" in log


def test_ranks_that_drift_apart_stop_and_say_so(run, tiny_model_path, tmp_path):
    drifting = {"strategy": "tests.distributed.run:Drifting"}
    args = ONE_STEP | {"per_device_train_batch_size": 4, "save_strategy": "no"}
    code, log = run(tmp_path, tiny_model_path, drifting, args, processes=2, check=False)
    assert code == 1 and "At optimizer step 0 the curriculum of ranks [1] is not in the state of rank 0's" in log


@pytest.mark.parametrize(
    ("curriculum", "args", "kill_at"),
    [
        pytest.param(EDCO, REUSED, 3, id="edco"),
        pytest.param(COMBINED, ONE_STEP | {"max_steps": 12}, 5, id="combined", marks=pytest.mark.slow),
        pytest.param(GATED, REUSED, 6, id="gated", marks=pytest.mark.slow),
    ],
)
def test_a_killed_run_resumes_exactly(run, tiny_model_path, tmp_path, curriculum, args, kill_at):
    run(tmp_path / "whole", tiny_model_path, curriculum, args | {"save_strategy": "no"})
    folder = tmp_path / "killed"
    code, _ = run(folder, tiny_model_path, curriculum, args, check=False, kill_at=kill_at)
    assert code == -signal.SIGKILL
    run(folder, tiny_model_path, curriculum, args, resume=str(folder / f"checkpoint-{kill_at}"))
    whole, whole_losses = record(tmp_path / "whole")
    resumed, resumed_losses = record(folder)
    assert len(whole) == args["max_steps"] and len({tuple(line["ids"]) for line in whole.values()}) > 3
    assert resumed == whole
    assert resumed_losses == whole_losses
