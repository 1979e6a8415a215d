"""Prompts scored while the optimizer works on the step before a new curriculum."""

import threading

import pytest

from edco_rl import (
    ConfigurationError,
    CurriculumConfig,
    EngineConfig,
    EngineError,
    EngineLostError,
)
from edco_rl.runs.recorder import RunRecorder, read_records
from edco_rl.store import plain

from .support import TRAINERS, length_reward, sums, taught_by

BESIDE = {"engine_mode": "tests.engine.own:BesideEngine"}


def curriculum(**settings):
    common = {"strategy": "edco", "curriculum_interval": 2, "scoring_prefix_tokens": 1, "scoring_quick_answer": False}
    return CurriculumConfig(**common | {"curriculum_size": 8, "curriculum_candidates": 12} | settings)


def make(kind, model, folder, engine=BESIDE, ahead=True, settings=None, **changes):
    trainer, config, own = TRAINERS[kind]
    args = config(**own | {"output_dir": str(folder), "max_steps": 5} | changes)
    return trainer(
        model,
        *taught_by(kind, model),
        args=args,
        train_dataset=sums(30, completion=[f" {i}" for i in range(30)]),
        curriculum=curriculum(curriculum_scoring_ahead=ahead, **(settings or {})),
        engine=None if engine is None else EngineConfig(**engine),
    )


def run(trainer, **kwargs):
    """Train, and return prompt, version and score of each scoring, and the prompts drawn."""
    scored = []
    trainer.outcome_observers.append(
        lambda said: scored.append([(o.index, o.version, o.score) for o in said if o.score is not None])
    )
    trainer.train(**kwargs)
    return [said for said in scored if said]


def engine_scorings(trainer, tokens=12):
    return [(step, in_main) for step, prompts, in_main in trainer.engine.generated if prompts == tokens]


@pytest.mark.parametrize("kind", ["grpo", "sft"])
def test_scores_are_of_the_weights_the_step_before_began_with(tiny_model_path, tmp_path, kind):
    trainer = make(kind, tiny_model_path, tmp_path)
    recorder = RunRecorder(trainer, tmp_path, {}, lambda: None)
    recorder.begin(None)
    scored = run(trainer)
    assert engine_scorings(trainer) == [(0, True), (1, False), (3, False)]
    assert [{version for _, version, _ in said} for said in scored] == [{0}, {1}, {3}]
    records = [line for line in read_records(recorder.path) if line["kind"] == "scores"]
    assert [(line["step"], line["version"], line["prompts"]) for line in records] == [
        (0, 0, 12),
        (2, 1, 12),
        (4, 3, 12),
    ]
    pushed = trainer.engine.pushed
    trainer.close()
    assert pushed == ([0, 1, 2, 3, 4] if kind == "grpo" else [0, 1, 3])
    # What a run does is the same however long a scoring takes.
    slow = make(kind, tiny_model_path, tmp_path)
    slow.engine.before = lambda number: threading.Event().wait(0.2)
    again = run(slow)
    slow.close()
    assert [[one[:2] for one in said] for said in again] == [[one[:2] for one in said] for said in scored]
    assert [s for said in again for *_, s in said] == pytest.approx([s for said in scored for *_, s in said], abs=1e-4)
    assert plain(slow.curriculum.pool.visits) == plain(trainer.curriculum.pool.visits)


def test_with_weights_that_stay_it_is_the_run_that_waits(tiny_model_path, tmp_path):
    scored, visits = [], []
    for ahead in (False, True):
        trainer = make("grpo", tiny_model_path, tmp_path, ahead=ahead, learning_rate=0.0)
        scored.append([[(index, round(score, 4)) for index, _, score in said] for said in run(trainer)])
        visits.append(plain(trainer.curriculum.pool.visits))
        assert [in_main for _, in_main in engine_scorings(trainer)] == (
            [True] * 3 if not ahead else [True, False, False]
        )
        trainer.close()
    assert scored[0] == scored[1] and visits[0] == visits[1] and len(scored[0]) == 3


def test_the_engine_scores_while_the_trainer_works(tiny_model_path, tmp_path):
    """The first scoring beside the optimizer waits for the rewards of its step."""
    rewarded, waited = threading.Event(), []
    trainer = make("grpo", tiny_model_path, tmp_path, max_steps=3)

    def before(number):
        if number == 4:  # after the one before training, and the rollouts of two steps
            waited.append(rewarded.wait(timeout=20))

    def reward(completions, **kwargs):
        if len(trainer.engine.generated) >= 3:
            rewarded.set()
        return length_reward(completions)

    trainer.reward_funcs[0] = reward
    trainer.engine.before = before
    run(trainer)
    assert waited == [True] and engine_scorings(trainer) == [(0, True), (1, False)]
    trainer.close()


@pytest.mark.parametrize("changes", [{}, {"num_iterations": 2}], ids=str)
def test_a_run_resumes_exactly_from_either_side_of_a_scoring(tiny_model_path, tmp_path, changes):
    saving = {"save_strategy": "steps", "save_steps": 1, **changes}
    whole = make("grpo", tiny_model_path, tmp_path, **saving)
    scored = run(whole)
    whole.close()
    for step in (1, 2):
        resumed = make("grpo", tiny_model_path, tmp_path / str(step), **saving)
        again = run(resumed, resume_from_checkpoint=str(tmp_path / f"checkpoint-{step}"))
        resumed.close()
        assert [[one[:2] for one in said] for said in again] == [
            [one[:2] for one in said] for said in scored[-len(again) :]
        ]
        assert len(again) == (2 if step == 1 else 1)
        assert plain(resumed.curriculum.pool.visits) == plain(whole.curriculum.pool.visits)


def test_an_engine_that_is_lost_scores_again_and_one_that_fails_leaves_a_checkpoint(tiny_model_path, tmp_path, caplog):
    trainer = make("grpo", tiny_model_path, tmp_path)
    trainer.engine.faults = {4: EngineLostError("The engine was ended by SIGKILL.")}
    scored = run(trainer)
    assert "SIGKILL. The prompts are scored again." in caplog.text
    assert [{version for _, version, _ in said} for said in scored] == [{0}, {2}, {3}]
    trainer.close()

    trainer = make("grpo", tiny_model_path, tmp_path)
    trainer.engine.faults = {4: EngineError("It answered what cannot be used.")}
    with pytest.raises(EngineError, match=r"cannot be used. Optimizer step 2 is done: resume_from_checkpoint"):
        trainer.train()
    trainer.close()
    resumed = make("grpo", tiny_model_path, tmp_path)
    scored = run(resumed, resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert [{version for _, version, _ in said} for said in scored] == [{2}, {3}]
    assert resumed.curriculum.pool.visits.sum() == 5 * 4
    resumed.close()


@pytest.mark.parametrize(
    ("engine", "mode"),
    [(None, "none"), ({"engine_mode": "tests.engine.own:CopiedModel"}, "tests.engine.own:CopiedModel")],
)
def test_it_needs_an_engine_in_a_process_of_its_own(tiny_model_path, tmp_path, engine, mode):
    with pytest.raises(ConfigurationError, match=f"curriculum_scoring_ahead needs an engine .*; it is {mode}"):
        make("grpo", tiny_model_path, tmp_path, engine=engine)


def test_it_works_with_one_server(tiny_model_path, tmp_path):
    urls = ["http://127.0.0.1:1", "http://127.0.0.1:2"]
    with pytest.raises(ConfigurationError, match="works with one server, and engine_url names 2"):
        make("grpo", tiny_model_path, tmp_path, engine={"engine_url": urls})
