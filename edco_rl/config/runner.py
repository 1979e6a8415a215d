"""Where `edco-rl score` and `edco-rl benchmark` do their work: in this process, or spread over a Ray cluster."""

from dataclasses import dataclass, field, fields
from typing import Literal

from ..errors import ConfigurationError
from .checks import Checked
from .ranges import Count, NotNegative, Text, Whole


@dataclass
class RunnerConfig(Checked):
    """What runs the parts of a data set that is scored, or the cells of a matrix."""

    runner: Literal["local", "ray"] = field(
        default="local",
        metadata={"help": 'local: this process. ray: workers of a Ray cluster (`pip install "edco-rl[ray]"`).'},
    )
    ray_address: Text = field(
        default="local",
        metadata={
            "help": "local: a cluster on this machine while the command runs. auto: the one that runs on it. Or "
            "an address as ray.init takes it, as head:6379."
        },
    )
    ray_workers: Count = field(
        default=2, metadata={"help": "Workers, each with an engine of its own unless engine_url names a server."}
    )
    ray_num_cpus: NotNegative = field(default=1.0, metadata={"help": "CPUs that Ray sets aside for a worker."})
    ray_num_gpus: NotNegative | None = field(
        default=None,
        metadata={
            "help": "GPUs that Ray sets aside for a worker. By default 1 where the cluster has any when the command "
            "starts, else 0."
        },
    )
    ray_max_restarts: Whole = field(
        default=3, metadata={"help": "Times a worker, or a cell, is started again after it was killed."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        changed = [one.name for one in fields(self) if getattr(self, one.name) != one.default]
        if self.runner == "local" and changed:
            raise ConfigurationError(f"{changed[0]} needs runner ray; runner is local.")
