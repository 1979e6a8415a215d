import pytest

from edco_rl import ConfigurationError
from edco_rl.models import check_model_path


@pytest.mark.parametrize("name", ["/nowhere/model", "./model", "~/model", "a/b/c"])
def test_a_missing_model_folder_is_named(name):
    with pytest.raises(ConfigurationError, match="there is no such folder"):
        check_model_path(name)


def test_a_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match=r"it has no config\.json"):
        check_model_path(str(tmp_path))
    check_model_path("Qwen/Qwen3-4B")
