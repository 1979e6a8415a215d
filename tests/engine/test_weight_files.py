"""What an engine takes as weights, and from where; tests/benchmarks/fuzz.py tries more of it."""

import os
import stat

import pytest
from transformers import LlamaConfig, LlamaForCausalLM

from edco_rl.engine.exchange import exchange_folder, is_exchanged_folder, open_exchange_folder
from edco_rl.engine.model_identity import OtherModelError, check_same, describe, parameter_shapes, sample_of_weights
from edco_rl.errors import ConfigurationError

from ..benchmarks.fuzz_weight_files import fuzz


def test_what_is_taken_is_what_was_sent():
    outcomes = fuzz(150, 0)
    assert {"taken", "refused", "named what is no file"} <= outcomes.keys()


def test_the_exchange_folder_is_its_users_alone(tmp_path):
    folder = exchange_folder(tmp_path)
    os.close(open_exchange_folder(folder))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    folder.chmod(0o755)
    with pytest.raises(ConfigurationError, match="not this user's alone"):
        open_exchange_folder(folder)
    folder.rmdir()
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigurationError, match="Weights cannot be exchanged in"):
        open_exchange_folder(folder)
    with pytest.raises(ConfigurationError, match="Name a folder that exists"):
        open_exchange_folder(exchange_folder(tmp_path / "absent"))


def test_adapters_are_folders_right_within_the_exchange_folder(tmp_path):
    folder = exchange_folder(tmp_path)
    os.close(open_exchange_folder(folder))
    (folder / "adapter").mkdir()
    (folder / "file").touch()
    (folder / "link").symlink_to(tmp_path)
    assert is_exchanged_folder(folder, str(folder / "adapter"))
    for path in ("adapter", folder / "file", folder / "link", folder / "..", folder, tmp_path, folder / "absent", ""):
        assert not is_exchanged_folder(folder, str(path))


def test_a_models_parameters_are_those_a_trainer_has_of_it(tiny_model_path):
    expected = {n: tuple(p.shape) for n, p in LlamaForCausalLM.from_pretrained(tiny_model_path).named_parameters()}
    assert parameter_shapes(tiny_model_path) == expected


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"num_hidden_layers": 3}, "num_hidden_layers is 3 there and 2 here"),
        ({"hidden_size": 64}, "hidden_size is 64 there and 32 here"),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}, "rope_theta is 500000.0 there"),
        ({}, "started from other weights"),
    ],
)
def test_another_model_is_noticed(tiny_model_path, tmp_path, change, field):
    """Also where all names and shapes are the same."""
    config = LlamaConfig.from_pretrained(tiny_model_path)
    config.update(change)
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    ours, theirs = describe(tiny_model_path), describe(str(tmp_path))
    check_same(ours, ours, weights=True)
    if not change:
        check_same(ours, theirs, weights=False)
    with pytest.raises(OtherModelError, match=field):
        check_same(ours, theirs, weights=True)


def test_a_sample_of_weights_is_that_of_their_values(tiny_model_path, tmp_path):
    model = LlamaForCausalLM.from_pretrained(tiny_model_path)
    model.save_pretrained(tmp_path / "same")
    assert sample_of_weights(str(tmp_path / "same")) == sample_of_weights(tiny_model_path)
    model.model.norm.weight.data[0] += 1
    model.save_pretrained(tmp_path / "other")
    assert sample_of_weights(str(tmp_path / "other")) != sample_of_weights(tiny_model_path)
    assert sample_of_weights(str(tmp_path)) is None
