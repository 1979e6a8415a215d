"""The training methods a matrix can compare."""

from trl import ScriptArguments

from ..benchmark.run import METHODS as TRAINING_METHODS
from ..benchmark.run import Method
from ..complexity.cell import ComplexityAwareConfig, run_complexity_cell

METHODS = {
    **TRAINING_METHODS,
    "complexity-aware": Method(ScriptArguments, ComplexityAwareConfig, run_complexity_cell),
}
