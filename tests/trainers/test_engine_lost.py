"""A trainer whose engine is lost: it goes on with one that comes back, or leaves a checkpoint."""

import time

import pytest
import requests

from edco_rl import ConfigurationError, CurriculumConfig, EngineConfig, EngineLostError
from edco_rl.engine import client as client_module
from edco_rl.engine.server import free_port
from edco_rl.engine.supervisor import Supervisor
from edco_rl.runs.recorder import RunRecorder, read_records

from ..engine.own_server import StandInServer, start_stand_in
from .support import TRAINERS, length_reward, sums

CONFIG = CurriculumConfig(strategy="random")


def make_with(engine, model, folder):
    kind, config, settings = TRAINERS["grpo"]
    args = config(**settings | {"output_dir": str(folder), "max_steps": 3})
    return kind(model, length_reward, args, sums(40), curriculum=CONFIG, engine=engine)


def test_a_run_whose_engine_is_lost_leaves_a_checkpoint_and_passes_no_prompts_over(tiny_model_path, tmp_path):
    def make(engine):
        return make_with(EngineConfig(engine_mode=f"tests.engine.own:{engine}"), tiny_model_path, tmp_path)

    trainer = make("LosingEngine")
    with pytest.raises(EngineLostError, match=rf"SIGKILL.* step 2 is done: resume_from_checkpoint {tmp_path}") as lost:
        trainer.train()
    checkpoint = tmp_path / "checkpoint-2"
    assert str(lost.value).endswith(f"{checkpoint}.")
    batch = trainer.curriculum.batch.tolist()
    trainer.close()

    trainer = make("CopiedModel")
    recorder = RunRecorder(trainer, tmp_path, {}, lambda: None)
    recorder.begin(2)
    trained = []
    trainer.outcome_observers.append(lambda outcomes: trained.append([one.index for one in outcomes]))
    trainer.train(resume_from_checkpoint=str(checkpoint))
    trainer.close()
    assert trained == [batch] and trainer.curriculum.pool.visits.sum() == 3 * len(batch)
    [step] = [line for line in read_records(recorder.path) if line["kind"] == "step"]
    assert sorted(step["prompts"]) == sorted(batch)


def test_so_does_one_that_has_no_room_for_its_weights(tiny_model_path, tmp_path):
    own = {"engine_mode": "tests.engine.own:CopiedModel", "engine_transport": "tests.engine.own:FullTransport"}
    trainer = make_with(EngineConfig(**own), tiny_model_path, tmp_path)
    with pytest.raises(ConfigurationError, match=r"is full: the weights cannot be written.* Optimizer step 2 is done"):
        trainer.train()
    trainer.close()
    assert (tmp_path / "checkpoint-2" / "manifest.json").is_file()


def test_training_goes_on_with_a_server_that_was_started_again(tiny_model_path, tmp_path, monkeypatch):
    monkeypatch.setattr(client_module, "VLLMServer", StandInServer)
    monkeypatch.setattr(Supervisor, "interval", 0.05)
    trainer = make_with(EngineConfig(), tiny_model_path, tmp_path)
    url, served = trainer.engine.url, []

    def spoil(outcomes):  # between the rollouts of the first step and those of the second
        if not served:
            requests.post(f"{url}/fault", json=[["die"]], timeout=5).raise_for_status()
        served.append(requests.get(f"{url}/weight_info", timeout=5).json()["weight_version"].partition("-")[0])

    trainer.outcome_observers.append(spoil)
    trainer.train()
    assert trainer.interruptions()["restarts"] == 1 and trainer.interruptions()["seconds_lost"] > 0
    trainer.close()
    assert served == ["0", "1", "2"]  # the first fault hits a push or a batch of rollouts of step 1
    steps = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert [entry["engine/restarts"] for entry in steps] == [0, 1, 1]
    assert trainer.curriculum.pool.visits.sum() == 3 * trainer.curriculum.batch_size


def test_training_goes_on_with_the_server_that_is_left(tiny_model_path, tmp_path, monkeypatch):
    """Killed after the first step, and started again after the second."""
    monkeypatch.setattr(Supervisor, "interval", 0.05)
    ports = [free_port("127.0.0.1") for _ in range(2)]
    processes = [start_stand_in(port) for port in ports]
    urls, served = [f"http://127.0.0.1:{port}" for port in ports], []
    try:
        trainer = make_with(urls, tiny_model_path, tmp_path)

        def spoil(outcomes):
            served.append(requests.get(f"{urls[1]}/weight_info", timeout=5).json()["weight_version"])
            if len(served) == 1:
                processes[0].kill()
                processes[0].wait()
            if len(served) == 2:
                processes[0] = start_stand_in(ports[0])
                while trainer.engine.clients[0].condition() != "stale":
                    time.sleep(0.02)

        trainer.outcome_observers.append(spoil)
        trainer.train()
        assert [version.partition("-")[0] for version in served] == ["0", "1", "2"]
        assert requests.get(f"{urls[0]}/weight_info", timeout=5).json()["weight_version"] == served[2]
        assert trainer.interruptions()["restarts"] == 1 and trainer.interruptions()["seconds_lost"] > 0
        trainer.close()
    finally:
        for process in processes:
            process.kill()
            process.wait()
