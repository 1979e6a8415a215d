"""Rollouts one generation batch ahead of the optimizer, and weights that are pushed every few steps."""

import threading
from dataclasses import replace

import pytest
import requests
from datasets import Dataset

from edco_rl import ConfigurationError, CurriculumConfig, EngineConfig, EngineError, EngineLostError
from edco_rl.engine import client as client_module
from edco_rl.engine.supervisor import Supervisor
from edco_rl.runs.recorder import RunRecorder, read_records
from edco_rl.store import plain

from ..engine.own_server import StandInServer
from .support import TRAINERS, length_reward, sums

BESIDE = "tests.engine.own:BesideEngine"
RANDOM = CurriculumConfig(strategy="random")


def make(model, folder, kind="grpo", curriculum=RANDOM, reward=length_reward, engine=None, rows=40, **changes):
    trainer, config, settings = TRAINERS[kind]
    args = config(**settings | {"output_dir": str(folder), "max_steps": 4} | changes)
    return trainer(
        model,
        reward,
        args,
        rows if isinstance(rows, Dataset) else sums(rows),
        curriculum=curriculum,
        engine=EngineConfig(**{"engine_mode": BESIDE} | (engine or {})),
    )


AHEAD = {"rollouts_ahead": 1}
NAMES = ("loss", "grad_norm", "reward", "completions/mean_length")
SAMPLED = "sampling/sampling_logp_difference/max"


def run(trainer, **kwargs):
    """Train, and return what each step logged, and prompt and version of each of its groups."""
    groups = []
    trainer.outcome_observers.append(lambda said: groups.extend((o.version, o.index) for o in said if o.rewards))
    trainer.train(**kwargs)
    trainer.close()
    return [entry for entry in trainer.state.log_history if "loss" in entry], groups


def numbers(steps):
    """Up to the rounding of a matrix product, which depends on the thread it is computed in."""
    return [pytest.approx([step.get(name, 0.0) for name in NAMES], rel=1e-4, abs=1e-6) for step in steps]


def values(steps):
    return [[step.get(name, 0.0) for name in NAMES] for step in steps]


@pytest.mark.parametrize(("kind", "changes"), [("grpo", {"num_iterations": 2, "max_steps": 6}), ("ppo", {})])
def test_with_weights_that_stay_a_run_ahead_is_the_one_that_waits(tiny_model_path, tmp_path, kind, changes):
    """Then it does not matter how old they are: the same prompts, completions and losses."""
    still = {"kind": kind, "learning_rate": 0.0, **changes}
    waiting = make(tiny_model_path, tmp_path, **still)
    ahead = make(tiny_model_path, tmp_path, engine=AHEAD, **still)
    (steps, groups), (steps_ahead, groups_ahead) = run(waiting), run(ahead)
    assert values(steps_ahead) == numbers(steps) and len(steps) == ahead.state.max_steps
    assert [index for _, index in groups_ahead] == [index for _, index in groups]
    assert plain(ahead.curriculum.pool.visits) == plain(waiting.curriculum.pool.visits)
    assert all(in_main for *_, in_main in waiting.engine_was.generated)
    assert [in_main for *_, in_main in ahead.engine_was.generated] == [True] + [False] * (len(groups) // 4 - 1)


@pytest.fixture(autouse=True)
def keep_engine(monkeypatch):
    """A closed trainer's engine, as `engine_was`."""
    from edco_rl.trainers.engine_mixin import EngineMixin

    close = EngineMixin.close

    def closing(self):
        self.engine_was = self.engine or getattr(self, "engine_was", None)
        close(self)

    monkeypatch.setattr(EngineMixin, "close", closing)


def test_rollouts_are_of_weights_one_step_old_and_the_loss_is_corrected_for_it(tiny_model_path, tmp_path):
    steps, groups = run(make(tiny_model_path, tmp_path))
    assert [version for version, _ in groups] == [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4
    assert all(step[SAMPLED] < 1e-4 and "engine/rollout_age" not in step for step in steps)

    trainer = make(tiny_model_path, tmp_path, engine=AHEAD)
    recorder = RunRecorder(trainer, tmp_path, {}, lambda: None)
    recorder.begin(None)
    steps, groups = run(trainer)
    assert [version for version, _ in groups] == [0] * 8 + [1] * 4 + [2] * 4
    assert [step["engine/rollout_age"] for step in steps] == [0, 1, 1, 1]
    assert steps[0][SAMPLED] < 1e-4 and all(step[SAMPLED] > 1e-3 for step in steps[1:])
    assert all(step["sampling/importance_sampling_ratio/max"] > 1.001 for step in steps[1:])
    records = [line for line in read_records(recorder.path) if line["kind"] == "step"]
    assert [line["versions"] for line in records] == [[0] * 4, [0] * 4, [1] * 4, [2] * 4]
    for line in records:  # what is drawn ahead is recorded with the step that trains on it
        assert sorted(line["prompts"]) == sorted(group[0] for group in line["groups"])
    again, groups_again = run(make(tiny_model_path, tmp_path, engine=AHEAD))
    assert values(again) == numbers(steps) and groups_again == groups


def test_the_engine_works_while_the_trainer_does(tiny_model_path, tmp_path):
    """The rollouts of each batch but the first wait for the rewards of the one before it."""
    rewarded, waited = threading.Semaphore(0), []

    def reward(completions, **kwargs):
        rewarded.release()
        return length_reward(completions)

    trainer = make(tiny_model_path, tmp_path, reward=reward, engine=AHEAD)
    trainer.engine.before = lambda number: number == 1 or waited.append(rewarded.acquire(timeout=20))
    run(trainer)
    assert waited == [True] * 3


SCORED = CurriculumConfig(
    strategy="edco", curriculum_interval=2, scoring_prefix_tokens=1, scoring_quick_answer=False, curriculum_size=8
)


@pytest.mark.parametrize(
    ("curriculum", "engine", "changes"),
    [
        (RANDOM, AHEAD, {}),
        (SCORED, AHEAD, {"num_iterations": 2}),
        (SCORED, {"sync_interval": 3}, {}),
        (SCORED, AHEAD | {"sync_interval": 2}, {}),
    ],
    ids=["ahead", "edco-ahead-reused", "edco-interval", "edco-ahead-interval"],
)
def test_a_run_resumes_exactly(tiny_model_path, tmp_path, engine, changes, curriculum):
    settings = {"engine": engine, "curriculum": curriculum, "max_steps": 6, **changes}
    saving = settings | {"save_strategy": "steps", "save_steps": 3}
    steps, groups = run(whole := make(tiny_model_path, tmp_path, **saving))
    resumed = make(tiny_model_path, tmp_path, **saving)
    steps_resumed, groups_resumed = run(resumed, resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert values(steps_resumed) == numbers(steps)
    assert groups[-len(groups_resumed) :] == groups_resumed and len(groups_resumed) < len(groups)
    assert plain(resumed.curriculum.state_dict()) == plain(whole.curriculum.state_dict())
    # Without the setting the prompts that were drawn are rolled out in their turn.
    late = make(tiny_model_path, tmp_path, **saving | {"engine": {}})
    _, groups_late = run(late, resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    first = {index for _, index in groups_resumed[:4]}
    assert {index for _, index in groups_late[:4]} == first


def test_batches_of_another_size_are_refused_where_one_is_drawn_ahead(tiny_model_path, tmp_path):
    run(make(tiny_model_path, tmp_path, engine=AHEAD, save_strategy="steps", save_steps=2))
    other = make(tiny_model_path, tmp_path, engine=AHEAD, num_generations=4)
    with pytest.raises(ConfigurationError, match="num_generations 2, this run has 4, and with rollouts_ahead"):
        other.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    other.close()


def test_rollouts_of_an_engine_that_was_lost_are_made_again_in_their_turn(tiny_model_path, tmp_path, caplog):
    trainer = make(tiny_model_path, tmp_path, engine=AHEAD)
    trainer.engine.faults = {3: EngineLostError("The engine was ended by SIGKILL.")}  # ahead, of the third batch
    _, groups = run(trainer)
    assert "SIGKILL. Its rollouts are made again." in caplog.text
    assert [version for version, _ in groups] == [0] * 8 + [2] * 8
    assert trainer.engine_was.generated[3] == (2, 4, True)
    assert trainer.curriculum.pool.visits.sum() == 16


def test_an_engine_that_fails_ahead_leaves_a_checkpoint_that_passes_no_prompts_over(tiny_model_path, tmp_path):
    trainer = make(tiny_model_path, tmp_path, engine=AHEAD)
    trainer.engine.faults = {3: EngineError("It answered what cannot be used.")}
    with pytest.raises(EngineError, match=r"cannot be used. Optimizer step 2 is done: resume_from_checkpoint"):
        run(trainer)
    trainer.close()
    batch = trainer.curriculum.batch.tolist()
    resumed = make(tiny_model_path, tmp_path, engine=AHEAD)
    _, groups = run(resumed, resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert [index for _, index in groups[:4]] == sorted(batch) or {i for _, i in groups[:4]} == set(batch)
    assert [version for version, _ in groups] == [2] * 8
    assert resumed.curriculum.pool.visits.sum() == 16


def test_training_goes_on_with_a_server_that_dies_while_the_optimizer_works(tiny_model_path, tmp_path, monkeypatch):
    """The thread that asks it only tells; the trainer's own waits for it, and gives it the weights again."""
    monkeypatch.setattr(client_module, "VLLMServer", StandInServer)
    monkeypatch.setattr(Supervisor, "interval", 0.05)
    curriculum = replace(SCORED, curriculum_scoring_ahead=True, scoring_top_logprobs=3)
    trainer = make(
        tiny_model_path, tmp_path, engine=AHEAD | {"engine_mode": "server"}, curriculum=curriculum, max_steps=6
    )
    url, told, versions = trainer.engine.url, [], []

    def spoil(outcomes):
        versions.extend(sorted({one.version for one in outcomes}))
        if versions == [0, 0, 0]:  # scores, and the rollouts of two steps: others are asked for or about to be
            requests.post(f"{url}/fault", json=[["die"]], timeout=5).raise_for_status()
            told.append(len(versions))

    trainer.outcome_observers.append(spoil)
    trainer.train()
    assert told and trainer.interruptions()["restarts"] == 1
    trainer.close()
    assert trainer.curriculum.pool.visits.sum() == 6 * 4
    assert versions[-1] == 4  # and the last batch is one step behind again


@pytest.mark.parametrize(("interval", "pushed"), [(1, [0, 1, 2, 3, 4, 5, 6]), (3, [0, 3, 6])])
def test_weights_are_pushed_every_few_steps(tiny_model_path, tmp_path, interval, pushed):
    trainer = make(tiny_model_path, tmp_path, engine={"sync_interval": interval}, max_steps=7)
    steps, groups = run(trainer)
    assert trainer.engine_was.pushed == pushed
    expected = [max(version for version in pushed if version <= step) for step in range(7)]
    assert [version for version, _ in groups[::4]] == expected
    for step, version in enumerate(expected):
        assert (steps[step][SAMPLED] > 1e-3) == (version < step)


def test_scoring_and_evaluation_have_the_current_weights(tiny_model_path, tmp_path):
    scored = []
    trainer = make(tiny_model_path, tmp_path, curriculum=SCORED, engine={"sync_interval": 4}, max_steps=5)
    trainer.outcome_observers.append(lambda said: scored.extend(o.version for o in said if o.score is not None))
    run(trainer)
    assert trainer.engine_was.pushed == [0, 2, 4] and sorted(set(scored)) == [0, 2, 4]
    evaluated = make(tiny_model_path, tmp_path, engine={"sync_interval": 9}, max_steps=3, eval_strategy="no")
    evaluated.eval_dataset = None
    with pytest.raises(ValueError, match="eval_dataset"):
        evaluated.evaluate()
    evaluated.train()
    evaluated.evaluate(sums(4))
    assert evaluated.engine.pushed == [0, 3]
    evaluated.close()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"engine": AHEAD | {"engine_mode": "tests.engine.own:CopiedModel"}},
            "rollouts_ahead needs an engine that works",
        ),
        ({"engine": AHEAD, "kind": "rloo"}, "rollouts_ahead 1 has rollouts made by older weights, and CurriculumRLOO"),
        ({"engine": {"sync_interval": 2}, "kind": "rloo"}, "sync_interval 2 .* GRPO and PPO do"),
        (
            {"engine": {"sync_interval": 2}, "vllm_importance_sampling_correction": False},
            "sync_interval 2 .* set vllm_importance_sampling_correction to true",
        ),
        ({"engine": AHEAD, "curriculum": CurriculumConfig(gates=["equal_rewards"])}, "gates .* leave one of the two"),
        ({"engine": AHEAD, "steps_per_generation": 1}, "must be a multiple of gradient_accumulation_steps 2"),
        ({"engine": {"rollouts_ahead": 2}}, "rollouts_ahead must be a whole number"),
        ({"engine": {"sync_interval": 0}}, "sync_interval must be a whole number"),
    ],
)
def test_settings_that_cannot_work_are_refused(tiny_model_path, tmp_path, settings, message):
    with pytest.raises(ConfigurationError, match=message):
        make(tiny_model_path, tmp_path, **settings)
