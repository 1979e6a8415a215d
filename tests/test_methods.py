"""The one list of methods: what each is made of fits together."""

import pytest
from trl import GRPOConfig

from edco_rl import ConfigurationError, CurriculumConfig, CurriculumMixin
from edco_rl.methods import METHODS, find_method


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_what_a_method_is_made_of_exists(method):
    assert issubclass(method.load("curriculum"), CurriculumConfig)
    assert issubclass(method.load("trainer"), CurriculumMixin)
    assert callable(method.load("run")) and method.summary
    assert hasattr(method.load("script"), "dataset_name") and hasattr(method.load("training"), "learning_rate")


def test_methods_are_found_by_name():
    assert find_method("grpo").load("training") is GRPOConfig
    with pytest.raises(ConfigurationError, match=r"'distill' is no method; choose from grpo, .*distillation"):
        find_method("distill")
