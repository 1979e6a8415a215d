"""Teacher and student of one family whose vocabularies are padded to different numbers of tokens."""

import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from edco_rl import ConfigurationError, CurriculumDistillationConfig, CurriculumDistillationTrainer

from ..conftest import TINY_VOCABULARY
from .support import TRAINING, logged, sums

PADDED = TINY_VOCABULARY + 128


def teacher(path, like, vocabulary, tokenizer=True, **changes):
    """A random model with the student's tokenizer beside it; the first rows of its embeddings are always the same."""
    config = LlamaConfig.from_pretrained(like, hidden_size=48, initializer_range=0.2, vocab_size=PADDED, **changes)
    torch.manual_seed(1)
    model = LlamaForCausalLM(config)
    if vocabulary < PADDED:
        embeddings = model.get_input_embeddings().weight.detach()[:vocabulary].clone()
        state = {
            name: tensor
            for name, tensor in model.state_dict().items()
            if "embed" not in name and "lm_head" not in name
        }
        config.vocab_size = vocabulary
        model = LlamaForCausalLM(config)
        model.load_state_dict(state, strict=False)
        model.get_input_embeddings().weight.data.copy_(embeddings)
    model.save_pretrained(path)
    if tokenizer:
        AutoTokenizer.from_pretrained(like).save_pretrained(path)
    return str(path)


def arguments(folder, **changes):
    settings = {
        "output_dir": str(folder),
        "max_steps": 3,
        "per_device_train_batch_size": 2,
        "max_completion_length": 8,
    }
    return CurriculumDistillationConfig(**TRAINING | settings | {"lmbda": 0.0} | changes)


def rows():
    return sums(8, completion=[f" {i + i * i}" for i in range(8)])


@pytest.mark.parametrize(("divergence", "lmbda"), [("forward_kl", 0.0), ("jensen_shannon", 1.0)])
def test_what_a_teacher_has_beyond_the_students_tokens_is_left_out(tiny_model_path, tmp_path, divergence, lmbda):
    names = "loss", "grad_norm", "distillation/divergence"
    settings = {"divergence": divergence, "lmbda": lmbda}
    padded = teacher(tmp_path / "padded", tiny_model_path, PADDED)
    plain = teacher(tmp_path / "plain", tiny_model_path, TINY_VOCABULARY)

    def distil(model, **changes):
        args = arguments(tmp_path, **settings, **changes)
        return logged(CurriculumDistillationTrainer(tiny_model_path, model, args, rows(), curriculum="random"), *names)

    expected = distil(plain)
    assert len(expected) == 3 and all(step["loss"] > 0 for step in expected)
    for found in (
        distil(padded),
        distil(padded, teacher_model_init_kwargs={"dtype": "float32"}),
        distil(LlamaForCausalLM.from_pretrained(padded, dtype=torch.float32)),
    ):
        for one, other in zip(found, expected, strict=True):
            assert one == pytest.approx(other, rel=1e-5)


def test_settings_of_the_teacher_are_as_they_were_afterwards(tiny_model_path, tmp_path):
    args = arguments(tmp_path, teacher_model_init_kwargs={"dtype": "float32"})
    path = teacher(tmp_path / "padded", tiny_model_path, PADDED)
    trainer = CurriculumDistillationTrainer(tiny_model_path, path, args, rows(), curriculum="random")
    assert trainer.args.teacher_model_init_kwargs == {"dtype": "float32"}
    assert trainer.teacher_model.config.vocab_size == TINY_VOCABULARY


def test_a_teacher_of_other_tokens_is_refused_before_a_model_is_loaded(tiny_model_path, tmp_path):
    path = tmp_path / "teacher"
    LlamaConfig.from_pretrained(tiny_model_path, vocab_size=PADDED).save_pretrained(path)  # its weights are not there
    with pytest.raises(ConfigurationError, match=r"4,096 tokens, the teacher one of 4,224\..*cannot be read"):
        CurriculumDistillationTrainer(tiny_model_path, str(path), arguments(tmp_path), rows())
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_path)
    tokenizer.add_tokens(["<of_its_own>"])
    tokenizer.save_pretrained(path)
    with pytest.raises(ConfigurationError, match=r"more than padding: of 1 tokens .* '<of_its_own>'"):
        CurriculumDistillationTrainer(tiny_model_path, str(path), arguments(tmp_path), rows())


def test_a_teacher_of_fewer_tokens_is_refused(tiny_model_path, tmp_path):
    LlamaConfig.from_pretrained(tiny_model_path, vocab_size=3968).save_pretrained(tmp_path / "teacher")
    with pytest.raises(ConfigurationError, match=r"vocabulary of 4,096 tokens, the teacher one of 3,968"):
        CurriculumDistillationTrainer(tiny_model_path, str(tmp_path / "teacher"), arguments(tmp_path), rows())
