"""Numbers that are not finite, in every trainer: the weights never see them, and a run that cannot go on says so."""

import json
import logging

import pytest
import torch
from transformers import TrainerCallback

from edco_rl import CurriculumConfig, EdcoRLError, EngineConfig
from edco_rl.finite_weights import NotFiniteError
from edco_rl.trainers.finite_mixin import QUARANTINE_FILE

from .support import ON_ROLLOUTS, TRAINERS, sums, taught_by

ALL = pytest.mark.parametrize("kind", TRAINERS)
POISON = 7
SAVING = {"save_strategy": "steps", "save_steps": 1}


def make(kind, model, folder, engine=None, rewards=None, curriculum=None, **changes):
    trainer, config, settings = TRAINERS[kind]
    rows = sums(12, completion=[f" {i * i}" for i in range(12)], id=[f"row {i}" for i in range(12)])
    return trainer(
        model,
        *(taught_by(kind, model) if rewards is None else (rewards,)),
        args=config(**(settings | {"output_dir": str(folder), "max_steps": 4} | changes)),
        train_dataset=rows,
        curriculum=CurriculumConfig(**({"strategy": "random"} | (curriculum or {}))),
        engine=engine,
    )


def quarantined(folder):
    """Reasons by id, as the run has written them down."""
    lines = (folder / QUARANTINE_FILE).read_text().splitlines()
    return {line["id"]: line["reason"] for line in map(json.loads, lines)}


def checkpoints(folder):
    return sorted(path.name for path in folder.glob("checkpoint-*"))


def weights(trainer):
    return [parameter.detach().clone() for module in trainer._trained_modules() for parameter in module.parameters()]


def test_a_learning_rate_that_ruins_the_weights_ends_the_run_and_keeps_older_checkpoints(tiny_model_path, tmp_path):
    trainer = make(
        "sft",
        tiny_model_path,
        tmp_path,
        curriculum={"max_skipped_steps": 1},
        learning_rate=1e10,
        save_total_limit=1,
        **SAVING,
    )
    with pytest.raises(
        NotFiniteError, match=r"2 in a row, and max_skipped_steps is 1\. .*lower learning_rate, 10000000000"
    ):
        trainer.train()
    assert checkpoints(tmp_path) == ["checkpoint-1"]


@pytest.mark.parametrize("kind", ["ppo", "sft"])
def test_a_last_step_that_ruins_the_weights_is_not_saved_and_has_not_worked(kind, tiny_model_path, tmp_path):
    """They are finite still: nothing that is computed with them would be."""
    for saving, consequence in (({}, "training has nothing to show"), (SAVING, "they are not saved")):
        trainer = make(kind, tiny_model_path, tmp_path, learning_rate=1e30, max_steps=1, **saving)
        with pytest.raises(
            NotFiniteError, match=f"After optimizer step 1 .* too large to compute with.*{consequence}"
        ):
            trainer.train()
    assert all(parameter.isfinite().all() for parameter in weights(trainer))
    assert not list(tmp_path.rglob("*.safetensors")) and not list(tmp_path.glob("*.unfinished"))


def test_a_run_that_ends_with_a_step_left_out_has_not_worked(tiny_model_path, tmp_path):
    trainer = make("sft", tiny_model_path, tmp_path, learning_rate=1e30, max_steps=2)
    with pytest.raises(NotFiniteError, match="Training ended with 1 optimizer steps left out"):
        trainer.train()


class Weights(TrainerCallback):
    """Which steps changed a weight."""

    def __init__(self, trainer):
        self.trainer, self.changed, self.skipped = trainer, [], []
        trainer.add_callback(self)

    def on_step_begin(self, *args, **kwargs):
        self.before = weights(self.trainer)

    def on_step_end(self, *args, **kwargs):
        pairs = zip(self.before, weights(self.trainer), strict=True)
        self.changed.append(any(not torch.equal(before, after) for before, after in pairs))
        self.skipped.append(self.trainer.step_skipped)


def poison(trainer):
    """Have the model go wrong where it is trained on one prompt, and nowhere else."""
    token = trainer._tokenizer(f"{POISON} + {POISON * POISON} =").input_ids

    def spoil(module, inputs, output):
        if not torch.is_grad_enabled():
            return output
        found = torch.tensor(
            [any(row[i : i + len(token)] == token for i in range(len(row))) for row in inputs[0].tolist()]
        )
        return output.masked_fill(found.view(-1, 1, 1), torch.nan)

    trainer.model.get_input_embeddings().register_forward_hook(spoil)


@ALL
def test_a_prompt_whose_loss_is_not_finite_costs_one_step_and_is_not_drawn_again(kind, tiny_model_path, tmp_path):
    trainer = make(kind, tiny_model_path, tmp_path, save_only_model=True, **SAVING)
    poison(trainer)
    seen = Weights(trainer)
    trainer.train()
    found = quarantined(tmp_path)
    assert f"row {POISON}" in found and len(found) <= 2  # a micro-batch of rows is one of two
    assert all(f"'row {POISON}'" in reason and "was nan" in reason for reason in found.values())
    if kind in ON_ROLLOUTS:  # each log-probability has its row
        assert list(found) == [f"row {POISON}"]
    assert seen.skipped.count(True) == trainer.curriculum.quarantine.skipped == 1
    assert seen.changed == [not skipped for skipped in seen.skipped]
    assert all(parameter.isfinite().all() for parameter in weights(trainer))
    assert trainer.curriculum.pool.visits[POISON] == 1
    assert checkpoints(tmp_path) == [f"checkpoint-{i}" for i, skipped in enumerate(seen.skipped, 1) if not skipped]
    [last] = [entry for entry in trainer.state.log_history if entry.get("step") == 4 and "loss" in entry]
    assert (last["curriculum/quarantined"], last["curriculum/steps_skipped"]) == (len(found), 1)
    assert json.loads(json.dumps(trainer.state.log_history, allow_nan=False))
    saved = json.loads((tmp_path / "checkpoint-4" / "curriculum.json").read_text())
    assert {f"row {index}" for index, *_ in saved["curriculum"]["quarantine"]["entries"]} == set(found)


@ALL
def test_weights_that_are_not_finite_are_neither_saved_nor_trained(kind, tiny_model_path, tmp_path):
    trainer = make(kind, tiny_model_path, tmp_path)
    name, parameter = list(trainer._trained_modules()[-1].named_parameters())[-1]
    with torch.no_grad():
        parameter.view(-1)[-1] = torch.inf
    with pytest.raises(NotFiniteError, match=rf"1 of the .* the first is {name} .*: they are not saved to {tmp_path}"):
        trainer.save_model()
    with pytest.raises(NotFiniteError, match=r"After optimizer step 0 .* they cannot be trained"):
        trainer.train()
    assert not list(tmp_path.glob("*.safetensors"))


def test_they_are_not_pushed_to_an_engine(tiny_model_path, tmp_path):
    trainer = make("grpo", tiny_model_path, tmp_path, engine=EngineConfig(engine_mode="tests.engine.own:CopiedModel"))
    trainer.sync_engine()
    with torch.no_grad():
        next(trainer.model.parameters())[0, 0] = torch.nan
    trainer.state.global_step = 1
    with pytest.raises(NotFiniteError, match=r"After optimizer step 1 .* they are not pushed to the engine"):
        trainer.sync_engine()
    assert trainer.engine.version.startswith("0-")
    trainer.close()


def test_scores_that_are_not_finite_put_their_prompts_in_quarantine(tiny_model_path, tmp_path):
    engine = EngineConfig(engine_mode="tests.engine.own:UncertainEngine")
    curriculum = {"strategy": "edco", "scoring_prefix_tokens": 1}
    trainer = make("sft", tiny_model_path, tmp_path, engine=engine, curriculum=curriculum, max_steps=1)
    trainer.train()
    [(prompt_id, reason)] = quarantined(tmp_path).items()
    assert reason == f"The score of prompt '{prompt_id}' is nan."
    assert trainer.curriculum.strategy.signals["entropy"].buffer.known.sum() == 11


def test_a_policy_that_nothing_can_be_sampled_from_is_told(tiny_model_path, tmp_path):
    trainer = make("grpo", tiny_model_path, tmp_path)
    trainer.model.get_output_embeddings().register_forward_hook(lambda module, inputs, output: output * torch.nan)
    with pytest.raises(
        NotFiniteError, match="After optimizer step 0 the model's next-token probabilities are not fin"
    ):
        trainer.train()


def test_a_process_that_cannot_be_sure_of_the_value_function_leaves_its_steps_out(tiny_model_path, tmp_path, caplog):
    trainer = make(
        "ppo", tiny_model_path, tmp_path, max_steps=2, num_value_epochs=2, curriculum={"max_skipped_steps": 1}
    )
    seen = Weights(trainer)

    def spoil(gradient):
        return gradient * (torch.nan if len(seen.skipped) == 1 else 1.0)  # the second optimizer step

    for parameter in trainer.value_function.parameters():
        parameter.register_hook(spoil)
    with caplog.at_level(logging.WARNING), pytest.raises(EdcoRLError, match="Training ended with 1 optimizer steps"):
        trainer.train()
    assert seen.changed == [True, False]
    assert (
        "Optimizer step 2 is left out, before it changes the weights. The norm of the gradients was nan" in caplog.text
    )
