"""What `edco-rl doctor` looks at."""

from dataclasses import dataclass, field

from .checks import Checked
from .ranges import Positive, Text


@dataclass
class DoctorConfig(Checked):
    """The self-test of `edco-rl doctor`; what it starts is an engine with the settings given."""

    self_test: bool = field(
        default=True,
        metadata={
            "help": "Whether to start an engine, score, push weights and read them back. With engine_url the server "
            "there is tested: it gets other weights for a moment, so let nobody train with it."
        },
    )
    self_test_seconds: Positive = field(
        default=60.0, metadata={"help": "Seconds the self-test may take, the engine's start included."}
    )
    model_name_or_path: Text | None = field(
        default=None,
        metadata={
            "help": "Model folder or hub id for the self-test; with engine_url the one that is served. By default a "
            "model of two layers that is made on the spot."
        },
    )
    json: bool = field(default=False, metadata={"help": "Whether to print what was found as JSON, and nothing else."})
