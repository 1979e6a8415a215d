"""Which transport and engine settings lead to, and a push through a user's own; tests/e2e pushes to vLLM."""

import pytest
import torch
from accelerate import Accelerator
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig

from edco_rl import ConfigurationError, CurriculumGRPOTrainer, EngineConfig
from edco_rl.engine import Sampling, WeightVersionError
from edco_rl.engine.generation import EngineGeneration
from edco_rl.engine.launch import open_engine, resolve_engine, scoring_engine
from edco_rl.engine.transformers_backend import TransformersBackend
from edco_rl.engine.weights import TRANSPORTS
from edco_rl.engine.weights.base import agree

from .own import CopiedModel, CopyTransport

URL = "http://localhost:8000"
OWN = "tests.engine.own:CopiedModel"
PROMPTS = [[504, 260, 1732], [28]]


def test_every_transport_is_found_by_the_name_of_its_file():
    assert {"adapter", "file", "ipc", "nccl"} <= set(TRANSPORTS.names())
    for name in TRANSPORTS.names():
        assert TRANSPORTS.find(name).__module__ == f"edco_rl.engine.weights.{name}"


@pytest.mark.parametrize(
    ("mode", "url", "lora", "cuda", "transport"),
    [
        ("server", None, False, False, "file"),
        ("server", None, False, True, "file"),
        ("server", None, True, True, "adapter"),
        ("server", URL, False, False, "file"),
        ("server", URL, False, True, "nccl"),
        ("server", URL, True, True, "adapter"),
        ("colocate", None, False, False, "file"),
        ("colocate", None, False, True, "ipc"),
        ("colocate", None, True, False, "adapter"),
        ("colocate", None, True, True, "adapter"),
        (OWN, None, False, True, "tests.engine.own:CopyTransport"),
    ],
)
def test_what_auto_stands_for(mode, url, lora, cuda, transport):
    config = resolve_engine(EngineConfig(engine_mode=mode, engine_url=url), lora=lora, cuda=cuda)
    assert config.engine_transport == transport


@pytest.mark.parametrize(
    ("mode", "transport", "cuda", "message"),
    [
        ("server", "adapter", True, "transport adapter needs a LoRA policy"),
        ("server", "nccl", False, "transport nccl needs CUDA"),
        ("colocate", "ipc", False, "transport ipc needs CUDA"),
        ("colocate", "nccl", True, "nccl needs engine_mode server"),
        ("server", "ipc", True, "ipc needs engine_mode colocate"),
        (OWN, "file", False, "engine_transport file works with engines that are a VLLMEngine; CopiedModel"),
        ("server", "tests.engine.own:CopyTransport", False, "works with engines that are a CopiedModel; EngineClient"),
        ("server", "nowhere.at:All", False, "Cannot import engine_transport 'nowhere.at:All'"),
        ("server", "edco_rl.engine:Sampling", False, "not a subclass of edco_rl.engine.weights.WeightTransport"),
        (
            "edco_rl.engine:Sampling",
            "auto",
            False,
            "is not a subclass of edco_rl.engine.Engine",
        ),
    ],
)
def test_what_cannot_work_is_named_before_anything_is_started(mode, transport, cuda, message, new_children):
    config = EngineConfig(engine_mode=mode, engine_transport=transport)
    with pytest.raises(ConfigurationError, match=message):
        open_engine(config, "nowhere", cuda=cuda)
    assert not new_children()


@pytest.mark.parametrize(
    ("transport", "arguments", "message"),
    [
        ("nowhere.at:All", {}, "Cannot import engine_transport"),
        ("auto", {"vllm_structured_outputs_regex": "[0-9]+"}, "vllm_structured_outputs_regex .* TRL's own"),
    ],
)
def test_a_trainer_says_so_before_it_loads_a_model(transport, arguments, message, tmp_path):
    args = GRPOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to="none", **arguments)
    rows = Dataset.from_dict({"prompt": ["1 + 1 ="]})
    with pytest.raises(ConfigurationError, match=message):
        CurriculumGRPOTrainer(
            "no/such/model", len, args, rows, engine=EngineConfig(engine_mode=OWN, engine_transport=transport)
        )


@pytest.fixture
def policy(tiny_model_path):
    """The model after a few steps of an optimizer."""
    model = AutoModelForCausalLM.from_pretrained(tiny_model_path)
    torch.manual_seed(3)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) * 0.1)
    return model


def generation(policy, path, connection, version):
    return EngineGeneration(
        policy,
        Accelerator(cpu=True),
        AutoTokenizer.from_pretrained(path),
        engine=connection.engine,
        transport=connection.transport,
        version=lambda: version,
        temperature=0.7,
        max_completion_length=5,
    )


def test_a_users_own_engine_serves_what_a_users_own_transport_brings(policy, tiny_model_path):
    connection = open_engine(EngineConfig(engine_mode=OWN), tiny_model_path)
    assert isinstance(connection.transport, CopyTransport)
    own = generation(policy, tiny_model_path, connection, 3)
    trainers = TransformersBackend.of(policy, own.processing_class)

    def difference():
        completions = [[5, 6, 7]] * len(PROMPTS)
        here, there = (backend.read(PROMPTS, completions) for backend in (trainers, connection.engine))
        return max(abs(a - b).max() for (a, _), (b, _) in zip(here, there, strict=True))

    assert difference() > 0.1
    own.sync_weights()
    assert connection.engine.weight_version().startswith("3-") and difference() < 1e-6
    prompts, completions, logprobs, _ = own.generate(PROMPTS, None, num_generations=1)
    assert prompts == PROMPTS and [len(ids) for ids in completions] == [len(values) for values in logprobs] == [5, 5]
    own.sync_weights()  # the same step again is another version
    assert len({connection.engine.weight_version(), connection.transport.pushed}) == 1
    other = open_engine(EngineConfig(engine_mode=OWN), tiny_model_path).transport
    other.engine = connection.engine
    other.push(list(policy.named_parameters()), 3)
    with pytest.raises(WeightVersionError, match=r"version 3 after version 3 .* Is another trainer pushing"):
        own.generate(PROMPTS, None, num_generations=1)
    connection.close()
    assert connection.engine.closed


def test_a_transport_that_does_not_bring_the_version_is_found_out(policy, tiny_model_path):
    config = EngineConfig(engine_mode=OWN, engine_transport="tests.engine.own:ForgetfulTransport")
    own = generation(policy, tiny_model_path, open_engine(config, tiny_model_path), 3)
    with pytest.raises(WeightVersionError, match="version start after version 3"):
        own.sync_weights()


def test_an_authors_mistake_is_shown_and_the_engine_released(tiny_model_path, monkeypatch):
    opened = []
    original = CopiedModel.open.__func__
    monkeypatch.setattr(
        CopiedModel, "open", classmethod(lambda *args, **kwargs: opened.append(original(*args, **kwargs)) or opened[0])
    )
    with pytest.raises(TypeError, match="its author's own mistake"):
        open_engine(
            EngineConfig(engine_mode=OWN, engine_transport="tests.engine.own:UnfinishedTransport"), tiny_model_path
        )
    assert opened[0].closed


def test_scores_come_from_a_users_own_engine(tiny_model_path):
    with scoring_engine(EngineConfig(engine_mode=OWN), tiny_model_path) as engine:
        [group] = engine.generate(PROMPTS[:1], Sampling(2, n=3))
        assert [len(completion.logprobs) for completion in group] == [2, 2, 2]
    assert engine.closed


def test_a_folder_both_sides_see_is_asked_for(tmp_path):
    class Remote(CopiedModel):
        sees_local_files = False
        url = "http://far.away:8000"

        def __init__(self):
            pass

    with pytest.raises(ConfigurationError, match=r"far\.away:8000 may run on another machine"):
        agree(Remote(), EngineConfig(), "", weights=False)
    agreed = agree(Remote(), EngineConfig(engine_transport_dir=str(tmp_path)), "", weights=False)
    assert agreed.parent == tmp_path and agreed.is_dir()
    with pytest.raises(ConfigurationError, match="Name a folder that exists"):
        agree(Remote(), EngineConfig(engine_transport_dir=str(tmp_path / "absent")), "", weights=False)
