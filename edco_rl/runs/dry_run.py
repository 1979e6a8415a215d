"""A run looked at without a model's weights: fields, rows, the first prompt, batches, scoring, memory."""

import os
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields

import requests
from huggingface_hub.errors import LocalEntryNotFoundError
from rich.console import Console
from transformers import AutoConfig
from trl import get_peft_config

from ..config import ComplexityConfig
from ..curriculum import STRATEGIES, make_gates
from ..data.tokens import RowTokenizer
from ..engine.hardware import has_avx512, has_cuda, resolve_dtype
from ..engine.launch import resolve_engine
from ..errors import ConfigurationError, EdcoRLError
from ..trainers.given import check_arguments
from .arithmetic import describe_batches, describe_scoring
from .held_out import training_rewards
from .memory_estimate import GIB, Size, size_of, training_memory
from .settings import RunSettings, check_model_and_data, first_prompt

# What says that nobody could be asked, rather than that there is nothing under that name.
_UNREACHABLE = (ConnectionError, requests.ConnectionError, requests.Timeout, LocalEntryNotFoundError)
_Section = tuple[str, Callable[[], list[str]]]


class DryRunIncompleteError(EdcoRLError):
    """Part of a run could not be looked at."""


def dry_run(settings: RunSettings) -> None:
    """Look at all of a run that can be looked at without a model's weights, and print it.

    Nothing is written but the list of skipped rows, and no engine is started.

    Raises:
        ConfigurationError: A setting or row to be changed, as the run would say it.
        DryRunIncompleteError: All that was looked at is in order, and something could not be, as a hub that is not
            reached.
    """
    console, missing = Console(soft_wrap=True, quiet=int(os.environ.get("RANK", "0")) != 0), []
    for title, look in DryRun(settings).sections():
        console.print(f"[bold]{title}[/]")
        try:
            lines = look()
        except (EdcoRLError, OSError) as error:
            if not _unreachable(error):
                raise
            missing.append(title)
            lines = [f"not looked at: {str(error).splitlines()[0]}"]
        for line in lines:
            console.print(f"  {line}", markup=False, highlight=False)
    if missing:
        raise DryRunIncompleteError(f"Not looked at: {', '.join(missing)}. All the rest is in order.")


class DryRun:
    """What a dry run looks at.

    Args:
        settings (`RunSettings`):
            The run's.
    """

    def __init__(self, settings: RunSettings) -> None:
        self.settings = settings
        self.layout = settings.method.load("trainer").batch_layout(settings.training)
        self.peft_config = get_peft_config(settings.model)

    def sections(self) -> Iterator[_Section]:
        """What is looked at, in order, by its title."""
        yield "Settings other than the defaults", self.given
        yield "Checks before anything is loaded", self.checks
        yield "Model", self.model
        yield "Rows", self.rows
        yield "First prompt as the model will see it", self.prompt
        yield "Batches", self.batches
        yield "Scoring", self.scoring
        yield "Memory a process, without activations and sharding", self.memory

    def given(self) -> list[str]:
        lines = [f"method: {self.settings.method.name}"]
        for config in self.settings.parts().values():
            for field in fields(config):
                value = getattr(config, field.name)
                default = field.default if field.default_factory is MISSING else field.default_factory()
                if isinstance(value, str | int | float | list | dict) and value not in (default, {}, []):
                    lines.append(f"{field.name}: {getattr(value, 'value', value)}")
        return lines

    def checks(self) -> list[str]:
        """What a run refuses before it loads anything."""
        settings = self.settings
        config, engine, training = settings.curriculum, settings.engine, settings.training
        check_arguments(training, engine=engine.engine_mode != "none")
        STRATEGIES.find(config.strategy)
        lines = [f"strategy {config.strategy}"]
        if hasattr(settings.script, "reward_funcs"):
            training_rewards(settings.script, settings.run)
            lines.append(f"rewards {', '.join(settings.script.reward_funcs or [])}")
            assert not isinstance(config.gate_kwargs, str)  # the configuration has parsed it
            make_gates(config.gates or [], config.gate_kwargs or {}, training.num_generations)
        elif config.gates:
            raise ConfigurationError(f"gates {config.gates} judge groups of rollouts, and this method has none.")
        if engine.engine_mode == "none":
            return [*lines, "no engine"]
        lora = self.peft_config is not None
        found = resolve_engine(engine, lora=lora, cuda=has_cuda(), peft_config=self.peft_config)
        return [*lines, f"engine_mode {found.engine_mode}, weights through {found.engine_transport}; not started"]

    def model(self) -> list[str]:
        check_model_and_data(self.settings.script, self.settings.model)
        return [_describe(name, self._size(name)) for name in self._models()]

    def _models(self) -> list[str]:
        """The policy, and the models beside it in the trainer's process."""
        training, policy = self.settings.training, self.settings.model.model_name_or_path
        others = [getattr(training, f"{kind}_model_name_or_path", None) for kind in ("teacher", "value")]
        names = [policy, *(os.path.expanduser(name) for name in others if name)]
        return list(dict.fromkeys(name for name in names if name))

    def _size(self, name: str) -> Size:
        model = self.settings.model
        policy = name == model.model_name_or_path
        return size_of(
            name,
            revision=model.model_revision if policy else None,
            dtype=resolve_dtype(model.dtype, cuda=has_cuda(), avx512=has_avx512()),
            peft_config=self.peft_config if policy else None,
        )

    def rows(self) -> list[str]:
        train, held_out = self.settings.rows
        columns = [f"{name} ({train.features[name]})" for name in train.column_names]
        return [
            f"{len(train)} prompts in the pool, {0 if held_out is None else len(held_out)} held out",
            f"columns {', '.join(columns)}",
        ]

    def prompt(self) -> list[str]:
        text = first_prompt(self.settings, *self.settings.rows)
        return ["made by the trainer with chat_template_path"] if text is None else text.splitlines()

    def batches(self) -> list[str]:
        return describe_batches(
            self.settings.training, self.settings.curriculum, self.layout, len(self.settings.rows[0])
        )

    def scoring(self) -> list[str]:
        settings = self.settings
        kwargs = getattr(settings.training, "chat_template_kwargs", None)
        lines = describe_scoring(
            settings.rows[0],
            settings.training,
            settings.curriculum,
            self.layout,
            RowTokenizer(settings.tokenizer, kwargs),
            settings.engine.engine_max_model_len,
        )
        if isinstance(settings.curriculum, ComplexityConfig):
            lines.append("which rows are hard, and what the teacher costs, follows from the scores")
        return lines

    def memory(self) -> list[str]:
        training, engine = self.settings.training, self.settings.engine
        policy, *rest = (self._size(name) for name in self._models())
        others = {f"model beside it ({number})": size for number, size in enumerate(rest, start=1)}
        penalty = getattr(training, "beta", 0.0) if hasattr(training, "steps_per_generation") else 0.0
        if (penalty or getattr(training, "kl_coef", 0.0)) and self.peft_config is None:
            others["reference model"] = policy
        completion = getattr(training, "max_completion_length", None) or training.max_length
        logits = training.per_device_train_batch_size * (completion or 0)
        optimizer = str(getattr(training.optim, "value", training.optim))
        parts = training_memory(policy, others, optimizer=optimizer, logits=logits)
        lines = [f"{what}: {'not known' if size is None else _gib(size)}" for what, size in parts.items()]
        known = sum(size for size in parts.values() if size is not None)
        lines.append(f"in all: {_gib(known)}, and activations")
        if self.settings.model.load_in_4bit or self.settings.model.load_in_8bit:
            lines.append("quantization is not counted: the policy's weights take less")
        if engine.engine_mode != "none" and engine.engine_url is None:
            cpu = f"its weights and {engine.engine_cpu_kv_cache_gib} GiB of key-value cache"
            share = f"{engine.engine_gpu_memory_utilization:.0%} of the GPU"
            lines.append(f"the engine, beside it: {share if has_cuda() else cpu}")
        return lines


def _describe(name: str, size: Size) -> str:
    architectures = AutoConfig.from_pretrained(name).architectures or ["a language model"]
    trained = "" if size.trained == size.parameters else f", {size.trained / 1e6:,.1f} million of them trained"
    return f"{name}: {architectures[0]}, {size.parameters / 1e6:,.1f} million parameters{trained}"


def _gib(size: int) -> str:
    return f"{size / GIB:.2f} GiB"


def _unreachable(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, _UNREACHABLE):
            return True
        error = error.__cause__ or error.__context__
    return False
