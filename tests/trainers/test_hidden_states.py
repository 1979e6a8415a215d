"""The hidden states a trainer gives to a strategy that asks for them, against transformers' own."""

import numpy as np
import pytest
import torch
from peft import LoraConfig, PromptTuningConfig
from transformers import AutoModelForCausalLM

from edco_rl import ConfigurationError, CurriculumConfig
from edco_rl.store import plain

from .support import TRAINERS, sums, taught_by

CONFIG = {
    "strategy": "learning_edge",
    "strategy_kwargs": {"hidden_state": True, "success_at": 3.0},
    "curriculum_interval": 4,
    "scoring_prefix_tokens": 1,
    "scoring_quick_answer": False,
}


def make(kind, model, folder, peft_config=None, curriculum=None, rows=30, **changes):
    trainer, config, settings = TRAINERS[kind]
    return trainer(
        model,
        *taught_by(kind, model),
        args=config(**settings | {"output_dir": str(folder)} | changes),
        train_dataset=sums(rows, completion=[f" {number}" for number in range(rows)]),
        curriculum=CurriculumConfig(**CONFIG | (curriculum or {})),
        **({} if peft_config is None else {"peft_config": peft_config}),
    )


def given(trainer):
    """What the strategy is told from here on: prompts and hidden states of each renewal."""
    told = []
    own = trainer.curriculum.strategy.observe_hidden_states

    def observe(prompts, states):
        told.append((prompts.tolist(), states))
        own(prompts, states)

    trainer.curriculum.strategy.observe_hidden_states = observe
    return told


@pytest.mark.parametrize("kind", ["grpo", "sft"])
@pytest.mark.parametrize("lora", [False, True])
def test_hidden_states_are_those_of_the_last_token_of_each_prompt(tiny_model_path, tmp_path, kind, lora):
    model = AutoModelForCausalLM.from_pretrained(tiny_model_path, attention_dropout=0.5)
    adapter = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", lora_dropout=0.5) if lora else None
    trainer = make(kind, model, tmp_path, adapter, rows=50)
    for name, parameter in trainer.model.named_parameters():
        if "lora_B" in name:  # from zero
            torch.nn.init.normal_(parameter, std=0.1)
    trainer.model.train()
    told, before = given(trainer), torch.get_rng_state()
    trainer.renew_curriculum()
    assert torch.equal(before, torch.get_rng_state())
    assert trainer.model.training and all(module.training for module in trainer.model.modules())
    [(prompts, states)] = told
    assert prompts == list(range(50)) and states.shape == (50, 32) and states.dtype == np.float32
    policy = trainer.model.eval()
    for index in (0, 3, 9, 31, 49):
        ids = trainer.processing_class(sums(50)["prompt"][index], return_tensors="pt").input_ids
        with torch.no_grad():
            output = policy(input_ids=ids, output_hidden_states=True)
        assert states[index] == pytest.approx(output.hidden_states[-1][0, -1].numpy(), abs=1e-5)


def test_a_run_learns_from_them_and_resumes_exactly(tiny_model_path, tmp_path):
    saving = {"max_steps": 12, "save_strategy": "steps", "save_steps": 5}
    whole = make("grpo", tiny_model_path, tmp_path, curriculum={"curriculum_candidates": 16}, **saving)
    told = given(whole)
    whole.train()
    # Sixteen were scored each time; later those whose rewards are known came with them.
    assert len(told) == 3 and len(told[0][0]) == 16 < min(len(told[1][0]), len(told[2][0]))
    slopes = [entry["curriculum/head_slope"] for entry in whole.state.log_history if "loss" in entry]
    assert slopes[0] == 0 and slopes[-1] != 0 and np.isfinite(slopes).all()
    resumed = make("grpo", tiny_model_path, tmp_path, curriculum={"curriculum_candidates": 16}, **saving)
    again = given(resumed)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-5"))
    assert [prompts for prompts, _ in again] == [told[2][0]]
    assert np.array_equal(again[0][1], told[2][1])
    assert plain(resumed.curriculum.state_dict()) == plain(whole.curriculum.state_dict())


def test_a_prompt_whose_hidden_state_is_not_finite_goes_into_quarantine(tiny_model_path, tmp_path, caplog):
    trainer = make("grpo", tiny_model_path, tmp_path)
    wants = trainer.curriculum.strategy.wants_hidden_states

    def spoil(module, args, output):
        output[0] = torch.inf

    def wants_and_spoils(scored):
        trainer.model.base_model.norm.register_forward_hook(spoil)
        return wants(scored)

    trainer.curriculum.strategy.wants_hidden_states = wants_and_spoils
    told = given(trainer)
    trainer.renew_curriculum()
    [(prompts, states)] = told
    assert len(prompts) == 29 and np.isfinite(states).all()
    [spoiled] = {*range(30)} - {*prompts}
    assert np.flatnonzero(trainer.curriculum.pool.quarantined).tolist() == [spoiled]
    assert "is not finite. The prompt is not drawn again" in caplog.text


def test_a_policy_that_learns_tokens_before_the_prompt_is_refused(tiny_model_path, tmp_path):
    adapter = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    with pytest.raises(ConfigurationError, match=r"\(hidden_state\) as it reads a prompt, and PROMPT_TUNING .* LoRA"):
        make("grpo", tiny_model_path, tmp_path, adapter)
