"""What begins anew with each round: the optimizer's moments, the learning-rate schedule, and TRL's reference model."""

import pytest
from transformers import TrainerCallback
from trl import GRPOConfig, SFTConfig

from edco_rl import ConfigurationError, CurriculumConfig, CurriculumGRPOTrainer, CurriculumSFTTrainer
from edco_rl.errors import EdcoRLError

from .support import ROLLOUTS, TRAINING, length_reward, logged, sums


class Watch(TrainerCallback):
    """Notes at the end of each step how many parameters the optimizer knows something of, and the learning rate."""

    def __init__(self, trainer):
        self.known = []
        self.rates = []
        trainer.add_callback(self)

    def on_step_end(self, args, state, control, optimizer=None, lr_scheduler=None, **kwargs):
        self.known.append(len(optimizer.state))
        self.rates += lr_scheduler.get_last_lr()[:1]


def fine_tuning(model, folder, curriculum, **changes):
    settings = TRAINING | {"per_device_train_batch_size": 2, "output_dir": str(folder)} | changes
    rows = sums(8, completion=[f" {i + i * i}" for i in range(8)])
    config = CurriculumConfig(strategy="random", **curriculum)
    trainer = CurriculumSFTTrainer(model, SFTConfig(**settings), train_dataset=rows, curriculum=config)
    return trainer, Watch(trainer)


def group_training(model, folder, curriculum, reward=length_reward, **changes):
    args = GRPOConfig(**(ROLLOUTS | {"output_dir": str(folder)} | changes))
    return CurriculumGRPOTrainer(model, reward, args, sums(), curriculum=CurriculumConfig(**curriculum))


def test_the_optimizer_forgets_at_each_renewal_also_after_a_restart(tiny_model_path, tmp_path):
    def run(reset, folder, resume=None):
        curriculum = {"curriculum_interval": 2, "curriculum_reset_optimizer": reset}
        settings = {"max_steps": 5, "save_strategy": "steps", "save_steps": 2}
        trainer, watch = fine_tuning(tiny_model_path, folder, curriculum, **settings)
        trainer.train(resume_from_checkpoint=resume)
        return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry], watch.known

    kept, known = run(False, tmp_path / "kept")
    assert min(known) > 0
    losses, known = run(True, tmp_path / "reset")
    every = known[0]
    assert known == [every, 0, every, 0, every]  # the end is no renewal
    # The third step's update is the first without moments: the fourth loss shows it.
    assert losses[:3] == kept[:3] and losses[3] != kept[3] and losses[4] != kept[4]
    again, _ = run(True, tmp_path / "reset", str(tmp_path / "reset" / "checkpoint-2"))
    assert again == losses


@pytest.mark.parametrize("reset", [False, True])
def test_with_stages_the_optimizer_forgets_as_each_begins_also_after_a_restart(tiny_model_path, tmp_path, reset):
    """Two phases of two steps each, and a renewal at every one."""
    rows = sums(8, completion=[f" {i + i * i}" for i in range(8)], phase=[0] * 4 + [1] * 4)
    steps = []

    def run(resume=None):
        curriculum = {"strategy": "phases", "curriculum_interval": 1, "curriculum_reset_optimizer": reset}
        settings = TRAINING | {"per_device_train_batch_size": 2, "output_dir": str(tmp_path), "max_steps": 4}
        args = SFTConfig(**settings | {"save_strategy": "steps", "save_steps": 2})
        trainer = CurriculumSFTTrainer(
            tiny_model_path, args, train_dataset=rows, curriculum=CurriculumConfig(**curriculum)
        )
        parameter = next(trainer.model.parameters())
        steps.clear()

        class Count(TrainerCallback):
            def on_step_end(self, args, state, control, optimizer=None, **kwargs):
                steps.append(int(optimizer.state[parameter]["step"]))  # updates the moments are made of

        trainer.add_callback(Count())
        trainer.train(resume_from_checkpoint=resume)
        return list(steps)

    expected = [1, 2, 1, 2] if reset else [1, 2, 3, 4]
    assert run() == expected
    assert run(str(tmp_path / "checkpoint-2")) == expected[2:]


@pytest.mark.parametrize("per_round", [False, True])
def test_the_learning_rate_runs_over_all_or_anew_in_each_round(tiny_model_path, tmp_path, per_round):
    """From 1e-3 down to a twentieth of it, as EDCO's fine-tuning."""
    curriculum = {"curriculum_interval": 4, "curriculum_lr_schedule_per_round": per_round}
    settings = {"max_steps": 9, "lr_scheduler_type": "polynomial", "lr_scheduler_kwargs": {"lr_end": 5e-5}}
    trainer, watch = fine_tuning(tiny_model_path, tmp_path, curriculum, **settings)
    trainer.train()
    # What the step after the i-th is taken with.
    done = [i % 4 / 4 if per_round else i / 9 for i in range(1, 10)]
    assert watch.rates == pytest.approx([1e-3 - 0.95e-3 * share for share in done])


def test_a_schedule_that_looks_at_more_than_the_step_cannot_begin_anew(tiny_model_path, tmp_path):
    curriculum = {"curriculum_interval": 2, "curriculum_lr_schedule_per_round": True}
    trainer, _ = fine_tuning(tiny_model_path, tmp_path, curriculum)
    trainer.args.lr_scheduler_type = "reduce_lr_on_plateau"
    with pytest.raises(
        ConfigurationError, match="curriculum_lr_schedule_per_round needs a schedule of the step alone"
    ):
        trainer.train()


def test_trl_resets_the_reference_of_the_kl_term_each_round(tiny_model_path, tmp_path):
    """With a mixture of 1, the policy itself: the KL term is nil in the first step of a round, and in no other."""
    settings = {"max_steps": 6, "beta": 0.1, "learning_rate": 1e-2}
    settings |= {"sync_ref_model": True, "ref_model_sync_steps": 3, "ref_model_mixup_alpha": 1.0}
    curriculum = {"strategy": "random", "curriculum_interval": 3}
    trainer = group_training(tiny_model_path, tmp_path, curriculum, **settings)
    kl = [step["kl"] for step in logged(trainer, "kl")]
    assert kl[0] == kl[3] == pytest.approx(0, abs=1e-9)
    assert min(kl[1:3] + kl[4:]) > 1e-6


@pytest.mark.parametrize("what", ["fill", "error"])
def test_a_batch_that_gates_leave_short_is_filled_or_an_error(tiny_model_path, tmp_path, what):
    """Where all rewards are equal, no group passes."""
    curriculum = {"strategy": "random", "gates": ["equal_rewards"], "gate_max_refills": 1, "gate_if_short": what}
    trainer = group_training(tiny_model_path, tmp_path, curriculum, lambda completions, **_: [1.0] * len(completions))
    if what == "fill":
        assert [step["curriculum/groups_missing"] for step in logged(trainer, "curriculum/groups_missing")] == [
            4.0
        ] * 5
    else:
        message = "At optimizer step 0 the gates equal_rewards have admitted 0 of 4 groups after 1 refills"
        with pytest.raises(EdcoRLError, match=message):
            trainer.train()
