import json

import pytest
import torch
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from edco_rl import ConfigurationError, CurriculumConfig, CurriculumGRPOTrainer, EngineConfig


def length_reward(completions, **kwargs):
    return [float(sum(map(ord, completion)) % 7) for completion in completions]


def dataset(rows=13):
    return Dataset.from_dict({"prompt": [f"{i} + {i * i} =" for i in range(rows)]})


def arguments(folder, **changes):
    settings = {
        "output_dir": str(folder),
        "report_to": "none",
        "bf16": False,
        "use_cpu": True,
        "max_steps": 5,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 2,
        "num_generations": 2,
        "max_completion_length": 4,
        "learning_rate": 1e-3,
        "gradient_checkpointing": False,
        "logging_steps": 1,
        "save_strategy": "no",
        "disable_tqdm": True,
    }
    return GRPOConfig(**(settings | changes))


def losses(trainer):
    trainer.train()
    keys = ("loss", "grad_norm", "reward", "entropy")
    return [{key: entry[key] for key in keys} for entry in trainer.state.log_history if "loss" in entry]


@pytest.mark.parametrize("changes", [{}, {"num_iterations": 2, "beta": 0.1}, {"shuffle_dataset": False}])
def test_random_without_an_engine_is_stock_trl_exactly(tiny_model_path, tmp_path, changes):
    stock = losses(GRPOTrainer(tiny_model_path, length_reward, arguments(tmp_path, **changes), dataset()))
    ours = losses(
        CurriculumGRPOTrainer(
            tiny_model_path, length_reward, arguments(tmp_path, **changes), dataset(), curriculum="random"
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
        strategy="edco", interval=5, size=4, prefix_tokens=2, quick_answer=False, scoring_top_logprobs=1000
    )
    args = arguments(tmp_path, max_steps=1)
    rows = Dataset.from_dict({"prompt": ["2 + 2 =", "The capital of France is", "I", "Once upon a", "1, 2, 3,", "x"]})
    trainer = CurriculumGRPOTrainer(model_path, length_reward, args, rows, curriculum=config)
    trainer.model.eval()
    exact = [exact_prefix_entropy(trainer.model, trainer.processing_class, p, 2) for p in rows["prompt"]]
    trainer.model.train()
    before = torch.get_rng_state()
    trainer._renew_curriculum()
    assert torch.equal(before, torch.get_rng_state()) and trainer.model.training
    assert trainer.curriculum.strategy.buffer.scores == pytest.approx(exact, abs=0.05)
    expected = sorted(range(6), key=lambda i: -exact[i])[:4]
    assert trainer.curriculum.next_batch().tolist() == expected


def test_a_checkpoint_restores_the_curriculum(tiny_model_path, tmp_path):
    config = CurriculumConfig(strategy="edco", interval=2, prefix_tokens=2, candidates=8)

    def trainer(**changes):
        args = arguments(tmp_path, max_steps=6, save_strategy="steps", save_steps=3, **changes)
        return CurriculumGRPOTrainer(tiny_model_path, length_reward, args, dataset(), curriculum=config)

    whole = trainer()
    whole.train()
    saved = json.loads((tmp_path / "checkpoint-6" / "curriculum.json").read_text())
    assert saved["strategy"] == "edco" and len(saved["visits"]) == whole.curriculum.prompts_used()

    resumed = trainer()
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert resumed.curriculum.visits.sum() == whole.curriculum.visits.sum()
    assert resumed.curriculum.state_dict()["strategy_state"]["scores"].keys() == (
        whole.curriculum.state_dict()["strategy_state"]["scores"].keys()
    )


def test_metrics_say_what_the_time_went_to(tiny_model_path, tmp_path):
    config = CurriculumConfig(interval=1, prefix_tokens=1)
    trainer = CurriculumGRPOTrainer(
        tiny_model_path, length_reward, arguments(tmp_path, max_steps=2), dataset(), curriculum=config
    )
    trainer.train()
    logs = trainer.state.log_history[0]
    parts = [logs[f"time/{part}"] for part in ("rollout", "scoring", "reward", "optimizer")]
    assert sum(parts) == pytest.approx(logs["time/step"], rel=0.01)
    assert min(parts) > 0
    assert {"curriculum/entropy", "curriculum/entropy_pool", "curriculum/visited"} <= logs.keys()


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"train_dataset": Dataset.from_dict({"question": ["a"]})}, "no column 'prompt'"),
        ({"train_dataset": dataset(3)}, "has 3 prompts, but a generation batch takes 4"),
        ({"curriculum": "edko"}, "Unknown strategy 'edko'"),
        ({"curriculum": CurriculumConfig(size=2)}, "size is 2"),
        ({"engine": EngineConfig(transport="adapter")}, "transport adapter needs a LoRA policy"),
        ({"engine": EngineConfig(transport="nccl")}, "transport nccl needs CUDA"),
    ],
)
def test_wrong_input_is_refused(tiny_model_path, tmp_path, kwargs, message):
    with pytest.raises(ConfigurationError, match=message):
        CurriculumGRPOTrainer(
            **{
                "model": tiny_model_path,
                "reward_funcs": length_reward,
                "args": arguments(tmp_path),
                "train_dataset": dataset(),
                **kwargs,
            }
        )


def test_data_loader_workers_are_refused(tiny_model_path, tmp_path):
    args = arguments(tmp_path, dataloader_num_workers=1)
    trainer = CurriculumGRPOTrainer(tiny_model_path, length_reward, args, dataset())
    with pytest.raises(ConfigurationError, match="dataloader_num_workers is 1"):
        trainer.get_train_dataloader()
