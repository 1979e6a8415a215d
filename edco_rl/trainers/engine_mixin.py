"""What a trainer does with an engine: start or reach it, keep its weights current, score and evaluate with it."""

import atexit
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from accelerate.utils import broadcast_object_list, gather_object, is_peft_model
from torch.nn import Module
from transformers import Trainer
from trl.distributed import DistributedBackend
from trl.models import unwrap_model_for_generation

from ..config import EngineConfig, engine_of_trl
from ..curriculum import Curriculum, CurriculumBatchSampler
from ..curriculum.pool import IndexArray
from ..data.lengths import check_lengths
from ..engine.generation import EngineGeneration, Reiterable, iter_base
from ..engine.hardware import has_cuda
from ..engine.launch import EngineConnection, give_base, open_engine, resolve_engine
from ..engine.policy import changes_base, check_weights
from ..engine.protocol import EngineError, GenerationBackend
from ..engine.server import VLLMServer
from ..engine.transformers_backend import TransformersBackend
from ..errors import ConfigurationError
from .background import Background
from .stopwatch import Stopwatch

logger = logging.getLogger(__name__)
T = TypeVar("T")

_SAMPLING = ("max_completion_length", "temperature", "top_p", "top_k", "min_p", "repetition_penalty")


class EngineMixin(Trainer if TYPE_CHECKING else object):  # type: ignore[misc]
    """Gives a TRL trainer an engine; inherit from it before the trainer."""

    curriculum: Curriculum
    stopwatch: Stopwatch
    _batch_sampler: CurriculumBatchSampler
    _server: VLLMServer | None
    _connection: EngineConnection | None
    _background: Background
    _last_loaded_step: int
    _scores_on_every_rank: bool
    _base_on_disk: bool

    def _settings_of(
        self, engine: str | list[str] | EngineConfig | VLLMServer | None, args: Any
    ) -> EngineConfig | None:
        """Settings of the engine a trainer was given, or that TRL's settings ask for; `None` without one."""
        self._server = engine if isinstance(engine, VLLMServer) else None
        own = engine.config if isinstance(engine, VLLMServer) else engine
        own = EngineConfig(engine_url=own) if isinstance(own, str | list) else own
        config = engine_of_trl(args, own, stands=own is not None)
        return None if config is None or config.engine_mode == "none" else config

    def _check_engine(self, given: Mapping[str, Any], config: EngineConfig) -> None:
        """Refuse an engine or a transport that cannot work before a model is loaded, and have TRL start none.

        Args:
            given (`Mapping[str, Any]`):
                Arguments of TRL's constructor.
            config (`EngineConfig`):
                Settings.
        """
        model, lora = given.get("model"), given.get("peft_config")
        if lora is None and isinstance(model, Module):
            lora = lora_config(model)
        resolve_engine(config, lora=lora is not None, cuda=has_cuda(), peft_config=lora)
        # What was loaded or made elsewhere may have anything merged into it.
        self._base_on_disk = not (isinstance(model, Module) or (lora is not None and changes_base(lora)))
        if getattr(given.get("args"), "use_vllm", False):
            given["args"].use_vllm = False  # TRL would start, or look for, a vLLM of its own

    def _open_engine(self, config: EngineConfig, **sampling: Any) -> None:
        """Start or reach the engine, and put it behind TRL's generation interface as `self.vllm_generation`.

        Args:
            config (`EngineConfig`):
                Settings.
            sampling:
                Sampling parameters of rollouts, as TRL's `VLLMGeneration` takes them.
        """
        lora = lora_config(self.model)
        name = self.model.get_base_model().name_or_path if lora is not None else self.model.name_or_path
        if not name and config.engine_url is None:
            raise ConfigurationError(
                "The model has no name_or_path the engine could load: start a server and pass its URL."
            )
        check_weights(self.model, name)
        atexit.register(self.close)
        self._connection = open_engine(
            config,
            name,
            rank=self.accelerator.process_index,
            cuda=self.accelerator.device.type == "cuda",
            peft_config=lora,
            log_path=Path(self.args.output_dir) / "engine.log",
            server=self._server,
        )
        self.accelerator.wait_for_everyone()
        self._last_loaded_step = -1
        self._background = Background(self.stopwatch)
        self.vllm_generation = EngineGeneration(
            self.model,
            self.accelerator,
            self.processing_class,
            engine=self._connection.engine,
            transport=self._connection.transport,
            version=lambda: self.state.global_step,
            timer=self.stopwatch,
            sync_interval=config.sync_interval,
            idle=self._background.idle,
            **sampling,
        )
        if self._connection.transport.adapter_only:
            give = partial(
                give_base,
                self._connection,
                config,
                Reiterable(lambda: iter_base(self.model, DistributedBackend(self.accelerator))),
                on_disk=self._base_on_disk,
            )
            self.vllm_generation.give_base = partial(give, alone=True)
            give()

    def _open_engine_for_rollouts(self, config: EngineConfig) -> None:
        """Have the engine make the rollouts of one of TRL's on-policy trainers, sampled as its arguments say."""
        self.use_vllm = self.args.use_vllm = True
        sampling = {name: getattr(self, name) for name in _SAMPLING}
        self._open_engine(config, generation_kwargs=self.args.generation_kwargs, **sampling)

    def _check_lengths(self, indices: Sequence[int], lengths: Sequence[int], setting: str) -> None:
        """Refuse prompts that are longer than the engine takes.

        Args:
            indices (`Sequence[int]`):
                The prompts, by their rows in the training set.
            lengths (`Sequence[int]`):
                Tokens each takes with its continuation.
            setting (`str`):
                What the continuation's length follows from.

        Raises:
            ConfigurationError: The first that is too long is named, with the settings.
        """
        most, ids = None if self.engine is None else self.engine.max_model_len(), self.curriculum.pool.ids
        check_lengths(lengths, most, setting, lambda number: f"Row {indices[number]} (id {ids[indices[number]]!r})")

    @property
    def engine(self) -> Any:
        """This rank's engine, or `None`. Its weights are the policy's after [`~EngineMixin.sync_engine`]."""
        return None if self._connection is None else self._connection.engine

    def interruptions(self) -> dict[str, float]:
        """Times the engine was lost and came back (`restarts`), and the seconds that has cost (`seconds_lost`)."""
        restarts, seconds = (0, 0.0) if self.engine is None else self.engine.interruptions()
        return {"restarts": restarts, "seconds_lost": seconds}

    def sync_engine(self) -> None:
        """Push the policy's weights to the engine, unless it serves those of this optimizer step already."""
        if self._connection is not None and self.vllm_generation.pushed_version != self.state.global_step:
            self.vllm_generation.sync_weights(now=True)
            self._last_loaded_step = self.state.global_step

    def outdate_engine(self) -> None:
        """Have the weights pushed before the engine is used again, though they are those of this optimizer step."""
        if self._connection is not None:
            self.vllm_generation.pushed_version, self._last_loaded_step = None, -1

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train, as transformers' `Trainer` does; where the engine is lost for good, write a checkpoint before.

        Raises:
            EngineError: The engine failed. The message names the checkpoint to resume from.
        """
        try:
            return super().train(*args, **kwargs)
        except EngineError as error:
            step = self.state.global_step
            if self.accelerator.num_processes > 1 or step == 0:  # the others wait for this process, in the step
                raise
            folder = Path(self.args.output_dir) / f"checkpoint-{step}"
            if not folder.exists():
                passed_over = self._batch_sampler.take_back()
                if passed_over:
                    logger.warning("%d batches drawn for the step that failed are passed over.", passed_over)
                self._save_checkpoint(self.model, None)
            raise type(error)(f"{error} Optimizer step {step} is done: resume_from_checkpoint {folder}.") from error

    def close(self) -> None:
        """Release the engine, and stop a server that was started here. Safe to call more than once."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        atexit.unregister(self.close)

    @contextmanager
    def scoring_backend(self) -> Iterator[GenerationBackend | None]:
        """What continues prompts with the policy's current weights, for scoring and evaluation.

        A collective: enter it on every rank. It gives `None` on ranks that leave the work to the main process.
        """
        if self._connection is not None:
            self.sync_engine()
            self._background.idle()
            yield self._connection.engine if self.accelerator.is_main_process else None
            self._connection.transport.verify()
            return
        gather = getattr(self.args, "ds3_gather_for_generation", True)
        with (
            unwrap_model_for_generation(
                self.model_wrapped, self.accelerator, gather_deepspeed3_params=gather
            ) as model,
            DistributedBackend(self.accelerator).summon_full_params(self.model_wrapped, recurse=False),
        ):
            yield TransformersBackend.of(model, self._tokenizer)

    def _spread(
        self, part: str, indices: IndexArray, work: Callable[[list[int], GenerationBackend], list[T]]
    ) -> list[T]:
        """Results of work on prompts, done by the rank with the engine or by all ranks; the same on every rank.

        Args:
            part (`str`):
                What its time is counted towards.
            indices (`IndexArray`):
                The prompts.
            work (`Callable[[list[int], GenerationBackend], list]`):
                Given a share of them. The order of the results is that of the shares, not of `indices`.
        """
        rank, processes = self.accelerator.process_index, self.accelerator.num_processes
        with self.scoring_backend() as backend, self.stopwatch(part):
            if self._scores_on_every_rank:
                assert backend is not None
                return gather_object(work(indices[rank::processes].tolist(), backend))
            results = [None if backend is None else work(indices.tolist(), backend)]
            return broadcast_object_list(results)[0]


def lora_config(model: Any) -> Any:
    """The configuration of a model's adapter in use; `None` without one."""
    return model.peft_config[model.active_adapter] if is_peft_model(model) else None
