"""What a trainer makes of checkpoints that were altered or are of other settings, and which of them it keeps."""

import json
import shutil

import numpy as np
import pytest
from safetensors.torch import load_file

from edco_rl import ConfigurationError, CurriculumConfig
from edco_rl.store import (
    UNFINISHED_FOLDER,
    begin_checkpoint,
    check_checkpoint,
    finish_checkpoint,
)

from .alterations import ALTERATIONS
from .support import TRAINERS, sums

CONFIG = CurriculumConfig(strategy="random", curriculum_interval=2)


def make(model, folder, count=12, curriculum=CONFIG, **changes):
    trainer, config, settings = TRAINERS["sft"]
    saving = {"save_strategy": "steps", "save_steps": 1, "max_steps": 3, "output_dir": str(folder)}
    rows = sums(count, id=[f"row {number}" for number in range(count)], completion=[" 1"] * count)
    args = config(**(settings | saving | changes))
    return trainer(model, args=args, train_dataset=rows, eval_dataset=rows.select(range(2)), curriculum=curriculum)


@pytest.fixture(scope="module")
def saved(tiny_model_path, tmp_path_factory):
    """The folder of a run of three steps, with a checkpoint after each."""
    folder = tmp_path_factory.mktemp("run")
    make(tiny_model_path, folder).train()
    return folder


@pytest.fixture(scope="module")
def trainer(tiny_model_path, tmp_path_factory):
    """One that is only to refuse checkpoints."""
    return make(tiny_model_path, tmp_path_factory.mktemp("other"))


@pytest.mark.parametrize(("name", "alter", "message"), ALTERATIONS)
def test_an_altered_checkpoint_is_refused_by_file_and_reason(saved, trainer, tmp_path, name, alter, message):
    altered = tmp_path / "altered"
    shutil.copytree(saved / "checkpoint-2", altered)
    alter(altered / name)
    with pytest.raises(ConfigurationError, match=name):  # its manifest tells of it
        trainer.train(resume_from_checkpoint=str(altered))
    (altered / "manifest.json").unlink()
    begin_checkpoint(tmp_path)
    altered.rename(tmp_path / UNFINISHED_FOLDER / "again")
    finish_checkpoint(tmp_path / "again", {})
    with pytest.raises(ConfigurationError, match=message) as refused:
        trainer.train(resume_from_checkpoint=str(tmp_path / "again"))
    assert str(tmp_path / "again") in str(refused.value)


def test_what_is_changed_is_named_one_by_one(saved, tiny_model_path, tmp_path, caplog):
    other = make(
        tiny_model_path,
        tmp_path,
        count=14,
        curriculum=CurriculumConfig(strategy="random", curriculum_interval=3),
        per_device_train_batch_size=1,
    )
    other.train(resume_from_checkpoint=str(saved / "checkpoint-3"))
    named = [line for line in caplog.messages if "with something changed" in line]
    assert len(named) == 1
    for change in (
        "curriculum_interval 2, this run has 3",
        "batch_size 2, this run has 1",
        "per_device_train_batch_size 2, this run has 1",
        "12 prompts, this run has 14",
    ):
        assert change in named[0]


def test_checkpoints_are_kept_as_transformers_keeps_them_and_the_best_is_named_by_its_place(
    saved, tiny_model_path, tmp_path
):
    settings = {"eval_strategy": "steps", "eval_steps": 1, "load_best_model_at_end": True, "save_total_limit": 2}
    losses = {1: 3.0, 2: 1.0, 3: 2.0, 4: 4.0}
    best = make(tiny_model_path, tmp_path, max_steps=4, **settings)
    best._evaluate = lambda *_, **__: {"eval_loss": losses[best.state.global_step]}
    best.train()
    assert {path.name for path in tmp_path.glob("checkpoint-*")} == {"checkpoint-2", "checkpoint-4"}
    assert best.state.best_model_checkpoint == str(tmp_path / "checkpoint-2")
    state = json.loads((tmp_path / "checkpoint-4" / "trainer_state.json").read_text())
    assert state["best_model_checkpoint"] == str(tmp_path / "checkpoint-2")
    assert check_checkpoint(tmp_path / "checkpoint-4")["step"] == 4
    weights = load_file(tmp_path / "checkpoint-2" / "model.safetensors")
    name, tensor = next(iter(weights.items()))
    assert np.array_equal(best.model.state_dict()[name].numpy(), tensor.numpy())


def test_resuming_takes_a_checkpoint_or_says_that_there_is_none(tiny_model_path, trainer, tmp_path):
    with pytest.raises(ConfigurationError, match="holds no checkpoint"):
        trainer.train(resume_from_checkpoint=True)
    with pytest.raises(ConfigurationError, match="'/nowhere': there is no such folder"):
        trainer.train(resume_from_checkpoint="/nowhere")
    only_model = make(tiny_model_path, tmp_path, save_only_model=True, max_steps=1)
    only_model.train()
    with pytest.raises(ConfigurationError, match=r"has no optimizer\.pt: training cannot go on from it"):
        only_model.train(resume_from_checkpoint=True)
