"""Configuration of what this package adds to TRL: the curriculum, its entropy estimator, the engine and the run.

Every field is also a YAML key and a command-line flag, beside TRL's own. Names never clash with TRL's.
"""

import json
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

Transport = Literal["auto", "file", "adapter", "nccl", "ipc"]
EngineMode = Literal["server", "colocate", "none"]
DATASET_FORMATS = (
    "auto",
    "prompt",
    "multiple_choice",
    "instruction",
    "verifiable",
    "teleqna",
    "medqa",
    "pubmedqa",
    "legalbench",
)


class ConfigurationError(ValueError):
    """A setting, file or data row the user has to change. The command line prints its message alone."""


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigurationError(f"{name} must be one of {', '.join(choices)}; got {value!r}.")


def _check_at_least(name: str, value: float | None, minimum: float) -> None:
    if value is not None and value < minimum:
        raise ConfigurationError(f"{name} must be at least {minimum}; got {value}.")


def _as_dict(name: str, value: dict[str, Any] | str | None) -> dict[str, Any] | None:
    """A mapping from YAML, or from JSON on the command line."""
    if not isinstance(value, str):
        return value
    try:
        parsed = json.loads(value)
    except json.JSONDecodeError as error:
        raise ConfigurationError(f"{name} must be a JSON object; got {value!r} ({error}).") from None
    if not isinstance(parsed, dict):
        raise ConfigurationError(f"{name} must be a JSON object; got {value!r}.")
    return parsed


@dataclass
class EstimatorConfig:
    """How a prompt is scored. The default is EDCO's: prefix entropy with quick-answer prompting (arXiv 2601.03725)."""

    estimator: str = field(
        default="prefix_entropy",
        metadata={
            "help": "Name of an estimator (prefix_entropy, sequence_entropy, answer_entropy, option_entropy, "
            "perplexity, rollout_entropy), or the import path of your own (package.module:Class)."
        },
    )
    prefix_tokens: int = field(
        default=16,
        metadata={"help": "Generated tokens whose next-token entropy prefix_entropy averages into a prompt's score."},
    )
    sequence_tokens: int = field(
        default=512, metadata={"help": "Most tokens sequence_entropy and rollout_entropy generate for a sample."}
    )
    scoring_samples: int = field(
        default=1,
        metadata={"help": "Continuations averaged a prompt. More than one needs scoring_temperature above 0."},
    )
    scoring_temperature: float = field(
        default=0.0,
        metadata={
            "help": "Temperature of the scored continuation. 0 is greedy, and deterministic; rollout_entropy, which "
            "has to sample, then takes 1."
        },
    )
    scoring_top_logprobs: int = field(
        default=20,
        metadata={"help": "Log-probabilities a token the entropy is computed from; the engine's cap bounds it."},
    )
    quick_answer: bool = field(
        default=True,
        metadata={
            "help": "Whether prefix_entropy, answer_entropy and option_entropy ask for the answer at once. Training "
            "prompts stay as they are."
        },
    )
    quick_answer_instruction: str = field(
        default="Give only the final answer, at once, without any reasoning.",
        metadata={"help": "What quick_answer appends to the prompt."},
    )

    def __post_init__(self) -> None:
        _check_at_least("prefix_tokens", self.prefix_tokens, 1)
        _check_at_least("sequence_tokens", self.sequence_tokens, 1)
        _check_at_least("scoring_samples", self.scoring_samples, 1)
        _check_at_least("scoring_temperature", self.scoring_temperature, 0.0)
        _check_at_least("scoring_top_logprobs", self.scoring_top_logprobs, 2)
        if self.scoring_samples > 1 and self.scoring_temperature == 0 and self.estimator != "rollout_entropy":
            raise ConfigurationError(
                f"scoring_samples is {self.scoring_samples} but scoring_temperature is 0: greedy continuations are "
                "all the same. Set scoring_temperature above 0, or scoring_samples to 1."
            )


@dataclass
class CurriculumConfig(EstimatorConfig):
    """Which prompts come next, and how often that is decided anew."""

    strategy: str = field(
        default="edco",
        metadata={
            "help": "Name of a strategy (edco, random, combined, ...; all in edco_rl.available_strategies()), or the "
            "import path of your own (package.module:Class)."
        },
    )
    strategy_kwargs: dict[str, Any] | str | None = field(
        default=None, metadata={"help": "Keyword arguments for the strategy's constructor."}
    )
    interval: int = field(
        default=10, metadata={"help": "Optimizer steps between two scorings of the pool; each makes a new curriculum."}
    )
    size: int | None = field(
        default=None,
        metadata={"help": "Prompts in a curriculum. By default as many as the optimizer uses in an interval."},
    )
    candidates: int | None = field(
        default=None,
        metadata={"help": "Prompts of the pool, drawn at random, that are scored each time. By default all of them."},
    )
    exploration: float = field(
        default=0.0, metadata={"help": "Share of the prompts that is drawn from the whole pool at random, 0 to 1."}
    )
    max_visits: int | None = field(
        default=None, metadata={"help": "Times a prompt may be drawn. By default as often as the strategy likes."}
    )
    half_life: float | None = field(
        default=None,
        metadata={"help": "Optimizer steps after which a score counts half. By default newer scores come first."},
    )
    gates: list[str] | None = field(
        default=None,
        metadata={
            "help": "Which groups the optimizer gets to see: equal_rewards drops groups without signal, truncated "
            "those cut off by the token limit; or import paths of your own (package.module:Class)."
        },
    )
    gate_kwargs: dict[str, Any] | str | None = field(
        default=None, metadata={"help": "Keyword arguments for the gates' constructors, by the names in gates."}
    )
    max_refills: int = field(
        default=3,
        metadata={
            "help": "Times a generation batch is filled up with new prompts after gates dropped groups. What is then "
            "still missing is filled with dropped groups, so that the batch stays full."
        },
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.strategy_kwargs = _as_dict("strategy_kwargs", self.strategy_kwargs)
        self.gate_kwargs = _as_dict("gate_kwargs", self.gate_kwargs)
        for name, value in (self.gate_kwargs or {}).items():
            if not isinstance(value, dict):
                raise ConfigurationError(f"gate_kwargs: expected a mapping for {name!r}, got {value!r}.")
        if not 0 <= self.exploration <= 1:
            raise ConfigurationError(f"exploration must be between 0 and 1; got {self.exploration}.")
        if self.half_life is not None and self.half_life <= 0:
            raise ConfigurationError(f"half_life must be above 0; got {self.half_life}.")
        _check_at_least("max_visits", self.max_visits, 1)
        _check_at_least("max_refills", self.max_refills, 0)
        _check_at_least("interval", self.interval, 1)
        _check_at_least("size", self.size, 1)
        _check_at_least("candidates", self.candidates, 1)


@dataclass
class EngineConfig:
    """The vLLM engine that serves rollouts and log-probabilities, and how the policy's weights reach it."""

    engine_mode: EngineMode = field(
        default="server",
        metadata={
            "help": "server: a vLLM server in a process of its own, started unless engine_url names one. colocate: "
            "vLLM inside the trainer's process. none: TRL's own generation, and scoring on the model being trained."
        },
    )
    engine_url: str | None = field(
        default=None,
        metadata={"help": "URL of a running server (`edco-rl serve`), as http://localhost:8000."},
    )
    engine_host: str = field(
        default="127.0.0.1",
        metadata={
            "help": "Address a started server listens on. Its weight-sync routes are not authenticated: leave it on "
            "loopback, or on a network you trust."
        },
    )
    engine_port: int = field(default=0, metadata={"help": "Port of a started server; 0 takes a free one."})
    engine_dtype: str = field(
        default="auto",
        metadata={
            "help": "Data type of the engine's weights. auto: the model's own, but float32 on a CPU without AVX-512, "
            "where bfloat16 is emulated and several times slower."
        },
    )
    engine_max_model_len: int | None = field(
        default=None, metadata={"help": "Longest prompt and completion together, in tokens. By default the model's."}
    )
    engine_max_num_seqs: int | None = field(
        default=None, metadata={"help": "Most sequences in one engine step. By default vLLM's."}
    )
    engine_max_logprobs: int = field(
        default=128, metadata={"help": "Cap on the log-probabilities a request may ask for at each token."}
    )
    engine_gpu_memory_utilization: float = field(
        default=0.3, metadata={"help": "Share of the GPU's memory the engine takes. Raise it on a GPU of its own."}
    )
    engine_cpu_kv_cache_gib: int = field(default=2, metadata={"help": "Size of the key-value cache on a CPU, in GiB."})
    engine_tensor_parallel_size: int = field(default=1, metadata={"help": "GPUs one engine is spread over."})
    engine_enforce_eager: bool | None = field(
        default=None, metadata={"help": "Whether to skip compilation. By default on a CPU only: it starts faster."}
    )
    engine_max_lora_rank: int | None = field(
        default=None,
        metadata={"help": "Largest LoRA rank the engine takes; enables LoRA. A trainer with LoRA sets it by itself."},
    )
    engine_startup_timeout: float = field(
        default=600.0, metadata={"help": "Seconds to wait until a server is healthy."}
    )
    engine_request_timeout: float = field(
        default=600.0, metadata={"help": "Seconds to wait for the answer to one request."}
    )
    engine_log: str | None = field(
        default=None, metadata={"help": "Log file of a started server. By default engine.log in the run's folder."}
    )
    engine_args: list[str] | None = field(
        default=None, metadata={"help": "Further vLLM server arguments, passed on as they are."}
    )
    transport: Transport = field(
        default="auto",
        metadata={
            "help": "How weights reach the engine. file: safetensors in shared memory or transport_dir. adapter: only "
            "the LoRA adapter. nccl (server) and ipc (colocate): vLLM's own, CUDA only. auto: adapter with LoRA, ipc "
            "for colocate on CUDA, nccl for engine_url on CUDA, file otherwise."
        },
    )
    transport_dir: str | None = field(
        default=None,
        metadata={"help": "Folder for file and adapter, seen by trainer and engine. By default shared memory."},
    )

    def __post_init__(self) -> None:
        _check_choice("engine_mode", self.engine_mode, get_args(EngineMode))
        _check_choice("transport", self.transport, get_args(Transport))
        if self.engine_url is not None and self.engine_mode != "server":
            raise ConfigurationError(f"engine_url needs engine_mode server; got engine_mode {self.engine_mode}.")
        if self.engine_url is not None and not self.engine_url.startswith(("http://", "https://")):
            raise ConfigurationError(f"engine_url must start with http:// or https://; got {self.engine_url!r}.")
        if self.transport == "nccl" and self.engine_mode != "server":
            raise ConfigurationError("transport nccl needs engine_mode server; use ipc or file with colocate.")
        if self.transport == "ipc" and self.engine_mode != "colocate":
            raise ConfigurationError("transport ipc needs engine_mode colocate; use nccl or file with a server.")
        _check_at_least("engine_max_logprobs", self.engine_max_logprobs, 2)


@dataclass
class DataConfig:
    """The prompts beyond TRL's `dataset_name`: how rows are read, how prompts look, and how many there are."""

    dataset_format: str = field(
        default="auto",
        metadata={
            "help": "How rows are read. auto: the adapter of a hub data set that has one, else by columns: prompt "
            "(prompt or messages), multiple_choice (options or choices), instruction (instruction), verifiable "
            "(question or problem). teleqna, medqa, pubmedqa, legalbench: copies of these data sets."
        },
    )
    column_mapping: dict[str, str] | str | None = field(
        default=None,
        metadata={
            "help": "Columns with other names, as {ours: theirs}: {question: Frage, options: Antworten}. Ours are "
            "prompt, messages, completion, question, context, options, answer_index, answer, instruction, response, "
            "explanation, subject, id."
        },
    )
    eval_dataset_name: str | None = field(
        default=None,
        metadata={
            "help": "A file or hub data set of held-out prompts, as dataset_name. By default they are the test split "
            "of the hub data set, or rows of a single file or split, chosen by a hash of their ids."
        },
    )
    task_kwargs: dict[str, Any] | str | None = field(
        default=None,
        metadata={
            "help": "Settings of a generated task (dataset_name reasoning_gym:<task>), as reasoning-gym has them."
        },
    )
    prompt_template: str | None = field(
        default=None,
        metadata={
            "help": "Text of a prompt, with {question}, {context} and, of multiple choice, {options} and {labels}; of "
            "a generated task {question}, {answer} or a field of its metadata, as {expression}. By default one that "
            "fits the form. Prompts the data set has ready stay as they are."
        },
    )
    system_prompt: str | None = field(
        default=None,
        metadata={"help": "System message of every prompt that has none; in plain text, what stands before it."},
    )
    conversational: bool = field(
        default=True,
        metadata={
            "help": "Whether prompts that are made here go through the chat template, or stay plain text. Prompts the "
            "data set has ready stay what they are."
        },
    )
    max_prompt_characters: int = field(
        default=100_000, metadata={"help": "A row with a longer prompt is invalid: it is most likely a broken one."}
    )
    skip_invalid: bool = field(
        default=False,
        metadata={"help": "Whether to skip invalid rows, count and list them, instead of ending with an error."},
    )
    skipped_rows_file: str | None = field(
        default=None,
        metadata={
            "help": "JSONL file that lists skipped rows. By default skipped_rows.jsonl in the run's folder, or where "
            "the command runs."
        },
    )
    train_prompts: int | None = field(
        default=None,
        metadata={"help": "Prompts in the pool. By default the whole split; 1,000 of a generated task."},
    )
    held_out_prompts: int = field(
        default=200,
        metadata={"help": "Held-out prompts answered greedily before and after training; 0 skips the evaluation."},
    )

    def __post_init__(self) -> None:
        self.task_kwargs = _as_dict("task_kwargs", self.task_kwargs)
        self.column_mapping = _as_dict("column_mapping", self.column_mapping)
        _check_choice("dataset_format", self.dataset_format, DATASET_FORMATS)
        _check_at_least("max_prompt_characters", self.max_prompt_characters, 1)
        _check_at_least("train_prompts", self.train_prompts, 1)
        _check_at_least("held_out_prompts", self.held_out_prompts, 0)


@dataclass
class RunConfig:
    """What `edco-rl train` needs to know beyond the data and the trainer."""

    reward_kwargs: dict[str, Any] | str | None = field(
        default=None,
        metadata={"help": "Keyword arguments of reward functions, by their name: {length: {maximum: 256}}."},
    )
    share_prompts: bool = field(
        default=False,
        metadata={
            "help": "Whether the optimizer computes each prompt once for all its completions: several times faster "
            "with prompts longer than completions. Needs one process and no gradient checkpointing."
        },
    )

    held_out_max_tokens: int | None = field(
        default=None,
        metadata={
            "help": "Most tokens of a held-out answer. By default max_completion_length; in supervised fine-tuning a "
            "little more than the longest reference answer."
        },
    )

    def __post_init__(self) -> None:
        _check_at_least("held_out_max_tokens", self.held_out_max_tokens, 1)
        self.reward_kwargs = _as_dict("reward_kwargs", self.reward_kwargs)


@dataclass
class EvaluateConfig:
    """What `edco-rl evaluate` measures, and where the result goes."""

    model_name_or_path: str | None = field(
        default=None,
        metadata={
            "help": "Model folder or hub id, or the folder of a LoRA adapter, which is served over its base model. "
            "With engine_url, the server's weights answer, and this gives the tokenizer and the adapter."
        },
    )
    dataset_name: str | None = field(
        default=None,
        metadata={
            "help": "A local JSONL, Parquet or CSV file, a hub id, or reasoning_gym:<task>, of which the held-out "
            "prompts are taken."
        },
    )
    dataset_config: str | None = field(default=None, metadata={"help": "Configuration of a hub data set."})
    dataset_test_split: str = field(default="test", metadata={"help": "Split of a hub data set."})
    max_prompts: int | None = field(
        default=None, metadata={"help": "Prompts answered, the first ones; by default all."}
    )
    reward_func: str | None = field(
        default=None,
        metadata={
            "help": "Reward whose 1 is a right answer. By default reasoning_gym for generated tasks, multiple_choice "
            "where there are options, else math."
        },
    )
    max_completion_length: int = field(default=256, metadata={"help": "Most tokens of an answer."})
    samples: int = field(
        default=0, metadata={"help": "Answers sampled a prompt for pass@k, beside the greedy one; 0 leaves that out."}
    )
    pass_at: list[int] | None = field(
        default=None, metadata={"help": "Values of k for pass@k. By default 1, 2, 4, ... up to samples."}
    )
    temperature: float = field(default=1.0, metadata={"help": "Temperature of the sampled answers."})
    top_p: float = field(default=1.0, metadata={"help": "Probability mass the sampled answers are drawn from."})
    confidence_level: float = field(default=0.95, metadata={"help": "Confidence level of the intervals."})
    chat_template_kwargs: dict[str, Any] | str | None = field(
        default=None, metadata={"help": "Arguments of the chat template, as {enable_thinking: false}."}
    )
    seed: int = field(
        default=42, metadata={"help": "Seed of generated tasks, as of the training run, and of the bootstrap."}
    )
    output: str | None = field(default=None, metadata={"help": "JSON file for the result."})

    def __post_init__(self) -> None:
        self.chat_template_kwargs = _as_dict("chat_template_kwargs", self.chat_template_kwargs)
        for name in ("model_name_or_path", "dataset_name"):
            if not getattr(self, name):
                raise ConfigurationError(f"{name} is missing.")
        _check_at_least("max_prompts", self.max_prompts, 1)
        _check_at_least("max_completion_length", self.max_completion_length, 1)
        _check_at_least("samples", self.samples, 0)
        if self.samples and self.temperature <= 0:
            raise ConfigurationError(
                f"samples is {self.samples}, so temperature must be above 0: got {self.temperature}."
            )
        if not 0 < self.top_p <= 1 or not 0 < self.confidence_level < 1:
            raise ConfigurationError(
                f"top_p must be in (0, 1], confidence_level in (0, 1); got {self.top_p} and {self.confidence_level}."
            )
        if self.pass_at is None:
            self.pass_at = [2**i for i in range(self.samples.bit_length()) if 2**i < self.samples] + [self.samples]
            self.pass_at = self.pass_at if self.samples else []
        wrong = [k for k in self.pass_at if not 1 <= k <= self.samples]
        if wrong:
            raise ConfigurationError(f"pass_at {wrong[0]}: must be between 1 and samples, which is {self.samples}.")


@dataclass
class ScoringEngineConfig(EngineConfig):
    """The engine of `edco-rl score` and `edco-rl audit`: within the process, unless a server is named."""

    engine_mode: EngineMode = field(
        default="colocate",
        metadata={
            "help": "colocate: vLLM inside this process, the fastest. server: a vLLM server, started unless "
            "engine_url names one. none: transformers instead of vLLM."
        },
    )

    def __post_init__(self) -> None:
        if self.engine_url is not None:
            self.engine_mode = "server"
        super().__post_init__()


@dataclass
class InputConfig:
    """The model and the rows of `edco-rl score` and `edco-rl audit`, under TRL's names."""

    model_name_or_path: str | None = field(default=None, metadata={"help": "Model folder or hub id."})
    dataset_name: str | None = field(
        default=None, metadata={"help": "A local JSONL, Parquet or CSV file, a hub id, or reasoning_gym:<task>."}
    )
    dataset_config: str | None = field(default=None, metadata={"help": "Configuration of a hub data set."})
    dataset_train_split: str = field(default="train", metadata={"help": "Split of a hub data set."})
    seed: int = field(default=0, metadata={"help": "Seed of generated tasks, of samples and of bootstraps."})

    def __post_init__(self) -> None:
        for name in ("model_name_or_path", "dataset_name"):
            if not getattr(self, name):
                raise ConfigurationError(f"{name} is missing.")


@dataclass
class ScoreConfig(InputConfig):
    """What `edco-rl score` scores, and where the scores go."""

    output: str | None = field(
        default=None,
        metadata={
            "help": "Parquet file for the scores. Until it is complete, parts are kept in a folder beside it; a run "
            "that was killed goes on after them."
        },
    )
    max_prompts: int | None = field(default=None, metadata={"help": "Prompts scored; by default all."})
    part_prompts: int = field(default=512, metadata={"help": "Prompts scored and written at a time."})

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.output:
            raise ConfigurationError("output is missing: a Parquet file for the scores.")
        _check_at_least("max_prompts", self.max_prompts, 1)
        _check_at_least("part_prompts", self.part_prompts, 1)


@dataclass
class AuditConfig(InputConfig):
    """What `edco-rl audit` compares the estimators on."""

    samples: int = field(
        default=128, metadata={"help": "Prompts of the data set, drawn at random, that the estimators are tried on."}
    )
    reference_samples: int = field(
        default=16, metadata={"help": "Full sequences a prompt whose mean entropy is the reference."}
    )
    estimators: list[str] | None = field(
        default=None,
        metadata={
            "help": "Names or import paths of the estimators compared, with the settings given. By default all of "
            "this package that the data set allows, prefix_entropy with several settings."
        },
    )
    reward_func: str | None = field(
        default=None,
        metadata={
            "help": "Reward that says whether an answer is wrong, as of training. By default the one that fits the "
            "data set's columns."
        },
    )
    cost_limit: float = field(
        default=0.05,
        metadata={"help": "Largest share of the time of one full sequence a prompt that the advice may cost."},
    )
    output_dir: str = field(
        default="audit", metadata={"help": "Folder for audit.json, the plot and the raw measurements."}
    )
    json: bool = field(default=False, metadata={"help": "Whether to print the result as JSON, and nothing else."})

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_at_least("samples", self.samples, 8)
        _check_at_least("reference_samples", self.reference_samples, 2)
