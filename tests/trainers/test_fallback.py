"""Trainers on rollouts tell of a curriculum that falls short of random order, and let the latter take over."""

import logging

import numpy as np
import pytest
from trl import GRPOConfig

from edco_rl import ConfigurationError, CurriculumConfig, CurriculumGRPOTrainer, Strategy

from .support import ROLLOUTS, TRAINERS, length_reward, sums

HOPELESS = sums(20)["prompt"][:4]


class Worst(Strategy):
    def select(self, n):
        return np.arange(n)


def differs_elsewhere(prompts, **kwargs):
    return [float(number % 2 and prompt not in HOPELESS) for number, prompt in enumerate(prompts)]


@pytest.mark.parametrize("fallback", [None, True])
def test_a_run_is_told_once_that_its_curriculum_falls_short(tiny_model_path, tmp_path, caplog, fallback):
    config = CurriculumConfig(
        strategy=f"{__name__}:Worst", curriculum_interval=2, curriculum_exploration=0.5, curriculum_fallback=fallback
    )
    args = GRPOConfig(**ROLLOUTS | {"max_steps": 10, "output_dir": str(tmp_path)})
    trainer = CurriculumGRPOTrainer(tiny_model_path, differs_elsewhere, args, sums(20), curriculum=config)
    with caplog.at_level(logging.WARNING, logger="edco_rl"):
        trainer.train()
    [told] = [record.getMessage() for record in caplog.records if "in random order" in record.getMessage()]
    assert told.startswith("Optimizer step 6, strategy ") and "differed in 0.0% of the groups" in told
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert "curriculum/signal_drawn" not in logs[0]
    assert logs[3]["curriculum/signal_drawn"] == 0 and logs[3]["curriculum/groups_with_signal"] > 0
    if fallback:
        assert [entry["curriculum/fallback"] for entry in logs] == [0.0] * 5 + [1.0] * 5  # renewed after step 6
        assert trainer.curriculum.pool.visits[:2].max() < 10  # until then in every step
    else:
        assert logs[-1]["curriculum/signal_random"] > 0.5 and "curriculum/fallback" not in logs[-1]


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        ("sft", {}, "curriculum_fallback compares groups of rollouts, and this trainer has none"),
        ("ppo", {"num_generations": 1}, "compares rewards within groups, and num_generations is 1"),
    ],
)
def test_without_groups_to_compare_it_is_refused(tiny_model_path, tmp_path, method, settings, message):
    trainer_class, config_class, defaults = TRAINERS[method]
    config = CurriculumConfig(strategy="edco", curriculum_fallback=True)
    args = config_class(**defaults | settings | {"output_dir": str(tmp_path)})
    rows = sums(completion=[str(i) for i in range(13)])
    rewards = {} if method == "sft" else {"reward_funcs": length_reward}
    with pytest.raises(ConfigurationError, match=message):
        trainer_class(tiny_model_path, args=args, train_dataset=rows, curriculum=config, **rewards)
