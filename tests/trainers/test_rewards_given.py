"""What trainers do with rewards that are missing, and with those that are no number."""

import json
import time

import pytest
import torch
from trl import GRPOConfig, GRPOTrainer, RLOOConfig

from edco_rl import (
    CurriculumConfig,
    CurriculumGRPOTrainer,
    CurriculumPPOConfig,
    CurriculumPPOTrainer,
    CurriculumRLOOTrainer,
    EdcoRLError,
)
from edco_rl.finite_weights import NotFiniteError
from edco_rl.rewards import RewardError

from .support import ROLLOUTS, logged, sums

TRAINERS = {
    "grpo": (CurriculumGRPOTrainer, GRPOConfig),
    "rloo": (CurriculumRLOOTrainer, RLOOConfig),
    "ppo": (CurriculumPPOTrainer, CurriculumPPOConfig),
}
each_trainer = pytest.mark.parametrize("method", TRAINERS)


def train(method, model, folder, rewards, *names, curriculum="random", max_steps=2):
    trainer, config = TRAINERS[method]
    args = config(**ROLLOUTS | {"output_dir": str(folder), "max_steps": max_steps})
    rows = sums(id=[f"row {i}" for i in range(13)], number=list(range(13)))
    return logged(trainer(model, rewards, args, rows, curriculum=curriculum), *names)


def right(completions, number, **kwargs):
    """Judges odd rows alone; every second completion of them is right."""
    return [float(i % 2) if n % 2 else None for i, n in enumerate(number)]


def all_right(completions, number, **kwargs):
    return [1.0 if n % 2 else None for n in number]


def sound(completions, **kwargs):
    return [float(sum(map(ord, text)) % 7) for text in completions]


def unjudged(completions, **kwargs):
    return [None] * len(completions)


for function in (right, all_right, unjudged):
    function.is_accuracy = True


@each_trainer
def test_accuracy_is_that_of_the_completions_that_were_judged(method, tiny_model_path, tmp_path):
    for rewards, accuracy in ((right, 0.5), (all_right, 1.0)):
        steps = train(method, tiny_model_path, tmp_path, rewards, "accuracy")
        assert steps and all(step["accuracy"] == accuracy for step in steps)
    assert train(method, tiny_model_path, tmp_path, [unjudged, sound], "accuracy") == [{}, {}]


def test_a_function_that_judges_nothing_is_left_out_as_in_trl(tiny_model_path, tmp_path):
    def half(completions, number, **kwargs):
        return [float(len(text)) if n % 2 else None for text, n in zip(completions, number, strict=True)]

    names = "loss", "grad_norm", "reward", "reward_std"
    args = {"output_dir": str(tmp_path), "max_steps": 2}
    rows = sums(number=list(range(13)))
    stock = logged(GRPOTrainer(tiny_model_path, [half, sound], GRPOConfig(**ROLLOUTS | args), rows), *names)
    ours = train("grpo", tiny_model_path, tmp_path, [half, sound], *names)
    assert ours == stock and len(ours) == 2


@pytest.mark.parametrize(("method", "wrong"), [("grpo", "-inf"), ("rloo", "nan"), ("ppo", "nan")])
def test_a_reward_that_is_no_number_puts_its_prompt_in_quarantine_and_its_group_out_of_the_loss(
    method, wrong, tiny_model_path, tmp_path
):
    taken = []

    def doubtful(completions, number, **kwargs):
        taken[:] = number[-1:]
        return [float(wrong) if i == len(number) - 1 else float(i) for i in range(len(number))]

    trainer, config = TRAINERS[method]
    args = config(**ROLLOUTS | {"output_dir": str(tmp_path), "max_steps": 2})
    rows = sums(id=[f"row {i}" for i in range(13)], number=list(range(13)))
    trainer = trainer(tiny_model_path, [doubtful, sound], args, rows, curriculum="random")
    trainer.train()
    lines = list(map(json.loads, (tmp_path / "quarantine.jsonl").read_text().splitlines()))
    assert [line["step"] for line in lines] == [0, 1] and lines[1]["id"] == f"row {taken[0]}"
    for line in lines:
        assert f"'doubtful' gave {wrong} for the prompt of id '{line['id']}', text '" in line["reason"]
    batch = {
        name: torch.cat([part[name] for part in trainer._buffered_inputs])
        for name in trainer._buffered_inputs[0]
        if trainer._buffered_inputs[0][name].ndim
    }
    out = batch["curriculum_index"] == taken[0]
    assert out.sum() == 2 and (batch["completion_mask"].sum(dim=1) == 0).tolist() == out.tolist()
    assert not batch["advantages"][out].any() and batch["advantages"][~out].any()


def test_the_run_ends_where_more_prompts_are_in_quarantine_than_may_be(tiny_model_path, tmp_path):
    def broken(completions, **kwargs):
        return [float("nan")] * len(completions)

    config = CurriculumConfig(strategy="random", max_quarantined_prompts=3)
    said = r"^At optimizer step 0 4 prompts are in quarantine, and max_quarantined_prompts is 3\..* 'broken' gave nan"
    with pytest.raises(NotFiniteError, match=said):
        train("grpo", tiny_model_path, tmp_path, broken, curriculum=config)


@pytest.mark.parametrize("method", ["grpo", "ppo"])
def test_so_it_does_without_any_reward(method, tiny_model_path, tmp_path):
    with pytest.raises(EdcoRLError, match="Training has ended, and no completion got a reward"):
        train(method, tiny_model_path, tmp_path, unjudged)
    config = CurriculumConfig(strategy="random", max_skipped_steps=1)
    with pytest.raises(
        EdcoRLError, match="At optimizer step 1 2 generation batches in a row got no reward at all from unj"
    ):
        train(method, tiny_model_path, tmp_path, unjudged, curriculum=config)


def test_so_is_one_behind_a_gate_and_one_that_is_asynchronous(tiny_model_path, tmp_path):
    async def doubtful(completions, number, **kwargs):
        return [float("-inf") if n == number[0] else float(i) for i, n in enumerate(number)]

    config = CurriculumConfig(strategy="random", gates=["equal_rewards"], max_quarantined_prompts=13)
    [first, _] = train("grpo", tiny_model_path, tmp_path, doubtful, "curriculum/dropped_unscored", curriculum=config)
    # A batch and its refills, of which each lost its first prompt.
    assert first["curriculum/dropped_unscored"] > 1
    assert "'doubtful' gave -inf" in (tmp_path / "quarantine.jsonl").read_text()


def test_a_reward_that_takes_too_long_is_no_end(tiny_model_path, tmp_path):
    def slow(completions, number, **kwargs):
        time.sleep(60 * (3 in number))
        return [float(i % 2) for i in range(len(number))]

    config = CurriculumConfig(strategy="random", reward_timeout=0.3)
    assert len(train("grpo", tiny_model_path, tmp_path, slow, "loss", curriculum=config, max_steps=4)) == 4
    [line] = (tmp_path / "quarantine.jsonl").read_text().splitlines()
    assert json.loads(line)["id"] == "row 3" and "'slow' took longer than 0.3 s" in line


def test_in_an_evaluation_it_ends_the_run(tiny_model_path, tmp_path):
    def doubtful(completions, **kwargs):
        return [float("nan")] * len(completions)

    args = GRPOConfig(**ROLLOUTS | {"output_dir": str(tmp_path), "per_device_eval_batch_size": 2})
    trainer = CurriculumGRPOTrainer(tiny_model_path, doubtful, args, sums(), sums(2), curriculum="random")
    with pytest.raises(RewardError, match=r"^In evaluation: Reward 'doubtful' gave nan"):
        trainer.evaluate()
