"""The self-test finds an engine in order, and each way of not being so; with the real server, and a user's engine."""

import json
import sys

import pytest
import torch

from edco_rl import EngineConfig
from edco_rl.cli import main
from edco_rl.config import DoctorConfig
from edco_rl.doctor.examine import run_doctor
from edco_rl.doctor.self_test import TOLERANCE, make_model, self_test
from edco_rl.errors import EdcoRLError

from ..engine.own import CopiedModel, CopyTransport

OWN = EngineConfig(engine_mode=f"{__name__}:TestedModel")
STEPS = ["engine", "scoring", "push", "read back", "self-test"]


class TestedModel(CopiedModel):
    """A copy of the model in this process."""

    __test__ = False


class Deaf(CopyTransport):
    """Stamps the weights, and leaves them where they are."""

    def send(self, named_parameters, version):
        self.engine.version = str(version)


class Broken(TestedModel):
    """Serves weights that are not those on disk."""

    @classmethod
    def open(cls, model, config, *, rank, log_path):
        engine = super().open(model, config, rank=rank, log_path=log_path)
        with torch.no_grad():
            engine.model.lm_head.weight.mul_(0.5)
        return engine


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("model"))


def test_an_engine_in_order_passes_every_step(small, tmp_path):
    found = list(self_test(OWN, small, 600, tmp_path / "log"))
    assert [(finding.what, finding.state) for finding in found] == [(step, "ok") for step in STEPS]


@pytest.mark.parametrize(
    ("settings", "step"),
    [({"engine_transport": f"{__name__}:Deaf"}, "read back"), ({"engine_mode": f"{__name__}:Broken"}, "scoring")],
)
def test_an_engine_that_computes_something_else_is_found(small, tmp_path, settings, step):
    config = EngineConfig(**{"engine_mode": OWN.engine_mode, **settings})
    found = {finding.what: finding.state for finding in self_test(config, small, 600, tmp_path / "log")}
    assert found[step] == "problem" and found["engine"] == "ok"


def test_a_self_test_that_takes_too_long_is_a_problem(small, tmp_path):
    *_, last = self_test(OWN, small, 1e-6, tmp_path / "log")
    assert last.state == "problem"


def test_the_doctor_ends_with_an_error_where_something_fails(capsys):
    forgetful = EngineConfig(engine_mode=OWN.engine_mode, engine_transport="tests.engine.own:ForgetfulTransport")
    with pytest.raises(EdcoRLError, match="self-test"):
        run_doctor(DoctorConfig(), forgetful)
    out = capsys.readouterr().out
    assert "The engine serves weights of version start after version 1 was pushed" in out


def test_the_doctor_says_what_it_has_not_looked_at(capsys):
    main(["doctor", "--self_test", "false", "--json", "true"])
    found = {finding["what"]: finding for finding in json.loads(capsys.readouterr().out)}
    assert found["self-test"]["state"] == "not looked at" and found["trl"]["state"] == "ok"
    assert found["transport file"]["found"] == "engine_mode server and colocate"
    assert "of LoRA policies" in found["transport adapter"]["found"]
    assert found["CPU"]["state"] == "ok"


@pytest.mark.engine
def test_the_real_server_passes_and_keeps_its_weights(server_url, model_path, tmp_path):
    config = EngineConfig(engine_url=server_url, engine_transport="file")
    found = list(self_test(config, model_path, 600, tmp_path / "log"))
    assert [finding.what for finding in found] == [*STEPS[:-1], "restored", STEPS[-1]]
    assert {finding.state for finding in found} == {"ok"}
    assert TOLERANCE == 0.1


def test_models_that_cannot_be_imported_are_a_problem_with_its_cause(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "edco_rl.doctor.self_test", None)  # as with torchvision of another build
    with pytest.raises(EdcoRLError, match="transformers"):
        run_doctor(DoctorConfig(), OWN)
    out = capsys.readouterr().out
    assert "its models cannot be imported: import of edco_rl.doctor.self_test halted" in out
    assert "pip uninstall torchvision" in out
