"""A run that resumes with something changed, and runs that are stopped, saved and evaluated at any moment."""

import numpy as np
import pytest
from transformers import TrainerCallback

from edco_rl import ConfigurationError, CurriculumConfig

from .support import ON_ROLLOUTS, TRAINERS, length_reward, sums, taught_by

CONFIG = CurriculumConfig(
    strategy="combined", curriculum_interval=2, scoring_prefix_tokens=1, scoring_quick_answer=False
)
SAVING = {"save_strategy": "steps", "save_steps": 1, "max_steps": 3}
# RLOO and PPO resume as GRPO does, by the same methods.
ALL = pytest.mark.parametrize("kind", ["grpo", "sft", "distillation"])


def rows(count, moved=0):
    """Rows with ids, each `moved` places from where it was."""
    order = [(number + moved) % count for number in range(count)]
    answers = [f" {number + number * number}" for number in range(count)]
    return sums(count, id=[f"row {number}" for number in range(count)], completion=answers).select(order)


def make(kind, model, folder, dataset, curriculum=CONFIG, eval_dataset=None, **changes):
    trainer, config, settings = TRAINERS[kind]
    args = config(**(settings | SAVING | {"output_dir": str(folder)} | changes))
    return trainer(
        model,
        *taught_by(kind, model),
        args=args,
        train_dataset=dataset,
        eval_dataset=eval_dataset,
        curriculum=curriculum,
    )


def learned(trainer):
    """What the curriculum knows, by prompt id, of what a checkpoint keeps."""
    ids = list(trainer.curriculum.pool.ids)

    def by_id(name, value):
        if isinstance(value, dict):
            return {inner: by_id(inner, entry) for inner, entry in value.items() if inner not in ("keys", "settings")}
        if isinstance(value, list):
            return [by_id(name, entry) for entry in value]
        return named(name, value) if isinstance(value, np.ndarray) else value

    def named(name, value):
        if value.ndim == 2 and name in ("drawn", "new"):  # of the watch: a prompt, and what is known of it
            return sorted([ids[index], *rest] for index, *rest in value.tolist())
        if name in ("drawn", "drawn_before", "batch", "queue", "ranked_first"):
            prompts = [ids[index] for index in value]
            return set(prompts) if "drawn" in name else prompts
        if len(value) != len(ids):
            return value.tolist()
        # What prompts begin with is left out.
        entries = zip(ids, np.nan_to_num(value, nan=-1.0).tolist(), strict=True)
        return {one: entry for one, entry in entries if entry not in (0, -1)}

    return by_id("", trainer.curriculum.state_dict())


@pytest.fixture(scope="module")
def run(tiny_model_path, tmp_path_factory):
    """Returns a run of three steps over 12 rows, with a checkpoint after each, and its folder."""
    runs = {}

    def get(kind):
        if kind not in runs:
            folder = tmp_path_factory.mktemp(kind)
            trainer = make(kind, tiny_model_path, folder, rows(12))
            trainer.train()
            runs[kind] = trainer, folder
        return runs[kind]

    return get


def resume(trainer, checkpoint):
    """Resume, and return how many prompts were drawn; each of them was trained on."""
    before, trained = [], []

    class Look(TrainerCallback):
        def on_train_begin(self, args, state, control, **kwargs):
            before.append(trainer.curriculum.pool.visits.sum())

    trainer.add_callback(Look())
    trainer.outcome_observers.append(lambda said: trained.extend(one for one in said if one.rewards is not None))
    trainer.train(resume_from_checkpoint=str(checkpoint))
    drawn = trainer.curriculum.pool.visits.sum() - before[0]
    assert drawn == len(trained)
    return drawn


@pytest.mark.parametrize(
    ("kind", "count", "moved"),
    [("grpo", 24, 0), ("grpo", 12, 4), *((kind, 17, 5) for kind in TRAINERS)],
)
def test_a_pool_that_grew_or_moved_keeps_what_was_learned_and_draws_nothing_in_vain(
    tiny_model_path, tmp_path, run, kind, count, moved
):
    whole, folder = run(kind)
    same = make(kind, tiny_model_path, tmp_path / "same", rows(count, moved))
    assert resume(same, folder / "checkpoint-3") == 0  # all its steps are done
    assert learned(same) == learned(whole) and len(learned(whole)["visits"]) > 4
    longer = make(kind, tiny_model_path, tmp_path / "longer", rows(count, moved), max_steps=8)
    assert resume(longer, folder / "checkpoint-3") == 5 * 4
    assert longer.state.global_step == 8 and longer.curriculum.pool.visits.sum() == 8 * 4


@ALL
def test_more_epochs_or_steps_go_on_where_the_run_was(tiny_model_path, tmp_path, run, kind):
    """The checkpoint is on the edge of an epoch; the pool lasts three steps."""
    _, folder = run(kind)
    for name, changes, steps in (
        ("epochs", {"max_steps": -1, "num_train_epochs": 2.5}, 8),
        ("steps", {"max_steps": 7}, 7),
        ("fewer", {"max_steps": 2}, 3),
    ):
        more = make(kind, tiny_model_path, tmp_path / name, rows(12), **changes)
        assert resume(more, folder / "checkpoint-3") == 4 * (steps - 3)
        assert more.state.global_step == steps


@pytest.mark.parametrize("kind", ["grpo", "sft"])
@pytest.mark.parametrize(
    ("checkpoint", "changes", "prompts"),
    [
        (1, {"gradient_accumulation_steps": 1}, 0.5),
        (3, {"gradient_accumulation_steps": 3}, 1.5),
        (2, {"per_device_train_batch_size": 6, "gradient_accumulation_steps": 1}, None),
        (2, {"ignore_data_skip": True}, 1),
        (2, {"num_generations": 4}, 0.5),
    ],
    ids=str,
)
def test_batches_of_another_size_are_drawn_from_what_was_learned(
    tiny_model_path, tmp_path, run, kind, checkpoint, changes, prompts
):
    if kind not in ON_ROLLOUTS and "num_generations" in changes:
        pytest.skip("no groups")
    _, folder = run(kind)
    step = 4 * prompts if prompts else 3 if kind in ON_ROLLOUTS else 6
    other = make(kind, tiny_model_path, tmp_path, rows(12), max_steps=6, **changes)
    assert resume(other, folder / f"checkpoint-{checkpoint}") == (6 - checkpoint) * step
    assert other.state.global_step == 6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"per_device_train_batch_size": 2}, "per_device_train_batch_size 4, this run has 2"),
        ({"num_generations": 4}, "num_generations 2, this run has 4"),
        ({"num_iterations": 3}, "num_iterations 2, this run has 3"),
        ({"gradient_accumulation_steps": 1}, "gradient_accumulation_steps 2, this run has 1"),
    ],
)
@pytest.mark.parametrize("kind", ["grpo"])
def test_within_a_generation_batch_another_size_is_refused_by_its_setting(
    tiny_model_path, tmp_path, kind, changes, message
):
    reusing = {"num_iterations": 2, "curriculum": "random"}
    make(kind, tiny_model_path, tmp_path, rows(12), **reusing).train()
    other = make(kind, tiny_model_path, tmp_path, rows(12), **(reusing | {"max_steps": 4} | changes))
    with pytest.raises(ConfigurationError, match=message):
        other.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    again = make(kind, tiny_model_path, tmp_path / "other", rows(12), **(reusing | {"max_steps": 4} | changes))
    assert resume(again, tmp_path / "checkpoint-2") > 0


class Doing(TrainerCallback):
    """Sets a control at an event, once after each of given steps."""

    def __init__(self, control, steps, event):
        self.control = control
        self.steps = list(steps)
        setattr(self, event, self._set)

    def _set(self, args, state, control, **kwargs):
        if state.global_step in self.steps:
            self.steps.remove(state.global_step)
            setattr(control, self.control, True)


@ALL
@pytest.mark.parametrize(
    ("control", "steps", "event", "reached"),
    [
        ("should_epoch_stop", (1,), "on_step_end", 4),  # transformers counts epochs: two were to be
        ("should_epoch_stop", (2,), "on_substep_end", 5),
        ("should_training_stop", (4,), "on_step_end", 4),
        ("should_save", (2,), "on_step_begin", 6),
        ("should_evaluate", (1, 3, 4), "on_step_end", 6),
    ],
)
def test_callbacks_stop_save_and_evaluate_at_will(tiny_model_path, tmp_path, kind, control, steps, event, reached):
    settings = {"save_strategy": "no", "max_steps": 6, "eval_dataset": rows(4)}
    trainer = make(kind, tiny_model_path, tmp_path, rows(12), **settings)
    trainer.add_callback(Doing(control, steps, event))
    trained = []
    trainer.outcome_observers.append(lambda said: trained.extend(one for one in said if one.rewards is not None))
    trainer.train()
    assert trainer.state.global_step == reached
    # A step that was left in the middle had drawn its last rows.
    drawn = trainer.curriculum.pool.visits.sum()
    assert len(trained) <= drawn <= len(trained) + (2 if event == "on_substep_end" else 0)
    assert sum("eval_loss" in entry for entry in trainer.state.log_history) == 3 * (control == "should_evaluate")
    if control == "should_save":
        resumed = make(kind, tiny_model_path, tmp_path / "resumed", rows(12), **settings)
        resume(resumed, tmp_path / "checkpoint-3")
        assert learned(resumed) == learned(trainer)


@ALL
def test_a_run_longer_than_its_pool_goes_on_over_it(tiny_model_path, tmp_path, kind):
    """Also where a checkpoint lies on the edge of an epoch, and on the last step."""
    settings = {"max_steps": -1, "num_train_epochs": 3, "save_strategy": "epoch"}
    whole = make(kind, tiny_model_path, tmp_path, rows(12), **settings)
    whole.train()
    assert whole.state.global_step == 9 and whole.curriculum.pool.visits.sum() == 36
    for step in (3, 6, 9):
        resumed = make(kind, tiny_model_path, tmp_path / str(step), rows(12), **settings)
        assert resume(resumed, tmp_path / f"checkpoint-{step}") == 36 - 4 * step
        assert learned(resumed) == learned(whole)


@pytest.mark.parametrize("gates", [[], ["equal_rewards"]])
@pytest.mark.parametrize("kind", ["grpo", "rloo"])
def test_rollouts_are_those_of_their_prompts_where_a_step_takes_several_batches(
    tiny_model_path, tmp_path, kind, gates
):
    """All batches of a step are drawn before the first is rolled out."""
    rolled_out, observed = [], []

    def reward(completions, prompts, **kwargs):
        rolled_out.append(set(prompts))
        return length_reward(completions)

    trainer, config, settings = TRAINERS[kind]
    args = config(**(settings | {"output_dir": str(tmp_path), "max_steps": 4, "steps_per_generation": 1}))
    dataset = sums(13)
    curriculum = CurriculumConfig(strategy="random", gates=gates, gate_max_refills=0)
    made = trainer(tiny_model_path, reward, args=args, train_dataset=dataset, curriculum=curriculum)
    made.outcome_observers.append(lambda said: observed.append({dataset[one.index]["prompt"] for one in said}))
    made.train()
    assert len(rolled_out) == 8 and observed == rolled_out
