"""What trainers do with rewards that are missing, and with those that are no number."""

import pytest
from trl import GRPOConfig, GRPOTrainer, RLOOConfig

from edco_rl import (
    CurriculumConfig,
    CurriculumGRPOTrainer,
    CurriculumPPOConfig,
    CurriculumPPOTrainer,
    CurriculumRLOOTrainer,
)
from edco_rl.rewards import RewardError

from .support import ROLLOUTS, logged, sums

TRAINERS = {
    "grpo": (CurriculumGRPOTrainer, GRPOConfig),
    "rloo": (CurriculumRLOOTrainer, RLOOConfig),
    "ppo": (CurriculumPPOTrainer, CurriculumPPOConfig),
}
each_trainer = pytest.mark.parametrize("method", TRAINERS)


def train(method, model, folder, rewards, *names, curriculum="random"):
    trainer, config = TRAINERS[method]
    args = config(**ROLLOUTS | {"output_dir": str(folder), "max_steps": 2})
    rows = sums(id=[f"row {i}" for i in range(13)], number=list(range(13)))
    return logged(trainer(model, rewards, args, rows, curriculum=curriculum), *names)


def right(completions, number, **kwargs):
    """Judges odd rows alone; every second completion of them is right."""
    return [float(i % 2) if n % 2 else None for i, n in enumerate(number)]


def all_right(completions, number, **kwargs):
    return [1.0 if n % 2 else None for n in number]


def unjudged(completions, **kwargs):
    return [None] * len(completions)


for function in (right, all_right, unjudged):
    function.is_accuracy = True


@each_trainer
def test_accuracy_is_that_of_the_completions_that_were_judged(method, tiny_model_path, tmp_path):
    for rewards, accuracy in ((right, 0.5), (all_right, 1.0)):
        steps = train(method, tiny_model_path, tmp_path, rewards, "accuracy")
        assert steps and all(step["accuracy"] == accuracy for step in steps)
    assert train(method, tiny_model_path, tmp_path, unjudged, "accuracy") == [{}, {}]


def test_a_function_that_judges_nothing_is_left_out_as_in_trl(tiny_model_path, tmp_path):
    def half(completions, number, **kwargs):
        return [float(len(text)) if n % 2 else None for text, n in zip(completions, number, strict=True)]

    def length(completions, **kwargs):
        return [float(sum(map(ord, text)) % 7) for text in completions]

    names = "loss", "grad_norm", "reward", "reward_std"
    args = {"output_dir": str(tmp_path), "max_steps": 2}
    rows = sums(number=list(range(13)))
    stock = logged(GRPOTrainer(tiny_model_path, [half, length], GRPOConfig(**ROLLOUTS | args), rows), *names)
    ours = train("grpo", tiny_model_path, tmp_path, [half, length], *names)
    assert ours == stock and len(ours) == 2


@each_trainer
@pytest.mark.parametrize("wrong", ["-inf", "inf", "nan"])
def test_a_reward_that_is_no_number_ends_the_run_with_its_name(method, wrong, tiny_model_path, tmp_path):
    def doubtful(completions, number, **kwargs):
        return [float(wrong) if n == number[-1] else 0.0 for n in number]

    def sound(completions, **kwargs):
        return [float(i) for i in range(len(completions))]

    with pytest.raises(RewardError, match=rf"'doubtful' gave {wrong} for the prompt of id 'row \d+', text '.* ='"):
        train(method, tiny_model_path, tmp_path, [sound, doubtful])


def test_so_does_one_behind_a_gate_and_one_that_is_asynchronous(tiny_model_path, tmp_path):
    async def doubtful(completions, **kwargs):
        return [float("-inf")] * len(completions)

    config = CurriculumConfig(strategy="random", gates=["equal_rewards"])
    with pytest.raises(RewardError, match="'doubtful' gave -inf"):
        train("grpo", tiny_model_path, tmp_path, doubtful, curriculum=config)
