"""The mixin before trainers this package knows nothing of: TRL's DPO and KTO, one with its own constructor."""

import pytest
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer

from edco_rl import ConfigurationError, CurriculumConfig, CurriculumMixin, Outcome
from edco_rl.store import plain

from .support import TRAINING, logged, sums


class CurriculumDPOTrainer(CurriculumMixin, DPOTrainer):
    pass


class CurriculumKTOTrainer(CurriculumMixin, KTOTrainer):
    pass


class LossObservingDPOTrainer(CurriculumDPOTrainer):
    """Has a constructor of its own, and tells the curriculum the loss of each batch's prompts."""

    def __init__(self, model, scale, **kwargs):
        self.scale = scale
        super().__init__(model, **kwargs)

    def compute_loss(self, model, inputs, *args, **kwargs):
        loss = super().compute_loss(model, inputs, *args, **kwargs)
        step, batch = self.state.global_step, self.curriculum.batch.tolist()
        self.observe([Outcome(index, step, rewards=(min(loss.item() * self.scale, 1.0),)) for index in batch])
        return loss


def preferences(rows=8):
    return sums(
        rows, chosen=[f" {i + i * i}" for i in range(rows)], rejected=[f" {i - i * i} or so" for i in range(rows)]
    )


def arguments(folder, cls=DPOConfig, **changes):
    settings = TRAINING | {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}
    return cls(**(settings | {"output_dir": str(folder)} | changes))


def test_random_is_stock_dpo_exactly(tiny_model_path, tmp_path):
    names = ("loss", "grad_norm", "rewards/chosen", "logps/rejected")

    def run(trainer, **kwargs):
        return logged(
            trainer(tiny_model_path, args=arguments(tmp_path), train_dataset=preferences(), **kwargs), *names
        )

    stock = run(DPOTrainer)
    assert len(stock) == 5 and stock[0].keys() == set(names)
    assert run(CurriculumDPOTrainer, curriculum="random") == stock


def test_kto_trains_from_easy_to_hard_by_scores_of_the_model_itself(tiny_model_path, tmp_path):
    rows = sums(8, completion=[f" {i + i * i}" for i in range(8)], label=[i % 2 == 0 for i in range(8)])
    config = CurriculumConfig(strategy="perplexity", curriculum_interval=10)
    args = arguments(tmp_path, KTOConfig, max_steps=2, per_device_train_batch_size=2)
    trainer = CurriculumKTOTrainer(tiny_model_path, args=args, train_dataset=rows, curriculum=config)
    drawn = []
    select = trainer.curriculum.strategy.select
    trainer.curriculum.strategy.select = lambda n: drawn.append(select(n)) or drawn[-1]
    [first, _] = logged(trainer, "loss", "curriculum/difficulty_p50", "time/scoring")
    assert first.keys() == {"loss", "curriculum/difficulty_p50", "time/scoring"}
    scores = trainer.curriculum.strategy.buffer.scores
    order = [index for batch in drawn for index in batch]
    assert sorted(order) == list(range(8)) and list(scores[order]) == sorted(scores)


def test_a_trainer_of_ones_own_can_tell_what_it_knows_and_resumes_exactly(tiny_model_path, tmp_path):
    def make():
        args = arguments(tmp_path, max_steps=4, gradient_accumulation_steps=1, save_strategy="steps", save_steps=2)
        return LossObservingDPOTrainer(
            tiny_model_path, 0.5, args=args, train_dataset=preferences(), curriculum="reward_variance"
        )

    whole = make()
    whole.train()
    known = whole.curriculum.strategy.signals["reward_variance"].buffer.known
    assert known.sum() == whole.curriculum.visits.prompts >= 4
    resumed = make()
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert plain(resumed.curriculum.state_dict()) == plain(whole.curriculum.state_dict())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_dataset": preferences().remove_columns("prompt")}, "no column 'prompt'"),
        ({"curriculum": "edko"}, "Unknown strategy 'edko'"),
        ({"curriculum": CurriculumConfig(gates=["equal_rewards"])}, "judge groups of rollouts"),
        ({"dataloader_num_workers": 1}, "dataloader_num_workers is 1"),
        ({"auto_find_batch_size": True}, "auto_find_batch_size begins training anew .* per_device_train_batch_size"),
    ],
)
def test_wrong_input_is_refused_before_a_model_is_loaded(tmp_path, changes, message):
    settings = {name: changes[name] for name in changes if hasattr(DPOConfig, name)}
    given = {"args": arguments(tmp_path, **settings), "train_dataset": preferences()}
    given |= {name: value for name, value in changes.items() if name not in settings}
    with pytest.raises(ConfigurationError, match=message):
        CurriculumDPOTrainer("/nowhere/model", **given)
