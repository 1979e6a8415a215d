import json

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM
from trl import GRPOConfig, GRPOTrainer

from edco_rl import ConfigurationError, CurriculumConfig, CurriculumGRPOTrainer, EngineConfig
from edco_rl.store import plain, read_state
from edco_rl.trainers.shared_prompt import completion_logprobs

from .support import ROLLOUTS, length_reward, logged, sums


def arguments(folder, **changes):
    return GRPOConfig(**(ROLLOUTS | {"output_dir": str(folder)} | changes))


def losses(trainer):
    return logged(trainer, "loss", "grad_norm", "reward", "entropy", "kl")


@pytest.mark.parametrize("changes", [{}, {"num_iterations": 2, "beta": 0.1}, {"shuffle_dataset": False}])
def test_random_without_an_engine_is_stock_trl_exactly(tiny_model_path, tmp_path, changes):
    stock = losses(GRPOTrainer(tiny_model_path, length_reward, arguments(tmp_path, **changes), sums()))
    ours = losses(
        CurriculumGRPOTrainer(
            tiny_model_path, length_reward, arguments(tmp_path, **changes), sums(), curriculum="random"
        )
    )
    assert len(stock) == 5
    assert ours == stock


def exact_prefix_entropy(model, tokenizer, prompt, tokens):
    """Mean next-token entropy along the greedy continuation, from full logits in float64."""
    ids = tokenizer(prompt, return_tensors="pt").input_ids
    entropies = []
    for _ in range(tokens):
        with torch.no_grad():
            logits = model(ids).logits[0, -1].double()
        logprobs = logits.log_softmax(-1)
        entropies.append(-(logprobs.exp() * logprobs).sum().item())
        ids = torch.cat([ids, logits.argmax().view(1, 1)], dim=1)
        if ids[0, -1] == tokenizer.eos_token_id:
            break
    return sum(entropies) / len(entropies)


def test_edco_without_an_engine_trains_on_the_prompts_of_highest_entropy(model_path, tmp_path):
    config = CurriculumConfig(
        strategy="edco",
        curriculum_interval=5,
        curriculum_size=4,
        scoring_prefix_tokens=2,
        scoring_quick_answer=False,
        scoring_top_logprobs=1000,
    )
    args = arguments(tmp_path, max_steps=1)
    rows = Dataset.from_dict({"prompt": ["2 + 2 =", "The capital of France is", "I", "Once upon a", "1, 2, 3,", "x"]})
    trainer = CurriculumGRPOTrainer(model_path, length_reward, args, rows, curriculum=config)
    trainer.model.eval()
    exact = [exact_prefix_entropy(trainer.model, trainer.processing_class, p, 2) for p in rows["prompt"]]
    trainer.model.train()
    before = torch.get_rng_state()
    trainer.renew_curriculum()
    assert torch.equal(before, torch.get_rng_state()) and trainer.model.training
    assert trainer.curriculum.strategy.signals["entropy"].buffer.scores == pytest.approx(exact, abs=0.05)
    expected = sorted(range(6), key=lambda i: -exact[i])[:4]
    assert trainer.curriculum.next_batch().tolist() == expected


def test_a_checkpoint_restores_the_curriculum(tiny_model_path, tmp_path):
    config = CurriculumConfig(strategy="edco", curriculum_interval=2, scoring_prefix_tokens=2, curriculum_candidates=8)

    def trainer(**changes):
        args = arguments(tmp_path, max_steps=6, save_strategy="steps", save_steps=3, **changes)
        return CurriculumGRPOTrainer(tiny_model_path, length_reward, args, sums(), curriculum=config)

    whole = trainer()
    whole.train()
    saved = json.loads((tmp_path / "checkpoint-6" / "curriculum.json").read_text())
    assert saved["curriculum"]["settings"]["strategy"] == "edco"
    assert saved["curriculum"]["visits"] == {"array": "curriculum.visits", "type": "int32", "shape": [len(sums())]}
    visits = read_state(tmp_path / "checkpoint-6" / "curriculum.json")["curriculum"]["visits"]
    assert (visits > 0).sum() == whole.curriculum.visits.prompts

    resumed = trainer()
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert plain(resumed.curriculum.state_dict()) == plain(whole.curriculum.state_dict())


def test_metrics_say_what_the_time_went_to(tiny_model_path, tmp_path):
    config = CurriculumConfig(curriculum_interval=1, scoring_prefix_tokens=1)
    trainer = CurriculumGRPOTrainer(
        tiny_model_path, length_reward, arguments(tmp_path, max_steps=2), sums(), curriculum=config
    )
    trainer.train()
    logs = trainer.state.log_history[0]
    parts = [logs[f"time/{part}"] for part in ("rollout", "scoring", "reward", "optimizer")]
    assert sum(parts) == pytest.approx(logs["time/step"], rel=0.01)
    assert min(parts) > 0
    assert {"curriculum/entropy", "curriculum/entropy_pool", "curriculum/visited"} <= logs.keys()


def test_sharing_prompts_changes_the_speed_only(tiny_model_path, tmp_path):
    """Against TRL's own forward, with prompts of different lengths, completions that end early, and a KL term."""

    def make(folder, **kwargs):
        args = arguments(folder, beta=0.1, temperature=0.7, num_iterations=2)
        return CurriculumGRPOTrainer(tiny_model_path, length_reward, args, sums(), curriculum="random", **kwargs)

    stock, shared = losses(make(tmp_path / "a")), losses(make(tmp_path / "b", share_prompts=True))
    for expected, found in zip(stock, shared, strict=True):
        assert found == pytest.approx(expected, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("end", [0, 3])
def test_shared_prompts_give_the_log_probabilities_of_whole_sequences(tiny_model_path, end):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(tiny_model_path, dtype=torch.float64)
    prompts = torch.randint(5, 1000, (2, 6)).repeat_interleave(3, dim=0)
    mask = torch.ones(6, 10, dtype=torch.long)
    mask[:3, :2] = 0  # the first prompt is shorter
    mask[2, 10 - end :] = 0  # one completion is
    ids = torch.cat([prompts, torch.randint(5, 1000, (6, 4))], dim=1)
    order = torch.tensor([4, 0, 2, 5, 1, 3])
    ids, mask = ids[order], mask[order]
    found, entropies, hidden_states = completion_logprobs(model, ids, mask, 4, temperature=0.7)
    output = model(ids, attention_mask=mask, output_hidden_states=True)
    rows = (output.logits[:, 5:-1] / 0.7).log_softmax(-1)
    expected = rows.gather(-1, ids[:, 6:, None])[..., 0]
    keep = mask[:, 6:].bool()
    # The log-softmax is taken in float32.
    torch.testing.assert_close(found[keep].double(), expected[keep], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(entropies[keep].double(), -(rows.exp() * rows).sum(-1)[keep], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(hidden_states[keep], output.hidden_states[-1][:, 5:-1][keep])
    weight = model.model.embed_tokens.weight
    gradients = [torch.autograd.grad(values[keep].sum(), weight)[0] for values in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"train_dataset": Dataset.from_dict({"question": ["a"]})}, "no column 'prompt'"),
        ({"train_dataset": sums(3)}, "has 3 prompts, but a generation batch takes 4"),
        ({"curriculum": "edko"}, "Unknown strategy 'edko'"),
        ({"curriculum": CurriculumConfig(curriculum_size=2)}, "curriculum_size is 2"),
        ({"engine": EngineConfig(engine_transport="adapter")}, "transport adapter needs a LoRA policy"),
        ({"engine": EngineConfig(engine_transport="nccl")}, "transport nccl needs CUDA"),
    ],
)
def test_wrong_input_is_refused(tiny_model_path, tmp_path, kwargs, message):
    with pytest.raises(ConfigurationError, match=message):
        CurriculumGRPOTrainer(
            **{
                "model": tiny_model_path,
                "reward_funcs": length_reward,
                "args": arguments(tmp_path),
                "train_dataset": sums(),
                **kwargs,
            }
        )


def signal_in_some(completions, prompts, **kwargs):
    """Rewards differ within the groups of every other prompt only, whatever is generated."""
    return [float(i % 2 and int(prompt.split()[0]) % 2) for i, prompt in enumerate(prompts)]


def drawn_batches(trainer):
    """Records the prompts of every generation batch a trainer draws, those of refills after them."""
    batches = []
    draw = trainer.curriculum.draw

    def recording(n):
        chosen = draw(n)
        batches.append(trainer.curriculum.pool.ids_of(chosen))
        return chosen

    trainer.curriculum.draw = recording
    return batches


def gated(model_path, folder, rows=24, **settings):
    settings = {"strategy": "random", "gates": ["equal_rewards"], "gate_max_refills": 4} | settings
    return CurriculumGRPOTrainer(
        model_path,
        signal_in_some,
        arguments(folder, max_steps=3),
        sums(rows),
        curriculum=CurriculumConfig(**settings),
    )


def test_a_gate_drops_groups_without_signal_and_the_batch_stays_full(tiny_model_path, tmp_path):
    trainer = gated(tiny_model_path, tmp_path)
    seen = []
    trainer.curriculum.strategy.observe = seen.extend
    trained = []
    original = trainer._compute_loss
    trainer._compute_loss = lambda model, inputs: trained.append(inputs) or original(model, inputs)
    draws = drawn_batches(trainer)
    trainer.train()
    assert {len(inputs["completion_ids"]) for inputs in trained} == {4} and len(trained) == 6
    assert all(inputs["advantages"].abs().min() > 0.1 for inputs in trained)
    # The strategy saw every group that was drawn, the dropped ones too.
    assert len(seen) == sum(map(len, draws))
    assert all(outcome.admitted == (outcome.index % 2 == 1) for outcome in seen)
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    dropped = sum(entry["curriculum/groups_dropped"] for entry in logs)
    assert dropped == sum(not outcome.admitted for outcome in seen) > 0
    assert dropped == sum(entry["curriculum/dropped_equal_rewards"] for entry in logs)
    assert sum(entry["curriculum/groups_refilled"] for entry in logs) == len(seen) - 3 * 4
    assert all(entry["curriculum/groups_with_signal_trained"] == 1.0 for entry in logs)
    assert all(entry["frac_reward_zero_std"] == 0.0 and entry["curriculum/groups_missing"] == 0 for entry in logs)


def test_refills_are_bounded_and_dropped_groups_fill_what_is_missing(tiny_model_path, tmp_path):
    trainer = gated(tiny_model_path, tmp_path, gate_max_refills=0)
    trainer.train()
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert all(entry["curriculum/groups_refilled"] == 0 for entry in logs)
    missing = [entry["curriculum/groups_missing"] for entry in logs]
    assert sum(missing) > 0
    assert [entry["frac_reward_zero_std"] for entry in logs] == [count / 4 for count in missing]


def test_refills_do_not_use_a_curriculum_up(tiny_model_path, tmp_path):
    trainer = gated(tiny_model_path, tmp_path, rows=40, strategy="edco", curriculum_interval=3)
    draws = drawn_batches(trainer)
    trainer.train()
    drawn = [prompt for batch in draws for prompt in batch]
    assert len(set(drawn)) == len(drawn) > 3 * 4


def test_a_pool_that_is_used_up_ends_refilling(tiny_model_path, tmp_path):
    trainer = gated(tiny_model_path, tmp_path, rows=5)
    trainer.train()
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert all(entry["curriculum/groups_missing"] >= 2 for entry in logs)  # two of five prompts have signal


def test_gates_are_refused_where_they_cannot_work(tiny_model_path, tmp_path):
    with pytest.raises(ConfigurationError, match="gates work with text prompts, without tools"):
        CurriculumGRPOTrainer(
            tiny_model_path,
            length_reward,
            arguments(tmp_path),
            sums(),
            curriculum=CurriculumConfig(gates=["equal_rewards"]),
            rollout_func=lambda prompts, trainer: {},
        )
