import pytest
from trl import RLOOConfig, RLOOTrainer

from edco_rl import CurriculumConfig, CurriculumRLOOTrainer
from edco_rl.store import plain

from .support import ROLLOUTS, length_reward, logged, sums

LOGGED = ("loss", "grad_norm", "reward", "reward_std", "entropy", "kl", "num_tokens")


def make(trainer, model, folder, reward=length_reward, rows=13, curriculum=None, **changes):
    args = RLOOConfig(**(ROLLOUTS | {"output_dir": str(folder)} | changes))
    more = {} if curriculum is None else {"curriculum": curriculum}
    return trainer(model, reward, args, sums(rows), **more)


@pytest.mark.parametrize("changes", [{}, {"num_iterations": 2, "beta": 0.0}, {"shuffle_dataset": False}])
def test_random_without_an_engine_is_stock_trl_exactly(tiny_model_path, tmp_path, changes):
    stock = logged(make(RLOOTrainer, tiny_model_path, tmp_path, **changes), *LOGGED)
    ours = make(CurriculumRLOOTrainer, tiny_model_path, tmp_path, curriculum="random", **changes)
    assert len(stock) == 5 and stock[0].keys() > {"loss", "grad_norm", "reward"}
    assert logged(ours, *LOGGED) == stock


def signal_in_some(completions, prompts, **kwargs):
    """Rewards differ within the groups of every other prompt only, whatever is generated."""
    return [float(i % 2 and int(prompt.split()[0]) % 2) for i, prompt in enumerate(prompts)]


def test_a_gate_drops_groups_without_signal_and_the_batch_stays_full(tiny_model_path, tmp_path):
    config = CurriculumConfig(strategy="random", gates=["equal_rewards"], gate_max_refills=4)
    trainer = make(CurriculumRLOOTrainer, tiny_model_path, tmp_path, signal_in_some, 24, config, max_steps=3)
    seen, trained = [], []
    trainer.curriculum.strategy.observe = seen.extend
    original = trainer._compute_loss
    trainer._compute_loss = lambda model, inputs: trained.append(inputs) or original(model, inputs)
    steps = logged(trainer, "frac_reward_zero_std", "curriculum/groups_missing")
    assert {len(inputs["completion_ids"]) for inputs in trained} == {4} and len(trained) == 6
    assert all(inputs["advantages"].abs().min() > 0.1 for inputs in trained)
    assert all(outcome.admitted == (outcome.index % 2 == 1) for outcome in seen) and len(seen) > 12
    assert steps == [{"frac_reward_zero_std": 0.0, "curriculum/groups_missing": 0}] * 3


def test_a_run_learns_from_rewards_and_resumes_exactly(tiny_model_path, tmp_path):
    config = CurriculumConfig(strategy="combined", curriculum_interval=2, scoring_prefix_tokens=2)
    saving = {"max_steps": 6, "save_strategy": "steps", "save_steps": 3}
    whole = make(CurriculumRLOOTrainer, tiny_model_path, tmp_path, curriculum=config, **saving)
    whole.train()
    known = whole.curriculum.strategy.signals["reward_variance"].buffer.known
    assert known.sum() == whole.curriculum.visits.prompts > 4
    resumed = make(CurriculumRLOOTrainer, tiny_model_path, tmp_path, curriculum=config, **saving)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert plain(resumed.curriculum.state_dict()) == plain(whole.curriculum.state_dict())


def test_sharing_prompts_changes_the_speed_only(tiny_model_path, tmp_path):
    names = ("loss", "grad_norm", "reward", "entropy")
    stock = logged(make(CurriculumRLOOTrainer, tiny_model_path, tmp_path, curriculum="random"), *names)
    args = RLOOConfig(**(ROLLOUTS | {"output_dir": str(tmp_path)}))
    shared = CurriculumRLOOTrainer(
        tiny_model_path, length_reward, args, sums(), curriculum="random", share_prompts=True
    )
    for expected, found in zip(stock, logged(shared, *names), strict=True):
        assert found == pytest.approx(expected, rel=1e-3, abs=1e-5)
