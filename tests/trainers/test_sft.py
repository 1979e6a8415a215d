import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM
from trl import SFTConfig, SFTTrainer

from edco_rl import ConfigurationError, CurriculumConfig, CurriculumSFTTrainer
from edco_rl.store import plain

from .support import TRAINING, logged


def dataset(rows=13, chat=False):
    prompts = [f"{i} + {i * i} =" for i in range(rows)]
    completions = [f" {i + i * i}" for i in range(rows)]
    if chat:
        prompts = [[{"role": "user", "content": prompt}] for prompt in prompts]
        completions = [[{"role": "assistant", "content": completion}] for completion in completions]
    return Dataset.from_dict({"prompt": prompts, "completion": completions})


def arguments(folder, **changes):
    settings = TRAINING | {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}
    return SFTConfig(**(settings | {"output_dir": str(folder)} | changes))


def losses(trainer):
    return logged(trainer, "loss", "grad_norm", "entropy", "mean_token_accuracy", "num_tokens")


@pytest.mark.parametrize(
    ("chat", "lora", "changes"),
    [(False, False, {}), (True, True, {}), (False, True, {"completion_only_loss": False, "data_seed": 5})],
)
def test_random_is_stock_trl_exactly(tiny_model_path, tmp_path, chat, lora, changes):
    """Over more than one pass of a pool that batches divide evenly."""

    def run(trainer, **kwargs):
        peft_config = LoraConfig(target_modules=["q_proj"], lora_dropout=0.1) if lora else None
        args = arguments(tmp_path, **changes)
        rows = dataset(8, chat)
        return losses(trainer(tiny_model_path, args=args, train_dataset=rows, peft_config=peft_config, **kwargs))

    stock = run(SFTTrainer)
    assert len(stock) == 5
    assert run(CurriculumSFTTrainer, curriculum="random") == stock


def test_edco_scores_the_model_being_trained_and_leaves_its_random_state_alone(model_path, tmp_path):
    config = CurriculumConfig(
        curriculum_interval=2, scoring_prefix_tokens=1, scoring_quick_answer=False, scoring_top_logprobs=1000
    )
    args = arguments(tmp_path, max_steps=3)
    trainer = CurriculumSFTTrainer(model_path, args, train_dataset=dataset(8), curriculum=config)
    model, tokenizer = trainer.model, trainer.processing_class
    model.eval()
    exact = []
    for prompt in trainer._prompt_rows["prompt"]:
        with torch.no_grad():
            logprobs = model(**tokenizer(prompt, return_tensors="pt")).logits[0, -1].double().log_softmax(-1)
        exact.append(-(logprobs.exp() * logprobs).sum().item())
    model.train()
    before = torch.get_rng_state()
    trainer.renew_curriculum()
    assert torch.equal(before, torch.get_rng_state()) and model.training
    assert trainer.curriculum.strategy.signals["entropy"].buffer.scores == pytest.approx(exact, abs=0.05)
    seen = []
    trainer.curriculum.strategy.observe = seen.extend
    trainer.train()
    assert trainer.curriculum.visits.prompts > 4
    trained = [outcome for outcome in seen if outcome.rewards is not None]
    assert len(trained) == 3 * 4 and {outcome.version for outcome in trained} == {0, 1, 2}


def test_an_outcome_is_the_share_of_the_references_tokens_ranked_first(model_path, tmp_path):
    trainer = CurriculumSFTTrainer(
        model_path, arguments(tmp_path, max_steps=1, learning_rate=0.0), train_dataset=dataset(4), curriculum="random"
    )
    seen = []
    trainer.curriculum.strategy.observe = seen.extend
    trainer.train()
    model = AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32)
    for outcome in seen:
        row = trainer.train_dataset[outcome.index]
        ids, labels = torch.tensor(row["input_ids"]), torch.tensor(row["labels"])
        first = model(ids[None]).logits[0, :-1].argmax(-1)
        counted = labels[1:] != -100
        assert outcome.rewards[0] == pytest.approx((first == labels[1:])[counted].float().mean().item())
    assert len(seen) == 4 and len({outcome.rewards for outcome in seen}) > 1


@pytest.mark.parametrize("strategy", ["mopps", "reward_variance", "combined", "length", "perplexity"])
def test_any_strategy_trains(tiny_model_path, tmp_path, strategy):
    config = CurriculumConfig(
        strategy=strategy, curriculum_interval=2, scoring_prefix_tokens=1, scoring_quick_answer=False
    )
    trainer = CurriculumSFTTrainer(
        tiny_model_path, arguments(tmp_path, max_steps=4), train_dataset=dataset(chat=True), curriculum=config
    )
    trainer.train()
    assert trainer.state.global_step == 4 and trainer.curriculum.pool.visits.sum() == 16


def test_a_checkpoint_resumes_exactly(tiny_model_path, tmp_path):
    config = CurriculumConfig(
        strategy="combined", curriculum_interval=2, scoring_prefix_tokens=1, curriculum_exploration=0.3
    )

    def make(folder):
        args = arguments(folder, max_steps=7, save_strategy="steps", save_steps=1)
        return CurriculumSFTTrainer(tiny_model_path, args, train_dataset=dataset(), curriculum=config)

    whole = make(tmp_path)
    expected = losses(whole)
    for step in (2, 3, 5):
        resumed = make(tmp_path / str(step))
        resumed.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{step}"))
        found = [entry["loss"] for entry in resumed.state.log_history if "loss" in entry]
        assert found == [entry["loss"] for entry in expected]
        assert plain(resumed.curriculum.state_dict()) == plain(whole.curriculum.state_dict())


def test_messages_are_split_into_prompt_and_completion(tiny_model_path, tmp_path):
    rows = dataset(4, chat=True)
    messages = [row["prompt"] + row["completion"] for row in rows]
    trainer = CurriculumSFTTrainer(
        tiny_model_path, arguments(tmp_path), train_dataset=Dataset.from_dict({"messages": messages})
    )
    assert trainer._prompt_rows["prompt"][:] == rows["prompt"][:]
    assert len(trainer.train_dataset) == 4


@pytest.mark.parametrize(
    ("args", "rows", "config", "message"),
    [
        ({"packing": True}, dataset(), {}, "packing joins rows into one sequence"),
        ({"padding_free": True, "max_length": None}, dataset(), {}, "padding_free joins rows into one sequence"),
        ({}, dataset(), {"gates": ["truncated"]}, "judge groups of rollouts, and this trainer has none"),
        ({}, Dataset.from_dict({"text": ["a"] * 9}), {}, "needs columns prompt and completion, or messages"),
        (
            {},
            Dataset.from_dict({"messages": [[{"role": "user", "content": "a"}]] * 9}),
            {},
            "Row 0, column 'messages': the last message must be the assistant's",
        ),
        ({}, dataset(1), {}, "has 1 prompts, but a generation batch takes 2"),
    ],
)
def test_wrong_input_is_refused(tiny_model_path, tmp_path, args, rows, config, message):
    with pytest.raises(ConfigurationError, match=message):
        CurriculumSFTTrainer(
            tiny_model_path, arguments(tmp_path, **args), train_dataset=rows, curriculum=CurriculumConfig(**config)
        )
