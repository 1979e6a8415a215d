"""The training methods a matrix can compare."""

from trl import ScriptArguments

from ..complexity.cell import ComplexityAwareConfig, run_complexity_cell
from ..runs.methods_tmp import METHODS as TRAINING_METHODS
from ..runs.methods_tmp import Method

METHODS = {
    **TRAINING_METHODS,
    "complexity-aware": Method(ScriptArguments, ComplexityAwareConfig, run_complexity_cell),
}
