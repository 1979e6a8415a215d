"""Policies as users bring them: adapters of every kind, resumed and merged, resized vocabularies, compiled models."""

import pytest
import torch
from peft import LoraConfig, PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig

from edco_rl import ConfigurationError, CurriculumConfig, CurriculumGRPOTrainer, CurriculumPPOConfig, EngineConfig
from edco_rl.engine.transformers_backend import TransformersBackend

from ..conftest import TINY_VOCABULARY
from .support import ROLLOUTS, TRAINERS, length_reward, sums, taught_by

OWN = EngineConfig(engine_mode="tests.engine.own:CopiedModel")
PROMPTS = [[1, 2, 3], [40, 50, 60, 70], [7]]
CONFIG = CurriculumConfig(strategy="random", curriculum_interval=2)


def make(model, folder, peft_config=None, engine=OWN, curriculum=CONFIG, **changes):
    args = GRPOConfig(**(ROLLOUTS | {"output_dir": str(folder), "max_steps": 2, "learning_rate": 0.05} | changes))
    return CurriculumGRPOTrainer(
        model, length_reward, args, sums(), peft_config=peft_config, engine=engine, curriculum=curriculum
    )


def lora(**settings):
    return LoraConfig(**({"r": 4, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"} | settings))


def difference(trainer):
    """Largest difference between the log-probabilities of engine and policy."""
    policy = TransformersBackend.of(trainer.model, trainer.processing_class)
    completions = [[5, 6, 7]] * len(PROMPTS)
    trainer.sync_engine()
    here, there = (backend.read(PROMPTS, completions) for backend in (policy, trainer.engine))
    return max(abs(a - b).max() for (a, _), (b, _) in zip(here, there, strict=True))


@pytest.fixture(scope="module")
def untied_model_path(tiny_model_path, tmp_path_factory):
    path = tmp_path_factory.mktemp("untied")
    model = AutoModelForCausalLM.from_pretrained(tiny_model_path, tie_word_embeddings=False)
    with torch.no_grad():
        model.lm_head.weight.copy_(torch.randn_like(model.lm_head.weight) * 0.1)
    model.save_pretrained(path)
    AutoTokenizer.from_pretrained(tiny_model_path).save_pretrained(path)
    return str(path)


@pytest.mark.parametrize(
    ("tied", "settings"),
    [
        (True, {}),
        (True, {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 64}}),
        (True, {"modules_to_save": ["lm_head"], "ensure_weight_tying": True}),
        (False, {"modules_to_save": ["lm_head", "embed_tokens"]}),
        (False, {"target_modules": ["q_proj", "embed_tokens"]}),
        (True, {"init_lora_weights": "pissa"}),
    ],
    ids=str,
)
def test_an_engine_has_the_log_probabilities_of_a_lora_policy(
    tiny_model_path, untied_model_path, tmp_path, tied, settings
):
    trainer = make(tiny_model_path if tied else untied_model_path, tmp_path, lora(**settings))
    before = difference(trainer)
    trainer.train()
    assert trainer.state.log_history[0]["grad_norm"] > 0
    assert max(before, difference(trainer)) < 1e-5


@pytest.mark.parametrize(
    "settings",
    [
        {"modules_to_save": ["lm_head"]},
        {"modules_to_save": ["embed_tokens"]},
        {"target_modules": ["q_proj", "embed_tokens"]},
    ],
    ids=str,
)
def test_an_adapter_that_unties_head_and_embeddings_is_refused(tiny_model_path, tmp_path, settings):
    with pytest.raises(ConfigurationError, match=r"head is tied to its embeddings, .* \(lora_modules_to_save"):
        make(tiny_model_path, tmp_path, lora(**settings))
    make(tiny_model_path, tmp_path, lora(**settings), engine=None).train()


@pytest.mark.parametrize(
    ("transport", "settings", "message"),
    [
        ("adapter", {"modules_to_save": ["lm_head"]}, r"lora_modules_to_save \['lm_head'\]: .* engine_transport file"),
        ("adapter", {"rank_pattern": {"q_proj": 2}}, "rank_pattern .* set engine_transport file"),
        ("adapter", {"bias": "all"}, "bias 'all': .* set engine_transport file"),
        ("auto", {"use_dora": True}, "use_dora True: .* train without an engine"),
        ("file", {"trainable_token_indices": [1, 2]}, r"trainable_token_indices \[1, 2\]: "),
    ],
)
def test_an_adapter_an_engine_cannot_serve_is_refused_before_anything_is_started(
    tmp_path, transport, settings, message, new_children
):
    with pytest.raises(ConfigurationError, match=message):
        make("/no/such/model", tmp_path, lora(**settings), engine=EngineConfig(engine_transport=transport))
    assert not new_children()


def test_an_adapter_is_resumed_and_merged(tiny_model_path, tmp_path):
    first = make(tiny_model_path, tmp_path / "first", lora(modules_to_save=["lm_head"], ensure_weight_tying=True))
    first.train()
    first.save_model()
    base = AutoModelForCausalLM.from_pretrained(tiny_model_path)
    model = PeftModel.from_pretrained(base, str(tmp_path / "first"), is_trainable=True, adapter_name="mine")
    resumed = make(model, tmp_path / "resumed")
    assert difference(resumed) < 1e-5
    resumed.train()
    assert difference(resumed) < 1e-5
    merged = make(resumed.model.merge_and_unload(), tmp_path / "merged", lora())
    assert difference(merged) < 1e-5
    merged.train()
    assert difference(merged) < 1e-5


def test_a_resized_vocabulary_works_without_an_engine_and_is_refused_with_one(tiny_model_path, tmp_path):
    def resized():
        model = AutoModelForCausalLM.from_pretrained(tiny_model_path)
        model.resize_token_embeddings(TINY_VOCABULARY + 8)
        return model

    edco = CurriculumConfig(scoring_prefix_tokens=1, scoring_quick_answer=False)
    trainer = make(resized(), tmp_path, engine=None, curriculum=edco)
    trainer.train()
    assert trainer.state.global_step == 2
    with pytest.raises(
        ConfigurationError,
        match=f"vocabulary of {TINY_VOCABULARY + 8}, that of .* loads, {TINY_VOCABULARY}: it was resized",
    ):
        make(resized(), tmp_path)


@pytest.mark.parametrize("kind", ["grpo", pytest.param("sft", marks=pytest.mark.slow)])
def test_a_compiled_model_trains_as_it_would_otherwise(tiny_model_path, tmp_path, kind):
    trainer, config, settings = TRAINERS[kind]
    dataset = sums(13, completion=[f" {number}" for number in range(13)])
    curriculum = CurriculumConfig(scoring_prefix_tokens=1, scoring_quick_answer=False)

    def losses(**changes):
        args = config(**(settings | {"output_dir": str(tmp_path), "max_steps": 3} | changes))
        made = trainer(
            tiny_model_path, *taught_by(kind, tiny_model_path), args=args, train_dataset=dataset, curriculum=curriculum
        )
        made.train()
        return [entry["loss"] for entry in made.state.log_history if "loss" in entry]

    compiled = losses(torch_compile=True, torch_compile_backend="eager")
    assert compiled == pytest.approx(losses(), abs=1e-5) and len(compiled) == 3


def test_a_compiled_policy_is_refused_by_ppo(tmp_path):
    with pytest.raises(ConfigurationError, match="torch_compile: the value function"):
        CurriculumPPOConfig(str(tmp_path), bf16=False, use_cpu=True, torch_compile_backend="eager")
