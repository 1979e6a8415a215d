import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForTokenClassification
from trl import GRPOConfig

from edco_rl import ConfigurationError, CurriculumConfig, CurriculumPPOConfig, CurriculumPPOTrainer

from .support import TRAINING, length_reward, sums


def arguments(folder, **changes):
    settings = TRAINING | {"max_steps": 4, "per_device_train_batch_size": 4, "max_completion_length": 4}
    return CurriculumPPOConfig(**(settings | {"value_learning_rate": 0.1, "output_dir": str(folder)} | changes))


class RecordingTrainer(CurriculumPPOTrainer):
    """Keeps the batches it computes losses of."""

    def compute_loss(self, model, inputs, *args, **kwargs):
        self.__dict__.setdefault("batches", []).append(inputs)
        return super().compute_loss(model, inputs, *args, **kwargs)


def make_trainer(
    model, folder, curriculum="random", reward=length_reward, peft_config=None, share_prompts=False, **kw
):
    return RecordingTrainer(
        model,
        reward,
        arguments(folder, **kw),
        sums(),
        curriculum=curriculum,
        peft_config=peft_config,
        share_prompts=share_prompts,
    )


def weights(model):
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def changed(before, model):
    return {name for name, parameter in model.named_parameters() if not torch.equal(before[name], parameter)}


def step_logs(trainer, *keys):
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    return [{key: entry[key] for key in keys} for entry in logs] if keys else logs


def test_one_completion_a_prompt_trains_the_policy_and_the_value_function(tiny_model_path, tmp_path):
    config = CurriculumConfig(strategy="edco", curriculum_interval=2, scoring_prefix_tokens=2, curriculum_candidates=8)
    trainer = make_trainer(tiny_model_path, tmp_path, config, max_steps=12, vf_coef=0.5, cliprange_value=10.0)
    before, head = weights(trainer.model), weights(trainer.value_function)
    trainer.train()
    assert changed(before, trainer.model) == before.keys() and changed(head, trainer.value_function) == head.keys()
    logs = step_logs(trainer)
    assert len(logs) == 12
    expected = {
        "policy_loss",
        "value_loss",
        "explained_variance",
        "value_clip_ratio",
        "approx_kl",
        "curriculum/entropy",
    }
    assert expected | {"value_mean", "return_mean", "reward"} <= logs[0].keys()
    assert not {"frac_reward_zero_std", "kl"} & set().union(*logs)  # no group, no reference model
    # The value function starts at zero and learns what rewards are like.
    assert logs[0]["value_mean"] == 0 < logs[-1]["value_mean"]
    assert len(trainer.batches[0]["completion_ids"]) == 4
    assert trainer.curriculum.pool.visits.sum() == 12 * 4
    assert trainer._logs["advantages"][-1] == pytest.approx(
        trainer.batches[-1]["advantages"].mean(1)[-1].item(), abs=9
    )


def random_batch(seed=0):
    """Two prompts with two completions each: left-padded prompts, right-padded completions, random everything else."""
    torch.manual_seed(seed)
    prompt_mask = torch.tensor([[0, 0, 1, 1, 1]] * 2 + [[1, 1, 1, 1, 1]] * 2)
    completion_mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]])
    return {
        "prompt_ids": torch.randint(5, 1000, (2, 5)).repeat_interleave(2, dim=0),
        "prompt_mask": prompt_mask,
        "completion_ids": torch.randint(5, 1000, (4, 4)),
        "completion_mask": completion_mask,
        "advantages": torch.randn(4, 4),
        "values": torch.randn(4, 4),
        "returns": torch.randn(4, 4),
        "num_items_in_batch": completion_mask.sum(),
    }


def plain_copy(model):
    """The model as transformers has it, without what TRL has added to its forward."""
    plain = AutoModelForCausalLM.from_config(model.config)
    plain.load_state_dict(model.state_dict())
    return plain


def reference_tokens(model, head, batch, temperature):
    """Float64 log-probability and value of each completion token, from transformers' own model, row by row."""
    model = plain_copy(model).double().eval()
    weight, bias = head.linear.weight.detach().double().numpy(), head.linear.bias.item()
    logprobs, values = np.zeros((4, 4)), np.zeros((4, 4))
    for i in range(4):
        prompt = batch["prompt_ids"][i][batch["prompt_mask"][i].bool()]
        completion = batch["completion_ids"][i][batch["completion_mask"][i].bool()]
        output = model(torch.cat([prompt, completion])[None], output_hidden_states=True)
        for t, token in enumerate(completion):
            position = len(prompt) + t - 1
            logits = output.logits[0, position] / temperature
            logprobs[i, t] = logits.log_softmax(-1)[token].item()
            hidden = output.hidden_states[-1][0, position].detach().numpy()
            normalized = (hidden - hidden.mean()) / np.sqrt(hidden.var() + 1e-5)
            values[i, t] = (weight @ normalized).item() / len(normalized) + bias
    return logprobs, values


@pytest.fixture(params=[False, True], ids=["whole sequences", "shared prompts"])
def loss_trainer(request, tiny_model_path, tmp_path):
    """A trainer whose value head is not zero, and a batch with ratios inside and outside the clip range."""
    settings = {"cliprange": 0.1, "cliprange_value": 0.3, "vf_coef": 0.4, "temperature": 0.7}
    trainer = make_trainer(tiny_model_path, tmp_path, share_prompts=request.param, **settings)
    torch.nn.init.normal_(trainer.value_function.linear.weight, std=6.0)
    batch = random_batch()
    logprobs, _ = reference_tokens(trainer.model, trainer.value_function, batch, 0.7)
    batch["old_per_token_logps"] = torch.tensor(logprobs, dtype=torch.float32) + 0.15 * torch.randn(4, 4)
    return trainer, batch


def test_the_loss_is_the_clipped_objective_and_the_clipped_value_error(loss_trainer):
    trainer, batch = loss_trainer
    loss = trainer.compute_loss(trainer.model, batch).item()
    logprobs, values = reference_tokens(trainer.model, trainer.value_function, batch, 0.7)
    arrays = {name: tensor.double().numpy() for name, tensor in batch.items()}
    policy, value = [], []
    for i, t in zip(*np.nonzero(arrays["completion_mask"]), strict=True):
        ratio = np.exp(logprobs[i, t] - arrays["old_per_token_logps"][i, t])
        advantage = arrays["advantages"][i, t]
        policy.append(-min(ratio * advantage, np.clip(ratio, 0.9, 1.1) * advantage))
        old, target = arrays["values"][i, t], arrays["returns"][i, t]
        near = np.clip(values[i, t], old - 0.3, old + 0.3)
        value.append(max((values[i, t] - target) ** 2, (near - target) ** 2) / 2)
    assert loss == pytest.approx(np.mean(policy) + 0.4 * np.mean(value), rel=1e-4)
    metrics = trainer._metrics["eval"]
    assert metrics["policy_loss"] == [pytest.approx(np.mean(policy), rel=1e-4)]
    assert metrics["value_loss"] == [pytest.approx(np.mean(value), rel=1e-4)]
    assert 0 < metrics["clip_ratio/region_mean"][0] < 1 and 0 < metrics["value_clip_ratio"][0] < 1


def test_the_gradient_of_the_loss_is_that_of_finite_differences(loss_trainer):
    trainer, batch = loss_trainer
    parameters = [*trainer.model.parameters(), *trainer.value_function.parameters()]

    def loss():
        return trainer.compute_loss(trainer.model, batch)

    gradients = torch.autograd.grad(loss(), parameters)
    torch.manual_seed(1)
    for _ in range(3):
        directions = [g + 0.3 * g.norm() * torch.randn_like(g) / g.numel() ** 0.5 for g in gradients]
        norm = sum(d.square().sum() for d in directions).sqrt()
        found = sum((g * d).sum() for g, d in zip(gradients, directions, strict=True)) / norm
        ends, step = [], 2e-3
        for sign in (1, -2, 1):  # there, across, and back
            with torch.no_grad():
                for parameter, direction in zip(parameters, directions, strict=True):
                    parameter.add_(direction, alpha=sign * step / norm.item())
                ends.append(loss().item())
        assert found.item() == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=0.02)


def test_without_a_value_function_the_gradient_is_that_of_reinforce(tiny_model_path, tmp_path):
    settings = {"gamma": 1.0, "lam": 1.0, "vf_coef": 0.0, "whiten_advantages": False, "max_grad_norm": 0.0}
    trainer = make_trainer(
        tiny_model_path, tmp_path, max_steps=1, value_learning_rate=0.0, optim="sgd", lr_scheduler_type="constant",
        **settings,
    )  # fmt: skip
    before = weights(trainer.model)
    start = plain_copy(trainer.model)
    trainer.train()
    (batch,) = trainer.batches
    texts = trainer.processing_class.batch_decode(batch["completion_ids"], skip_special_tokens=True)
    scores = torch.tensor(length_reward(texts))
    assert scores.unique().numel() > 1
    torch.testing.assert_close(batch["advantages"], scores.unsqueeze(1).expand(-1, 4))
    total = 0.0
    for i, score in enumerate(scores):
        prompt = batch["prompt_ids"][i][batch["prompt_mask"][i].bool()]
        ids = torch.cat([prompt, batch["completion_ids"][i]])
        logprobs = start(ids[None]).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        total = total - score * logprobs.gather(-1, batch["completion_ids"][i][:, None]).sum() / 16
    total.backward()
    for name, parameter in start.named_parameters():  # one step of plain gradient descent
        moved = trainer.model.get_parameter(name) - before[name]
        torch.testing.assert_close(moved, -1e-3 * parameter.grad, rtol=1e-2, atol=1e-6)


def test_the_penalty_for_leaving_the_initial_policy_is_part_of_the_reward(tiny_model_path, tmp_path):
    settings = {"kl_coef": 0.5, "lam": 1.0, "vf_coef": 0.0, "value_learning_rate": 0.0, "whiten_advantages": False}
    trainer = make_trainer(tiny_model_path, tmp_path, max_steps=2, learning_rate=1e-2, **settings)
    initial = AutoModelForCausalLM.from_pretrained(tiny_model_path)
    trainer.train()
    batch = trainer.batches[-1]
    head = trainer.value_function
    old = batch["old_per_token_logps"].double().numpy()
    reference, _ = reference_tokens(initial, head, batch, 1.0)
    scores = length_reward(trainer.processing_class.batch_decode(batch["completion_ids"], skip_special_tokens=True))
    divergence = old - reference
    to_come = divergence[:, ::-1].cumsum(1)[:, ::-1]
    expected = np.array(scores)[:, None] - 0.5 * to_come
    np.testing.assert_allclose(batch["returns"].numpy(), expected, atol=1e-4)
    assert step_logs(trainer)[-1]["kl"] == pytest.approx(divergence.mean(), abs=1e-5)
    assert abs(divergence.mean()) > 1e-3


def test_gradient_accumulation_and_shared_prompts_change_the_cost_only(tiny_model_path, tmp_path):
    keys = ("policy_loss", "value_loss", "explained_variance", "value_mean", "return_mean", "grad_norm", "entropy")

    def run(name, **changes):
        settings = {"per_device_train_batch_size": 8, "num_generations": 2, "num_ppo_epochs": 2, "vf_coef": 0.5}
        trainer = make_trainer(tiny_model_path, tmp_path / name, **(settings | changes))
        trainer.train()
        logs = step_logs(trainer)
        return [{key: entry[key] for key in keys if key in entry} for entry in logs]

    whole = run("whole")
    accumulated = run("accumulated", per_device_train_batch_size=4, gradient_accumulation_steps=2)
    shared = run("shared", share_prompts=True)
    assert len(whole) == 4 and keys[2] in whole[0] and keys[2] not in whole[1]
    for expected, *others in zip(whole, accumulated, shared, strict=True):
        for found in others:
            assert found == pytest.approx(expected, rel=2e-3, abs=1e-4)


def test_several_optimizer_steps_and_passes_use_one_generation_batch(tiny_model_path, tmp_path):
    trainer = make_trainer(tiny_model_path, tmp_path, steps_per_generation=2, num_ppo_epochs=2, max_steps=8)
    trainer.train()
    logs = step_logs(trainer)
    assert ["reward" in entry for entry in logs] == [True, False, False, False] * 2
    first, *_, last = trainer.batches[:4]
    assert torch.equal(first["old_per_token_logps"], trainer.batches[2]["old_per_token_logps"])
    assert logs[0]["approx_kl"] < 1e-6 < logs[3]["approx_kl"] and last["advantages"].shape == (4, 4)


def test_advantages_are_whitened_over_the_generation_batch(tiny_model_path, tmp_path):
    trainer = make_trainer(tiny_model_path, tmp_path, gradient_accumulation_steps=3, max_steps=1, whiten_rewards=True)
    trainer.train()
    advantages = torch.cat([batch["advantages"] for batch in trainer.batches])
    assert advantages.shape == (12, 4)
    torch.testing.assert_close(torch.stack([advantages.mean(), advantages.std()]), torch.tensor([0.0, 1.0]))
    assert torch.cat([batch["returns"][:, -1] for batch in trainer.batches]).max() > 1  # scaled, and not shifted


@pytest.mark.parametrize("whiten_rewards", [False, True])
def test_noise_of_the_value_function_is_not_scaled_up_where_nothing_is_earned(
    tiny_model_path, tmp_path, whiten_rewards
):
    def batch(reward, **changes):
        settings = {"lam": 0.8, "max_steps": 1, "value_learning_rate": 0.0, "whiten_rewards": whiten_rewards}
        trainer = make_trainer(tiny_model_path, tmp_path, reward=reward, **(settings | changes))
        torch.manual_seed(0)
        torch.nn.init.normal_(trainer.value_function.linear.weight, std=0.1)
        trainer.train()
        (found,) = trainer.batches
        return {name: found[name].double().numpy() for name in ("advantages", "returns", "values", "completion_mask")}

    def nothing(completions, **kwargs):
        return [0.0] * len(completions)

    found, scaled_up = batch(nothing), batch(nothing, whiten_floor=0.0)
    noise = found["returns"] - found["values"]
    assert found["completion_mask"].all() and 0 < noise.std() < 0.02
    # The advantage of a reward of 1, at each of the four tokens, for values of zero.
    unit = np.sqrt(np.mean(0.8 ** (2 * np.arange(4))))
    floor = unit / np.sqrt(1 / 4) if whiten_rewards else 0.1 * unit  # of rewards of deviation 0.1 whitening makes 1
    np.testing.assert_allclose(found["advantages"], (noise - noise.mean()) / floor, rtol=1e-3, atol=1e-5)
    assert scaled_up["advantages"].std(ddof=1) == pytest.approx(1, rel=1e-3)
    before, now = batch(length_reward, whiten_floor=0.0), batch(length_reward)
    for name, array in before.items():
        np.testing.assert_array_equal(now[name], array)


@pytest.mark.parametrize("separate", [False, True], ids=["value head", "value model"])
def test_a_resumed_run_goes_on_exactly(tiny_model_path, tmp_path, separate):
    keys = ("loss", "grad_norm", "value_loss", "policy_loss", "approx_kl", "entropy")

    def trainer():
        model = tiny_model_path if separate else None
        return make_trainer(
            tiny_model_path,
            tmp_path,
            max_steps=6,
            num_ppo_epochs=2,  # the checkpoint is in the middle of a generation batch
            save_strategy="steps",
            save_steps=3,
            value_model_name_or_path=model,
        )

    whole = trainer()
    whole.train()
    resumed = trainer()
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert step_logs(resumed, *keys)[3:] == step_logs(whole, *keys)[3:]
    assert not changed(weights(whole.value_function), resumed.value_function)


def test_a_checkpoint_without_a_value_function_is_refused(tiny_model_path, tmp_path):
    trainer = make_trainer(tiny_model_path, tmp_path, max_steps=1, save_strategy="steps", save_steps=1)
    trainer.train()
    (tmp_path / "checkpoint-1" / "value_head.arrays").unlink()
    with pytest.raises(ConfigurationError, match=r"checkpoint-1/value_head\.arrays is missing"):
        make_trainer(tiny_model_path, tmp_path).train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))


def test_the_saved_policy_loads_alone_with_its_value_head_beside_it(tiny_model_path, tmp_path):
    trainer = make_trainer(tiny_model_path, tmp_path)
    trainer.train()
    trainer.save_model()
    policy, loaded = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not loaded["missing_keys"] and not loaded["unexpected_keys"]
    assert not changed(weights(trainer.model), policy)
    head = load_file(tmp_path / "value_head.arrays")
    assert head.keys() == {"linear.weight", "linear.bias"}
    torch.testing.assert_close(head["linear.weight"], trainer.value_function.linear.weight.detach(), rtol=0, atol=0)
    assert head["linear.weight"].abs().sum() > 0


def test_a_separate_value_model_trains_and_is_saved_beside_the_policy(tiny_model_path, tmp_path):
    trainer = make_trainer(tiny_model_path, tmp_path, value_model_name_or_path=tiny_model_path, vf_coef=0.5)
    assert step_logs(trainer) == [] and not trainer.value_function.model.score.weight.any()
    before, policy = weights(trainer.value_function), weights(trainer.model)
    trainer.train()
    assert changed(before, trainer.value_function) == before.keys() and changed(policy, trainer.model)
    trainer.save_model()
    saved = AutoModelForTokenClassification.from_pretrained(tmp_path / "value_model")
    assert not changed({name.removeprefix("model."): w for name, w in weights(trainer.value_function).items()}, saved)
    batch = trainer.batches[0]
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
    with torch.no_grad():
        values = trainer.value_function(ids, mask, 4)
        width = mask[0].sum()
        alone = saved.eval()(ids[:1, -width:]).logits[0, :, 0]
    torch.testing.assert_close(values[0], alone[-5:-1])


def test_a_reward_model_keeps_its_head_as_a_value_model(tiny_model_path, tmp_path):
    from transformers import AutoModelForSequenceClassification

    reward_model = AutoModelForSequenceClassification.from_pretrained(tiny_model_path, num_labels=1)
    reward_model.save_pretrained(tmp_path / "reward")
    trainer = make_trainer(tiny_model_path, tmp_path, value_model_name_or_path=str(tmp_path / "reward"))
    assert torch.equal(trainer.value_function.model.score.weight, reward_model.score.weight)


def test_further_value_epochs_are_steps_on_the_same_hidden_states(tiny_model_path, tmp_path):
    settings = {"max_steps": 1, "optim": "sgd", "max_grad_norm": 0.0, "value_learning_rate": 0.3, "vf_coef": 0.5}
    settings |= {"cliprange_value": 0.01, "gradient_accumulation_steps": 2}
    once = make_trainer(tiny_model_path, tmp_path, **settings)
    once.train()
    trainer = make_trainer(tiny_model_path, tmp_path, num_value_epochs=4, **settings)
    seen = []  # hidden states of the optimizer step's two batches, after those of the rollout
    trainer.value_function.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach()))
    trainer.train()
    assert all(torch.equal(a, b) for a, b in zip(once.model.parameters(), trainer.model.parameters(), strict=True))
    hidden_states = seen[-2:]
    weight, bias = (parameter.detach().double() for parameter in once.value_function.parameters())
    for _ in range(3):
        weight.requires_grad_(), bias.requires_grad_()
        total = tokens = 0.0
        for hidden, batch in zip(hidden_states, trainer.batches, strict=True):
            states = torch.nn.functional.layer_norm(hidden.double(), hidden.shape[-1:])
            values, old = (states * weight).mean(-1) + bias, batch["values"].double()
            clipped = old + (values - old).clamp(-0.01, 0.01)
            errors = torch.maximum((values - batch["returns"]) ** 2, (clipped - batch["returns"]) ** 2)
            total = total + (errors * batch["completion_mask"]).sum()
            tokens += batch["completion_mask"].sum()
        gradients = torch.autograd.grad(0.5 * 0.5 * total / tokens, (weight, bias))
        weight, bias = ((p - 0.3 * g).detach() for p, g in zip((weight, bias), gradients, strict=True))
    found = list(trainer.value_function.parameters())
    torch.testing.assert_close(found[0].double(), weight, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(found[1].double(), bias, rtol=1e-4, atol=1e-7)
    assert not torch.equal(found[1], once.value_function.linear.bias)


@pytest.mark.parametrize("separate", [False, True], ids=["value head", "value model"])
def test_warm_up_trains_the_value_function_only(tiny_model_path, tmp_path, separate):
    trainer = make_trainer(
        tiny_model_path,
        tmp_path,
        value_warmup_steps=2,
        weight_decay=0.1,
        max_steps=3,
        value_model_name_or_path=tiny_model_path if separate else None,
    )
    policies, values = [weights(trainer.model)], [weights(trainer.value_function)]
    step = trainer.training_step

    def training_step(*args):
        policies.append(weights(trainer.model))
        values.append(weights(trainer.value_function))
        return step(*args)

    trainer.training_step = training_step
    trainer.train()
    assert changed(policies[0], trainer.model)
    # As each step began: the first two have left the policy as it was.
    for policy in policies[1:]:
        assert all(torch.equal(policy[name], weight) for name, weight in policies[0].items())
    assert all(not torch.equal(values[1][name], values[3][name]) for name in values[1] if "bias" in name)
    assert [entry["grad_norm"] > 0 for entry in step_logs(trainer)] == [False, False, True]


def test_lora_trains_the_adapter_and_the_value_head(tiny_model_path, tmp_path):
    lora = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    trainer = make_trainer(tiny_model_path, tmp_path, peft_config=lora, kl_coef=0.1, learning_rate=1e-2)
    before, head = weights(trainer.model), weights(trainer.value_function)
    trainer.train()
    assert changed(head, trainer.value_function) == head.keys()
    trained = changed(before, trainer.model)
    assert trained and all("lora_" in name for name in trained)
    kl = [entry["kl"] for entry in step_logs(trainer)]
    assert kl[0] == 0 != kl[-1]  # the initial policy is the one without the adapter
    trainer.save_model()
    names = {path.name for path in tmp_path.iterdir()}
    assert {"adapter_model.safetensors", "value_head.arrays"} <= names and "model.safetensors" not in names
    assert not any("linear" in name for name in load_file(tmp_path / "adapter_model.safetensors"))


def test_truncated_completions_are_left_out_when_masked(tiny_model_path, tmp_path):
    """None of a random model's completions ends by itself: nothing is left to learn from, and nothing breaks."""
    trainer = make_trainer(tiny_model_path, tmp_path, mask_truncated_completions=True, max_steps=2)
    before, head = weights(trainer.model), weights(trainer.value_function)
    trainer.train()
    assert not changed(before, trainer.model) and not changed(head, trainer.value_function)
    assert [entry["loss"] for entry in step_logs(trainer)] == [0.0, 0.0]
    plain = make_trainer(tiny_model_path, tmp_path, lam=1.0, max_steps=1)
    plain.train()
    (batch,) = plain.batches  # not masked, the reward of a truncated completion counts as any other's
    texts = plain.processing_class.batch_decode(batch["completion_ids"], skip_special_tokens=True)
    torch.testing.assert_close(batch["returns"][:, -1], torch.tensor(length_reward(texts)))


def test_completions_without_a_reward_are_left_out(tiny_model_path, tmp_path):
    def reward(completions, **kwargs):
        return [None if i % 2 else value for i, value in enumerate(length_reward(completions))]

    trainer = make_trainer(tiny_model_path, tmp_path, reward=reward, max_steps=1)
    trainer.train()
    (batch,) = trainer.batches
    kept = batch["completion_mask"].any(1)
    assert kept.sum() == 2 and batch["num_items_in_batch"] == 8
    assert not batch["advantages"][~kept].any() and batch["advantages"][kept].all()


@pytest.mark.parametrize(("settings", "rate"), [({}, 0.1), ({"value_learning_rate": 0.5}, 0.5)])
def test_the_value_function_has_its_own_learning_rate(tiny_model_path, tmp_path, settings, rate):
    trainer = make_trainer(tiny_model_path, tmp_path, **{"value_learning_rate": None, **settings})
    optimizer = trainer.create_optimizer()
    assert trainer.create_optimizer() is optimizer and len(optimizer.param_groups) == 3
    assert [group["lr"] for group in optimizer.param_groups] == [1e-3, 1e-3, rate]
    assert {id(p) for p in optimizer.param_groups[2]["params"]} == {id(p) for p in trainer.value_function.parameters()}


def test_evaluation_during_training_measures_the_losses(tiny_model_path, tmp_path):
    args = arguments(tmp_path, eval_strategy="steps", eval_steps=2, max_steps=2, per_device_eval_batch_size=4)
    trainer = CurriculumPPOTrainer(
        tiny_model_path, length_reward, args, sums(), eval_dataset=sums(4), curriculum="random"
    )
    trainer.train()
    (logs,) = [entry for entry in trainer.state.log_history if "eval_loss" in entry]
    assert {"eval_value_loss", "eval_explained_variance", "eval_reward"} <= logs.keys()
    assert "eval_frac_reward_zero_std" not in logs


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gamma": 1.5}, "gamma must be a number of at least 0 and at most 1; got 1.5"),
        ({"lam": -0.1}, "lam must be a number of at least 0 and at most 1; got -0.1"),
        ({"vf_coef": -1.0}, "vf_coef must be a number of at least 0; got -1.0"),
        ({"value_warmup_steps": -1}, "value_warmup_steps must be a whole number of at least 0"),
        ({"whiten_floor": -0.1}, "whiten_floor must be a number of at least 0; got -0.1"),
        ({"num_value_epochs": 0}, "num_value_epochs must be a whole number of at least 1"),
        ({"num_value_epochs": 2, "value_model_name_or_path": "m"}, "which a value head can do on hidden states"),
        ({"beta": 0.1}, "beta is 0.1: .* set kl_coef"),
        ({"scale_rewards": "group"}, "scale_rewards is group: .* set whiten_rewards"),
        ({"multi_objective_aggregation": "normalize_then_sum"}, "multi_objective_aggregation is normalize_then_sum"),
        ({"loss_type": "cispo"}, "loss_type is cispo, .* choose from grpo, bnpo, dr_grpo, dapo"),
        ({"num_ppo_epochs": 2, "num_iterations": 3}, "num_ppo_epochs is 2 and num_iterations is 3"),
        ({"cliprange": 0.1, "epsilon": 0.3}, "cliprange is 0.1 and epsilon is 0.3"),
        ({"per_device_train_batch_size": 1}, "a single completion"),
    ],
)
def test_settings_that_are_wrong_or_not_of_ppo_are_refused(tmp_path, settings, message):
    with pytest.raises(ConfigurationError, match=message):
        arguments(tmp_path, **settings)


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"per_device_train_batch_size": 3}, (1, 1, 3)),
        ({"generation_batch_size": 12}, (1, 1, 12)),
        ({"num_generations": 2, "gradient_accumulation_steps": 3}, (2, None, 12)),
    ],
)
def test_any_batch_holds_single_completions(tmp_path, settings, found):
    args = arguments(tmp_path, num_ppo_epochs=3, cliprange=0.1, **settings)
    assert (args.num_generations, args.num_generations_eval, args.generation_batch_size) == found
    assert (args.num_iterations, args.epsilon) == (3, 0.1)
    with pytest.raises(ValueError, match="must be divisible by num_generations"):
        arguments(tmp_path, num_generations=3)


def test_what_a_trainer_cannot_use_is_refused(tiny_model_path, tmp_path):
    with pytest.raises(ConfigurationError, match="takes a CurriculumPPOConfig as args; got GRPOConfig"):
        CurriculumPPOTrainer(tiny_model_path, length_reward, GRPOConfig(str(tmp_path), bf16=False), sums())
    with pytest.raises(ConfigurationError, match="value_model_name_or_path '/nowhere/model' is not a model folder"):
        make_trainer(tiny_model_path, tmp_path, value_model_name_or_path="/nowhere/model")


TWO_PROCESSES = """
import sys, torch
from accelerate.utils import gather_object
from tests.trainers.test_ppo import make_trainer
settings = {"value_warmup_steps": 1, "num_value_epochs": 3, "max_steps": 3, "ddp_backend": "gloo"}
trainer = make_trainer(sys.argv[1], sys.argv[2], **settings)
trainer.train()
gather = lambda tensor: torch.stack(gather_object([tensor.detach()]))
advantages = gather(trainer.batches[0]["advantages"])
assert not torch.equal(*advantages)  # each process has rollouts of its own
assert abs(advantages.mean()) < 1e-5 and abs(advantages.std() - 1) < 1e-4  # whitened together
for parameter in [*trainer.value_function.parameters(), *trainer.model.parameters()]:
    assert torch.equal(*gather(parameter))  # and all train the same weights
assert trainer.value_function.linear.weight.any()
"""


@pytest.mark.slow
def test_two_processes_train_one_policy_and_one_value_function(tiny_model_path, tmp_path):
    script = tmp_path / "train.py"
    script.write_text(TWO_PROCESSES)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*launch, str(script), tiny_model_path, str(tmp_path)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
