"""What a trainer is told before it trains: rows too long, templates and samplers that are not there or not asked."""

import logging

import pytest
from datasets import Dataset
from transformers import AutoTokenizer
from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer

from edco_rl import (
    ConfigurationError,
    CurriculumConfig,
    CurriculumGRPOTrainer,
    CurriculumMixin,
    CurriculumSFTTrainer,
    EngineConfig,
)
from edco_rl.trainers.rollout_mixin import RolloutMixin

from .support import ROLLOUTS, TRAINERS, TRAINING, length_reward, sums, taught_by

SHORT = EngineConfig(engine_mode="tests.engine.own:ShortEngine")


def make(kind, model, folder, dataset, curriculum="random", engine=None, eval_dataset=None, **changes):
    trainer, config, settings = TRAINERS[kind]
    args = config(**(settings | {"output_dir": str(folder), "max_steps": 2} | changes))
    given = {"args": args, "train_dataset": dataset, "eval_dataset": eval_dataset}
    return trainer(model, *taught_by(kind, model), curriculum=curriculum, engine=engine, **given)


@pytest.mark.parametrize("kind", ["grpo", "rloo", "ppo", "distillation"])
def test_a_prompt_too_long_for_the_engine_is_named_before_training(tiny_model_path, tmp_path, kind):
    prompts = ["1 + 1 ="] * 8 + ["1 + 1 + 1 + 1 + 1 ="]
    rows = Dataset.from_dict({"prompt": prompts, "id": [f"row {number}" for number in range(9)]})
    settings = {"engine": SHORT, "max_completion_length": 6} | ({"lmbda": 1.0} if kind == "distillation" else {})
    rest = r".* takes \d\d tokens with max_completion_length 6, .* at most 12 \(engine_max_model_len"
    with pytest.raises(ConfigurationError, match=rf"^Row 8 \(id 'row 8'\): {rest}"):
        make(kind, tiny_model_path, tmp_path, rows, **settings)
    short = rows.select(range(8))
    for evaluated, name in ((rows, "eval_dataset"), ({"easy": short, "hard": rows}, "eval_dataset hard")):
        with pytest.raises(ConfigurationError, match=rf"^{name}, row 8: {rest}"):
            make(kind, tiny_model_path, tmp_path, short, eval_dataset=evaluated, **settings)
    make(kind, tiny_model_path, tmp_path, short, eval_dataset=short, **settings).train()


def test_a_prompt_too_long_to_be_scored_is_named_before_training(tiny_model_path, tmp_path):
    rows = sums(8, completion=[" 1 2 3 4 5 6 7 8 9" if number == 3 else " 1" for number in range(8)])
    trainer = make("sft", tiny_model_path, tmp_path, rows, curriculum="perplexity", engine=SHORT)
    with pytest.raises(ConfigurationError, match=r"Row 3 \(id '.*'\): its prompt takes .* what scoring adds to it"):
        trainer.train()
    assert trainer.state.global_step == 0


def constant(completions, **kwargs):
    return [0.0] * len(completions)


def conversations(count=8):
    return Dataset.from_dict(
        {
            "prompt": [[{"role": "user", "content": f"{number}?"}] for number in range(count)],
            "completion": [[{"role": "assistant", "content": f"{number}"}] for number in range(count)],
        }
    )


@pytest.fixture(scope="module")
def base_model_path(tiny_model_path, tmp_path_factory):
    """The tiny model with a tokenizer that has no chat template."""
    import shutil

    path = tmp_path_factory.mktemp("base") / "model"
    shutil.copytree(tiny_model_path, path)
    (path / "chat_template.jinja").unlink(missing_ok=True)
    assert AutoTokenizer.from_pretrained(path).chat_template is None
    return str(path)


@pytest.mark.parametrize("kind", TRAINERS)
def test_messages_for_a_base_model_are_refused_with_the_setting_for_plain_text(base_model_path, tmp_path, kind):
    with pytest.raises(
        ConfigurationError, match=r"Row 0, column 'prompt': .* no chat template.* conversational: false"
    ):
        make(kind, base_model_path, tmp_path, conversations())
    make(kind, base_model_path, tmp_path, sums(8, completion=[" 1"] * 8)).train()


def test_a_template_of_ones_own_or_a_tokenizer_given_is_looked_at(base_model_path, tiny_model_path, tmp_path):
    """And messages of which no role can be rendered are named."""
    template = tmp_path / "template.jinja"
    template.write_text("{% for message in messages %}{{ message['content'] }}{% endfor %}")
    make("sft", base_model_path, tmp_path, conversations(), chat_template_path=str(template)).train()
    args = GRPOConfig(**(ROLLOUTS | {"output_dir": str(tmp_path), "max_steps": 1}))
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_path)
    given = {"args": args, "train_dataset": conversations(), "curriculum": "random"}
    CurriculumGRPOTrainer(base_model_path, constant, processing_class=tokenizer, **given).train()


@pytest.mark.parametrize("strategy", ["random", "edco"])
@pytest.mark.parametrize("form", ["messages", "completions"])
def test_the_loss_of_the_assistants_tokens_alone_is_that_of_stock_trl(tiny_model_path, tmp_path, form, strategy):
    from trl import SFTConfig, SFTTrainer

    template = tmp_path / "template.jinja"
    template.write_text(
        "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% if message['role'] == 'assistant' %}"
        "{% generation %}{{ message['content'] }}<|im_end|>{% endgeneration %}{% else %}{{ message['content'] }}"
        "<|im_end|>{% endif %}\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    turns = [
        [{"role": role, "content": f"{role} {number}"} for role in ("user", "assistant", "user", "assistant")]
        for number in range(8)
    ]
    rows = (
        {"messages": turns}
        if form == "messages"
        else {"prompt": [t[:-1] for t in turns], "completion": [t[-1:] for t in turns]}
    )

    def losses(trainer, **kwargs):
        settings = TRAINING | {"per_device_train_batch_size": 2, "max_steps": 4, "assistant_only_loss": True}
        args = SFTConfig(**settings, output_dir=str(tmp_path), chat_template_path=str(template))
        made = trainer(tiny_model_path, args=args, train_dataset=Dataset.from_dict(rows), **kwargs)
        made.train()
        return [(entry["loss"], entry["mean_token_accuracy"]) for entry in made.state.log_history if "loss" in entry]

    config = CurriculumConfig(strategy=strategy, scoring_prefix_tokens=1, scoring_quick_answer=False)
    ours = losses(CurriculumSFTTrainer, curriculum=config)
    assert len(ours) == 4 and (strategy != "random" or ours == losses(SFTTrainer))


@pytest.mark.parametrize("ids", [True, False])
def test_a_prompt_that_fills_max_length_is_named(tiny_model_path, tmp_path, ids):
    long = "1 + 1 + 1 + 1 + 1 + 1 + 1 ="
    rows = {"prompt": ["1 + 1 =", long, "1 + 1 =", long], "completion": [" 2"] * 4}
    if ids:
        rows["id"] = list("abcd")
    name = r"Row 1 \(id 'b'\)" if ids else "Row 1"
    message = rf"{name} has no token left .* cut to max_length 8: .* Of the 4 rows this happens to 2, .*skip_invalid"
    with pytest.raises(ConfigurationError, match=message):
        make("sft", tiny_model_path, tmp_path, Dataset.from_dict(rows), max_length=8)


def test_a_shuffled_data_set_is_refused(tiny_model_path, tmp_path):
    with pytest.raises(ConfigurationError, match="shuffle_dataset moves the rows"):
        make("sft", "/no/such/model", tmp_path, sums(8, completion=[" 1"] * 8), shuffle_dataset=True)


@pytest.mark.parametrize(
    ("settings", "engine", "message"),
    [
        ({"generation_kwargs": {"stop": ["."]}}, None, "generation_kwargs stop: TRL's .* does not stop there"),
        ({"generation_kwargs": {"stop_strings": "."}}, None, "generation_kwargs stop_strings: TRL's .* Use an engine"),
        ({"generation_kwargs": {"stop_strings": "."}}, SHORT, "that of an engine is stop"),
        (
            {"generation_kwargs": {"stop": ["."]}, "mask_truncated_completions": True},
            SHORT,
            "mask_truncated_completions leaves out .* what stop of generation_kwargs ends",
        ),
    ],
)
def test_stop_strings_are_refused_where_nothing_would_stop_at_them(tmp_path, settings, engine, message):
    with pytest.raises(ConfigurationError, match=message):
        make("grpo", "/no/such/model", tmp_path, sums(), engine=engine, **settings)


class WithSampler(GRPOTrainer):
    def _get_train_sampler(self, dataset=None):
        raise AssertionError("asked")


class OwnOrder(RolloutMixin, WithSampler):
    unpack = CurriculumGRPOTrainer.unpack
    pack = CurriculumGRPOTrainer.pack


class OwnOrderOnTop(CurriculumGRPOTrainer):
    def _get_train_sampler(self, dataset=None):
        raise AssertionError("asked")


class WithLoader(DPOTrainer):
    def get_train_dataloader(self):
        raise AssertionError("asked")


class OwnLoader(CurriculumMixin, WithLoader):
    pass


class HandsOn(CurriculumGRPOTrainer):
    def get_train_dataloader(self):
        return super().get_train_dataloader()


class GoesRound(CurriculumGRPOTrainer):
    def get_train_dataloader(self):
        return GRPOTrainer.get_train_dataloader(self)


@pytest.mark.parametrize(
    ("trainer", "warning"),
    [
        (OwnOrder, "WithSampler._get_train_sampler will not be asked"),
        (OwnOrderOnTop, "OwnOrderOnTop._get_train_sampler will not be asked"),
        (HandsOn, None),
    ],
)
def test_a_sampler_of_ones_own_is_said_to_be_not_asked(tiny_model_path, tmp_path, caplog, trainer, warning):
    args = GRPOConfig(**(ROLLOUTS | {"output_dir": str(tmp_path), "max_steps": 1}))
    with caplog.at_level(logging.WARNING, "edco_rl"):
        trainer(tiny_model_path, length_reward, args, sums(), curriculum="random").train()
    said = [record.message for record in caplog.records if record.name.startswith("edco_rl")]
    assert len(said) == (warning is not None) and all(one.startswith(warning) for one in said)


def test_a_data_loader_that_goes_round_the_curriculum_is_refused(tiny_model_path, tmp_path):
    args = GRPOConfig(**(ROLLOUTS | {"output_dir": str(tmp_path), "max_steps": 1}))
    with pytest.raises(ConfigurationError, match=r"training data loader is not the curriculum's, .* super\(\)"):
        GoesRound(tiny_model_path, length_reward, args, sums(), curriculum="random").train()


def test_a_data_loader_after_the_mixin_is_said_to_be_not_asked(tiny_model_path, tmp_path, caplog):
    rows = sums(8, chosen=[" 1"] * 8, rejected=[" 2"] * 8)
    args = DPOConfig(**(TRAINING | {"output_dir": str(tmp_path), "max_steps": 1, "per_device_train_batch_size": 2}))
    OwnLoader(tiny_model_path, args=args, train_dataset=rows, curriculum="random").train()
    assert "WithLoader.get_train_dataloader will not be asked" in caplog.text
