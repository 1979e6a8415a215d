"""Settings of a Ray cluster, and what is said where Ray is not installed."""

import sys
from importlib.machinery import PathFinder

import pytest
import yaml

from edco_rl.cli import main
from edco_rl.config import RunnerConfig
from edco_rl.errors import ConfigurationError

from .test_score import arguments, rows  # noqa: F401 (a fixture)


class WithoutRay(PathFinder):
    """Finds what is installed, but for Ray."""

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name == "ray" else PathFinder.find_spec(name, path, target)


@pytest.fixture
def without_ray(monkeypatch):
    monkeypatch.setattr(sys, "meta_path", [WithoutRay if it is PathFinder else it for it in sys.meta_path])
    monkeypatch.delitem(sys.modules, "ray", raising=False)


def test_without_ray_its_extra_is_named_before_anything_is_done(tiny_model_path, rows, tmp_path, capsys, without_ray):  # noqa: F811
    matrix = {"methods": ["sft"], "budget": 1, "output_dir": str(tmp_path / "matrix"), "baseline": "random"}
    (tmp_path / "matrix.yaml").write_text(yaml.safe_dump(matrix | {"settings": {"dataset_name": str(rows)}}))
    for command in (
        arguments(tiny_model_path, rows, tmp_path / "scores.parquet", runner="ray"),
        ["benchmark", "--config", str(tmp_path / "matrix.yaml"), "--runner", "ray"],
    ):
        with pytest.raises(SystemExit) as error:
            main(command)
        assert error.value.code == 2
        assert 'runner ray: Ray is not installed: pip install "edco-rl[ray]".' in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["matrix.yaml"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ray_workers": 4}, "ray_workers needs runner ray; runner is local"),
        ({"ray_address": "auto"}, "ray_address needs runner ray"),
        ({"runner": "rays"}, "runner must be one of local, ray; got 'rays'. Did you mean ray?"),
        ({"runner": "ray", "ray_workers": 0}, "ray_workers must be a whole number of at least 1"),
        ({"runner": "ray", "ray_num_gpus": -1}, "ray_num_gpus must be"),
    ],
)
def test_settings_that_would_do_nothing_or_cannot_be_are_refused(settings, message):
    with pytest.raises(ConfigurationError, match=message.replace("(", r"\(")):
        RunnerConfig(**settings)


@pytest.mark.parametrize("setting", [{"engine_port": 8123}, {"engine_log": "engine.log"}])
def test_what_is_one_servers_is_refused_for_several_workers(
    tiny_model_path,
    rows,  # noqa: F811
    tmp_path,
    capsys,
    monkeypatch,
    setting,
):
    monkeypatch.setattr("edco_rl.runs.score.check_ray_installed", lambda config: None)
    settings = {"runner": "ray", "engine_mode": "server", **setting}
    with pytest.raises(SystemExit) as error:
        main(arguments(tiny_model_path, rows, tmp_path / "scores.parquet", **settings))
    assert error.value.code == 2
    assert f"{next(iter(setting))} is one server's; each of 2 ray_workers starts its own" in capsys.readouterr().err
