"""Everything that talks to vLLM, and what stands in for it where there is none."""

from .protocol import Completion, Engine, EngineError, EngineLostError, GenerationBackend, Sampling, VLLMEngine
from .weights import WeightTransport, WeightVersionError

__all__ = [
    "Completion",
    "Engine",
    "EngineError",
    "EngineLostError",
    "GenerationBackend",
    "Sampling",
    "VLLMEngine",
    "WeightTransport",
    "WeightVersionError",
]
