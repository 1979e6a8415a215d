"""TRL's settings of vLLM ask for this package's engine, or are answered with what to do instead."""

import pytest
from trl import GRPOConfig, SFTConfig

from edco_rl import ConfigurationError, EngineConfig
from edco_rl.config import engine_of_trl


def asked(tmp_path, engine=None, **settings):
    return engine_of_trl(GRPOConfig(output_dir=str(tmp_path), bf16=False, use_cpu=True, **settings), engine)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, {"engine_mode": "colocate"}),
        ({"vllm_mode": "server"}, {"engine_url": "http://127.0.0.1:8000"}),
        (
            {"vllm_mode": "server", "vllm_server_host": "gpu1", "vllm_server_port": 9000},
            {"engine_url": "http://gpu1:9000"},
        ),
        (
            {"vllm_mode": "server", "vllm_server_base_url": "http://a:1", "vllm_server_host": "b"},
            {"engine_url": "http://a:1"},
        ),
        (
            {"vllm_gpu_memory_utilization": 0.5, "vllm_max_model_length": 512, "vllm_tensor_parallel_size": 2},
            {
                "engine_mode": "colocate",
                "engine_gpu_memory_utilization": 0.5,
                "engine_max_model_len": 512,
                "engine_tensor_parallel_size": 2,
            },
        ),
    ],
)
def test_trls_settings_ask_for_this_engine(tmp_path, settings, expected, caplog):
    assert asked(tmp_path, use_vllm=True, **settings) == EngineConfig(**expected)
    assert "use_vllm: the engine is engine_mode" in caplog.text


def test_both_kinds_of_settings_go_together_where_they_agree(tmp_path):
    own = EngineConfig(engine_mode="colocate", engine_dtype="float32", engine_max_model_len=64)
    assert asked(tmp_path, own, use_vllm=True, vllm_max_model_length=64) == own


@pytest.mark.parametrize(
    ("own", "settings", "message"),
    [
        ({"engine_url": "http://a:1"}, {"vllm_mode": "server"}, "engine_url 'http://127.0.0.1:8000', and engine_url"),
        ({"engine_max_model_len": 64}, {"vllm_max_model_length": 32}, "engine_max_model_len 32, and .* is 64"),
        ({}, {"vllm_server_host": "gpu1"}, "vllm_server_host needs vllm_mode server"),
        ({}, {"vllm_model_impl": "transformers"}, "vllm_model_impl 'transformers': give --model-impl"),
        ({}, {"vllm_structured_outputs_regex": "a+"}, "TRL's own vLLM only: set engine_mode none"),
        ({}, {"vllm_group_port": 1}, "vllm_group_port 1: "),
    ],
)
def test_what_cannot_be_is_refused_by_its_name(tmp_path, own, settings, message):
    with pytest.raises(ConfigurationError, match=message):
        asked(tmp_path, EngineConfig(**own), use_vllm=True, **settings)


def test_an_engine_given_by_itself_stands_against_trls_default_mode(tmp_path):
    """A trainer's settings can be those of an earlier one, which has set `use_vllm`."""
    own, args = EngineConfig(engine_url="http://a:1"), GRPOConfig(str(tmp_path), bf16=False, use_vllm=True)
    assert engine_of_trl(args, own, stands=True) == own


def test_what_would_not_count_is_not_dropped_in_silence(tmp_path):
    with pytest.raises(ConfigurationError, match="vllm_server_host is set, and use_vllm is not"):
        asked(tmp_path, EngineConfig(), vllm_server_host="gpu1")


def test_trls_own_vllm_stays_trls(tmp_path):
    none = EngineConfig(engine_mode="none")
    assert asked(tmp_path, none, use_vllm=True, vllm_model_impl="transformers") is none
    assert asked(tmp_path) is None and engine_of_trl(SFTConfig(output_dir=str(tmp_path), bf16=False), none) is none
