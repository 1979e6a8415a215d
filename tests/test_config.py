import dataclasses

import pytest

from edco_rl import ConfigurationError
from edco_rl.config import (
    AuditConfig,
    ComplexityConfig,
    CurriculumConfig,
    DataConfig,
    EngineConfig,
    EstimatorConfig,
    RunConfig,
    ScoreConfig,
    ScoringEngineConfig,
    ServeConfig,
)
from edco_rl.methods import METHODS
from edco_rl.runs.options import method_parser


@pytest.mark.parametrize(
    ("config", "settings", "message"),
    [
        (
            EstimatorConfig,
            {"scoring_prefix_tokens": 0},
            "scoring_prefix_tokens must be a whole number of at least 1; got 0",
        ),
        (EstimatorConfig, {"scoring_samples": 4}, "scoring_temperature is 0"),
        (CurriculumConfig, {"curriculum_interval": 0}, "curriculum_interval must be a whole number of at least 1"),
        (CurriculumConfig, {"curriculum_candidates": 0}, "curriculum_candidates must be a whole number of at least 1"),
        (EngineConfig, {"engine_mode": "remote"}, "engine_mode must be one of server, colocate, none"),
        (
            EngineConfig,
            {"engine_transport": "carrier"},
            "engine_transport must be one of auto, adapter, file, .*or the import path of your own class",
        ),
        (EngineConfig, {"engine_url": "localhost:8000"}, "engine_url must start with http"),
        (EngineConfig, {"engine_mode": "colocate", "engine_url": "http://a"}, "engine_url needs engine_mode server"),
        (EngineConfig, {"engine_url": ["http://a", "b:1"]}, "engine_url must start with http.*; got 'b:1'"),
        (EngineConfig, {"engine_url": ["http://a", "http://b/v1"]}, "without /v1; got 'http://b/v1'"),
        (EngineConfig, {"engine_url": ["http://a:1", "http://b", "http://a:1/"]}, "engine_url names 'http://a:1/' tw"),
        (EngineConfig, {"engine_url": []}, "engine_url must be a URL or a list of them"),
        (EngineConfig, {"engine_mode": "colocate", "engine_data_parallel_size": 2}, "2 needs engine_mode server"),
        (DataConfig, {"task_kwargs": "{"}, "task_kwargs must be a JSON object"),
        (CurriculumConfig, {"strategy_kwargs": "[1]"}, "strategy_kwargs must be a JSON object"),
        (DataConfig, {"held_out_prompts": -1}, "held_out_prompts must be a whole number of at least 0"),
    ],
)
def test_wrong_values_are_refused_with_their_name(config, settings, message):
    with pytest.raises(ConfigurationError, match=message):
        config(**settings)


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_no_field_clashes_with_another_or_with_trl(method):
    names = [field.name for group in method_parser(method, "").groups for field in group.fields]
    assert sorted(set(names)) == sorted(names)


@pytest.mark.parametrize("command", [ScoreConfig, AuditConfig])
def test_no_field_of_a_command_clashes_with_another(command):
    classes = (command, EstimatorConfig, ScoringEngineConfig, DataConfig)
    names = [field.name for cls in classes for field in dataclasses.fields(cls)]
    assert sorted(set(names)) == sorted(names)


def test_every_field_is_documented():
    ours = (
        CurriculumConfig,
        EngineConfig,
        ScoringEngineConfig,
        DataConfig,
        RunConfig,
        ScoreConfig,
        AuditConfig,
        ComplexityConfig,
        ServeConfig,
    )
    for cls in ours:
        for field in dataclasses.fields(cls):
            assert not field.init or field.metadata["help"], field.name


def test_mappings_can_be_json_on_the_command_line():
    assert DataConfig(task_kwargs='{"max_terms": 2}').task_kwargs == {"max_terms": 2}
