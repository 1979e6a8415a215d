"""The engine, and how weights reach it."""

import pkgutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ..errors import ConfigurationError
from .checks import Checked, check_plugin, check_url
from .ranges import Count, NotNegative, OneAtMost, Port, Positive, PositiveShare, Several, Text, Whole

ENGINE_CLASSES = {
    "server": "edco_rl.engine.client:EngineClient",
    "colocate": "edco_rl.engine.colocate:ColocatedEngine",
}
"""Classes of engines by `engine_mode`."""
_SECRETS = {"--api-key": "VLLM_API_KEY", "--hf-token": "HF_TOKEN"}


def available_transports() -> list[str]:
    """Names `engine_transport` can have: those of the files with transports, which are not imported here."""
    folder = Path(__file__).parents[1] / "engine" / "weights"
    return sorted(module.name for module in pkgutil.iter_modules([str(folder)]) if module.name != "base")


@dataclass
class EngineConfig(Checked):
    """The vLLM engine that serves rollouts and log-probabilities, and how the policy's weights reach it."""

    engine_mode: str = field(
        default="server",
        metadata={
            "help": "server: a vLLM server in a process of its own, started unless engine_url names one. colocate: "
            "vLLM inside the trainer's process. none: TRL's own generation, and scoring on the model being trained. "
            "Or the import path of your own engine, as package.module:Class."
        },
    )
    engine_url: str | list[str] | None = field(
        default=None,
        metadata={
            "help": "URL of a running server (`edco-rl serve`), as http://localhost:8000, or of several, which share "
            "the work."
        },
    )
    engine_host: Text = field(
        default="127.0.0.1",
        metadata={
            "help": "Address a started server listens on. Beyond loopback it needs a key in the environment variable "
            "VLLM_API_KEY, which its clients send."
        },
    )
    engine_port: Port = field(default=0, metadata={"help": "Port of a started server; 0 takes a free one."})
    engine_dtype: Literal["auto", "bfloat16", "float16", "float32"] = field(
        default="auto",
        metadata={
            "help": "Data type of the engine's weights. auto: the model's own, but float32 on a CPU without AVX-512, "
            "where bfloat16 is emulated and several times slower."
        },
    )
    engine_max_model_len: Count | None = field(
        default=None, metadata={"help": "Longest prompt and completion together, in tokens. By default the model's."}
    )
    engine_max_num_seqs: Count | None = field(
        default=None, metadata={"help": "Most sequences in one engine step. By default vLLM's."}
    )
    engine_max_logprobs: Several = field(
        default=128, metadata={"help": "Cap on the log-probabilities a request may ask for at each token."}
    )
    engine_gpu_memory_utilization: PositiveShare = field(
        default=0.3, metadata={"help": "Share of the GPU's memory the engine takes. Raise it on a GPU of its own."}
    )
    engine_cpu_kv_cache_gib: Count = field(
        default=2, metadata={"help": "Size of the key-value cache on a CPU, in GiB."}
    )
    engine_tensor_parallel_size: Count = field(default=1, metadata={"help": "GPUs one engine is spread over."})
    engine_data_parallel_size: Count = field(
        default=1, metadata={"help": "Copies of the model that a started server spreads its requests over."}
    )
    engine_enforce_eager: bool | None = field(
        default=None, metadata={"help": "Whether to skip compilation. By default on a CPU only: it starts faster."}
    )
    engine_max_lora_rank: Count | None = field(
        default=None,
        metadata={"help": "Largest LoRA rank the engine takes; enables LoRA. A trainer with LoRA sets it by itself."},
    )
    engine_startup_timeout: Positive = field(
        default=600.0, metadata={"help": "Seconds to wait until a server is healthy."}
    )
    engine_request_timeout: Positive = field(
        default=600.0, metadata={"help": "Seconds to wait for the answer to one request."}
    )
    engine_request_retries: Whole = field(
        default=5,
        metadata={
            "help": "Times a request is sent again, with growing waits, that was answered with 429 or 503, cut off or "
            "not answered in time."
        },
    )
    engine_hang_timeout: Positive = field(
        default=120.0,
        metadata={
            "help": "Seconds without a sign of life after which an engine is lost. One that has ended, is stopped or "
            "takes no connections is noticed within seconds."
        },
    )
    engine_max_restarts: Whole = field(
        default=3,
        metadata={
            "help": "Times a run goes on with an engine that was lost: a server started by it is started again, one "
            "at engine_url waited for. Then it stops."
        },
    )
    engine_wait_timeout: NotNegative = field(
        default=300.0,
        metadata={"help": "Seconds to wait for a lost server at engine_url to come back before the run stops."},
    )
    engine_log: Text | None = field(
        default=None, metadata={"help": "Log file of a started server. By default engine.log in the run's folder."}
    )
    engine_args: list[str] | None = field(
        default=None, metadata={"help": "Further vLLM server arguments, passed on as they are."}
    )
    engine_all_routes: bool = field(
        default=False,
        metadata={
            "help": "Whether a started server answers on all of vLLM's routes. Some run code (/collective_rpc): by "
            "default those alone are open that rollouts and weight sync need."
        },
    )
    engine_transport: Text = field(
        default="auto",
        metadata={
            "help": "How weights reach the engine. file: safetensors in shared memory or engine_transport_dir. "
            "adapter: only the LoRA adapter. nccl (server) and ipc (colocate): vLLM's own, CUDA only. auto: adapter "
            "with LoRA, ipc for colocate on CUDA, nccl for engine_url on CUDA, file otherwise. Or the import path of "
            "your own transport, as package.module:Class."
        },
    )
    sync_interval: Count = field(
        default=1,
        metadata={
            "help": "Optimizer steps between two pushes of the weights for rollouts. Above 1 rollouts are made with "
            "older weights in between, which vllm_importance_sampling_correction must correct. Scoring and evaluation "
            "always get the current ones."
        },
    )
    rollouts_ahead: OneAtMost = field(
        default=0,
        metadata={
            "help": "1: the engine makes the next generation batch while the optimizer works on this one. Its weights "
            "are one generation batch older then, which vllm_importance_sampling_correction must correct. It needs an "
            "engine in a process of its own (engine_mode server). 0: each batch waits for its rollouts."
        },
    )
    engine_transport_dir: Text | None = field(
        default=None,
        metadata={
            "help": "Folder for file and adapter, seen by trainer and engine, which both need the same; a folder "
            "edco_rl-<user id> is made in it. By default in shared memory."
        },
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_plugin("engine_mode", self.engine_mode, [*ENGINE_CLASSES, "none"])
        check_plugin("engine_transport", self.engine_transport, ["auto", *available_transports()])
        urls = [self.engine_url] if isinstance(self.engine_url, str) else self.engine_url
        if urls is not None:
            _check_urls(urls)
            if self.engine_mode in ("colocate", "none"):
                raise ConfigurationError(f"engine_url needs engine_mode server; got engine_mode {self.engine_mode}.")
            self.engine_url = urls[0] if len(urls) == 1 else urls
        if self.engine_data_parallel_size > 1 and self.engine_mode in ("colocate", "none"):
            raise ConfigurationError(
                f"engine_data_parallel_size {self.engine_data_parallel_size} needs engine_mode server; got "
                f"engine_mode {self.engine_mode}."
            )
        _check_secrets(self.engine_args or [])


def _check_urls(urls: list[str]) -> None:
    for url in urls:
        check_url("engine_url", url)
    for number, url in enumerate(urls):
        if not url.startswith(("http://", "https://")):
            raise ConfigurationError(f"engine_url must start with http:// or https://; got {url!r}.")
        if url.rstrip("/").endswith("/v1"):
            raise ConfigurationError(f"engine_url is the server's base URL, without /v1; got {url!r}.")
        if url.rstrip("/") in [earlier.rstrip("/") for earlier in urls[:number]]:
            raise ConfigurationError(f"engine_url names {url!r} twice.")
    if not urls:
        raise ConfigurationError("engine_url must be a URL or a list of them; got an empty list.")


def _check_secrets(arguments: list[str]) -> None:
    """Refuse arguments whose values are secrets: settings are written into results. Abbreviations are arguments."""
    for word in arguments:
        flag = word.partition("=")[0].replace("_", "-")
        for argument, variable in _SECRETS.items():
            if argument.startswith(flag) and len(flag) > len("--x"):
                raise ConfigurationError(
                    f"engine_args {argument}: give it in the environment variable {variable}. Settings are kept with "
                    "the results."
                )


@dataclass
class ScoringEngineConfig(EngineConfig):
    """The engine of `edco-rl score` and `edco-rl audit`: within the process, unless a server is named."""

    engine_mode: str = field(
        default="colocate",
        metadata={
            "help": "colocate: vLLM inside this process, the fastest. server: a vLLM server, started unless "
            "engine_url names one. none: transformers instead of vLLM. Or the import path of your own engine."
        },
    )

    sync_interval: int = field(default=1, init=False)
    rollouts_ahead: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.engine_url is not None and self.engine_mode == "colocate":
            self.engine_mode = "server"
        super().__post_init__()
