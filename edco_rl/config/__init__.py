"""Configuration of what this package adds to TRL: the curriculum, its entropy estimator, the engine and the run.

Every field is also a YAML key and a command-line flag, beside TRL's own. Names never clash with TRL's.
"""

from .benchmark import BenchmarkConfig, ReportConfig
from .commands import AuditConfig, EvaluateConfig, InputConfig, RunConfig, ScoreConfig, ServeConfig
from .complexity import ComplexityConfig
from .curriculum import CurriculumConfig, EstimatorConfig
from .data import DATASET_FORMATS, DataConfig
from .doctor import DoctorConfig
from .engine import ENGINE_CLASSES, EngineConfig, ScoringEngineConfig, available_transports
from .runner import RunnerConfig
from .trl_engine import engine_of_trl

__all__ = [
    "DATASET_FORMATS",
    "ENGINE_CLASSES",
    "AuditConfig",
    "BenchmarkConfig",
    "ComplexityConfig",
    "CurriculumConfig",
    "DataConfig",
    "DoctorConfig",
    "EngineConfig",
    "EstimatorConfig",
    "EvaluateConfig",
    "InputConfig",
    "ReportConfig",
    "RunConfig",
    "RunnerConfig",
    "ScoreConfig",
    "ScoringEngineConfig",
    "ServeConfig",
    "available_transports",
    "engine_of_trl",
]
