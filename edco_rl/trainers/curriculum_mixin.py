"""The mixin that gives a TRL trainer a curriculum: sampling, scoring, observing, logging and checkpoints."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from accelerate.utils import gather_object
from datasets import Dataset
from numpy.typing import NDArray
from pyarrow.types import is_floating, is_integer
from torch.utils.data import DataLoader

from ..config import CurriculumConfig, EngineConfig
from ..curriculum import STRATEGIES, Curriculum, CurriculumBatchSampler, Outcome, Outcomes, Pool
from ..curriculum.pool import IndexArray
from ..data.ids import prompt_ids
from ..data.lengths import check_lengths
from ..data.prompts import check_prompts
from ..engine.server import VLLMServer
from ..errors import ConfigurationError
from .batches import INDEX, BatchLayout, batch_settings
from .callbacks import CurriculumCallback
from .checkpoint import CheckpointMixin
from .given import check_arguments, check_conversations, check_rows_kept, given_arguments, warn_of_samplers
from .memory import keep_freed_memory
from .model_card import ModelCardMixin
from .overlap import check_overlap
from .panels import panels
from .pass_order import seedable_sampler_order
from .progress import show_progress
from .rounds import RoundsMixin
from .scoring_ahead_mixin import ScoringAheadMixin
from .scoring_mixin import SCORED_COLUMNS
from .stopwatch import Stopwatch


class CurriculumMixin(RoundsMixin, CheckpointMixin, ScoringAheadMixin, ModelCardMixin):
    """Gives any TRL trainer that draws rows from a sampler a curriculum; inherit from it before the trainer.

    The trainer takes two more arguments. What it knows of a prompt are scores; a subclass that knows more, such as
    rewards or losses, tells it by [`~CurriculumMixin.observe`]. A trainer whose batches are not rows in the order of
    the sampler says how they are made by `batch_layout` and `_pass_order`.

    Args:
        *args, **kwargs:
            As of the trainer. The training set needs a column `prompt`; a column `id` is kept as the prompt's id.
        curriculum (`str` or [`CurriculumConfig`], *optional*, defaults to `"edco"`):
            Name or import path of a strategy, or full settings.
        engine (`None`, `str`, `list[str]`, [`EngineConfig`] or `VLLMServer`, *optional*):
            `None` scores prompts with the model being trained, and leaves rollouts to TRL. The URL of a server
            (`edco-rl serve`) or of several, or settings with which one is started, scores with vLLM, and makes the
            rollouts of trainers that have any. A `VLLMServer` that was launched before anything else was loaded is
            waited for, and stopped with the trainer. `args.use_vllm` and TRL's other settings of vLLM ask for the same
            engine; TRL's own vLLM is used with `EngineConfig(engine_mode="none")`.

    Raises:
        ConfigurationError: A bad row, setting or combination; raised before a model is loaded where possible.

    Example:

    ```python
    >>> from edco_rl import CurriculumMixin
    >>> from trl import DPOTrainer
    >>> class CurriculumDPOTrainer(CurriculumMixin, DPOTrainer):
    ...     pass
    >>> trainer = CurriculumDPOTrainer("Qwen/Qwen3-0.6B", train_dataset=dataset, curriculum="easy_to_hard")
    ```
    """

    corrects_older_rollouts: ClassVar[bool] = False
    """Whether its loss is corrected for rollouts that were made by older weights."""
    curriculum: Curriculum
    stopwatch: Stopwatch
    tokens: Counter[str]
    """Tokens this process has `generated` for rollouts, `scored` prompts with, and `trained` on."""
    outcome_observers: list[Callable[[Outcomes], None]]
    """Told, with the curriculum, what became known about prompts."""

    def __init__(
        self,
        *args: Any,
        curriculum: str | CurriculumConfig = "edco",
        engine: str | list[str] | EngineConfig | VLLMServer | None = None,
        **kwargs: Any,
    ) -> None:
        config = CurriculumConfig(strategy=curriculum) if isinstance(curriculum, str) else curriculum
        STRATEGIES.find(config.strategy)
        warn_of_samplers(type(self), CurriculumMixin)
        given = given_arguments(self, CurriculumMixin, args, kwargs)
        engine_config = self._settings_of(engine, given.get("args"))
        check_arguments(given.get("args"), engine=engine_config is not None)
        rows = self._rows_with_prompts(given.get("train_dataset"))
        check_prompts(rows)
        check_conversations(rows, given)
        self._check_given(given, config)
        check_overlap(type(self), given.get("args"), config, engine_config)
        if engine_config is not None:
            self._check_engine(given, engine_config)
        self.stopwatch = Stopwatch()
        self.tokens = Counter()
        self.outcome_observers = []
        self._outcomes: list[Outcome] = []
        self._suspects, self._rows_in_step, self.step_skipped = [], [], False
        self._row_indices: torch.Tensor | None = None
        self._connection = None
        self._scores_on_every_rank = engine_config is None
        super().__init__(*args, **kwargs)

        self._take_over_signals()
        check_rows_kept(given["train_dataset"], self.train_dataset, self.args)
        try:
            self._set_up(config, rows, engine_config)
        except BaseException:
            self.close()
            raise

    def _rows_with_prompts(self, dataset: Any) -> Any:
        """The training set, row for row, with a column `prompt`."""
        return dataset

    def _check_given(self, given: Mapping[str, Any], config: CurriculumConfig) -> None:
        """Refuse what cannot work before a model is loaded.

        Args:
            given (`Mapping[str, Any]`):
                Arguments of TRL's constructor.
            config (`CurriculumConfig`):
                Settings.
        """
        if config.gates:
            raise ConfigurationError(f"gates {config.gates} judge groups of rollouts, and this trainer has none.")
        if config.curriculum_fallback:
            raise ConfigurationError("curriculum_fallback compares groups of rollouts, and this trainer has none.")

    def _set_up(self, config: CurriculumConfig, rows: Dataset, engine: EngineConfig | None) -> None:
        """Build the curriculum over the training set's rows, and then start the engine."""
        if self.accelerator.device.type == "cpu":
            keep_freed_memory()
        self._init_curriculum(config, rows)
        if engine is not None:
            self._start_engine(engine)

    def _start_engine(self, config: EngineConfig) -> None:
        self._open_engine(config)

    @classmethod
    def batch_layout(cls, args: Any) -> BatchLayout:
        """How the trainer makes batches with these settings; by default each micro-batch is drawn on its own."""
        return BatchLayout.of_micro_batches(args)

    def _pass_order(self, epoch: int) -> IndexArray:
        """The trainer's own order of the rows in pass number `epoch`: by default accelerate's seedable sampler's."""
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        return seedable_sampler_order(len(self.train_dataset), seed, epoch)

    def _init_curriculum(self, config: CurriculumConfig, rows: Dataset) -> None:
        self._check_rounds(config)
        layout = self.batch_layout(self.args)
        self._curriculum_config = config
        self._prompt_rows = rows
        self._scored_rows = rows.select_columns([name for name in SCORED_COLUMNS if name in rows.column_names])
        pool = Pool(prompt_ids(rows), self._pass_order, column=self._column, max_visits=config.curriculum_max_visits)
        assert not isinstance(config.strategy_kwargs, str)  # the configuration has parsed it
        self.curriculum = Curriculum(
            pool,
            config.strategy,
            batch_size=layout.batch_size,
            size=layout.curriculum_size(config, len(pool)),
            seed=self.args.seed,
            strategy_kwargs=config.strategy_kwargs,
            exploration=config.curriculum_exploration,
            half_life=config.curriculum_half_life,
            fallback=config.curriculum_fallback,
        )
        self._scorer = self._make_scorer(config)
        self._check_hidden_states()
        if self.curriculum.strategy.needs_validation and self.args.eval_strategy == "no":
            raise ConfigurationError(
                f"strategy {config.strategy!r} waits for the validation loss, and eval_strategy is no: nothing is "
                "evaluated. Set eval_strategy to steps."
            )
        self._batch_sampler = CurriculumBatchSampler(
            self.curriculum,
            group_size=layout.group_size,
            repeat_count=layout.repeat_count,
            rank=self.accelerator.process_index,
            world_size=self.accelerator.num_processes,
            settings=batch_settings(self.args),
        )
        for callback in (CurriculumCallback(self), *panels(self)):
            self.add_callback(callback)
        show_progress(self)

    def _column(self, name: str) -> Sequence[Any] | NDArray[Any]:
        """A column of the training set, or `prompt_length`: the tokens of each prompt."""
        if name in self._prompt_rows.column_names:
            values = self._prompt_rows.select_columns([name]).with_format("arrow")[:][name]
            number = not values.null_count and (is_integer(values.type) or is_floating(values.type))
            return values.to_numpy() if number else values.to_pylist()
        if name == "prompt_length":
            return self._prompt_lengths()
        raise KeyError(name)

    def _prompt_lengths(self) -> list[int]:
        """Tokens of each prompt of the training set."""
        return list(map(len, self.row_tokenizer.prompts(self._scored_rows.to_list())))

    def _check_rollouts_fit(self, *, evaluation: bool = True) -> None:
        """Refuse prompts that the engine cannot continue, of training and, where it answers those, of `evaluation`."""
        most, added = None if self.engine is None else self.engine.max_model_len(), self.args.max_completion_length
        setting = f"max_completion_length {added}"
        lengths = [length + added for length in self._prompt_lengths()]
        self._check_lengths(range(len(lengths)), lengths, setting)
        sets = self.eval_dataset if isinstance(self.eval_dataset, dict) else {"": self.eval_dataset}
        for name, rows in sets.items() if evaluation else ():
            if isinstance(rows, Dataset):
                lengths = [len(prompt) + added for prompt in self.row_tokenizer.prompts(rows.to_list())]
                title = f"eval_dataset {name}".rstrip()
                check_lengths(lengths, most, setting, partial("{}, row {}".format, title))

    def get_train_dataloader(self) -> DataLoader:
        """A data loader that draws from the curriculum at the moment a batch is needed."""
        return DataLoader(
            self._training_rows(),
            batch_sampler=self._batch_sampler,
            collate_fn=self.data_collator,
            pin_memory=self.args.dataloader_pin_memory and self.accelerator.device.type == "cuda",
        )

    def _training_rows(self) -> Dataset:
        """The training set with the columns batches are made of."""
        return self._remove_unused_columns(self.train_dataset, description="Training")

    def observe(self, outcomes: Iterable[Outcome]) -> None:
        """Tell the curriculum what became known, the same on every rank.

        Raises:
            RuntimeError: The ranks' curricula are not in the same state.
        """
        outcomes = Outcomes.of(outcomes)
        self.curriculum.observe(outcomes)
        for observer in self.outcome_observers:
            observer(outcomes)
        if self.accelerator.num_processes > 1:
            digests = gather_object([self.curriculum.digest])
            if len(set(digests)) > 1:
                differing = [rank for rank, digest in enumerate(digests) if digest != digests[0]]
                raise RuntimeError(
                    f"At optimizer step {self.state.global_step} the curriculum of ranks {differing} is not in the "
                    "state of rank 0's: they drew or observed something else. A strategy or gate of your own must "
                    "use only self.rng and what it observes."
                )

    def observe_step(self) -> None:
        """Observe what the rows of the last optimizer step, of all ranks, said."""
        outcomes, self._outcomes = self._outcomes, []
        if not self.step_skipped:
            self.observe(gather_object(outcomes))

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Count the tokens that are trained on, and see that their loss is finite."""
        self._row_indices = None
        if INDEX in inputs:
            inputs = dict(inputs)  # TRL uses it again
            self._row_indices = inputs.pop(INDEX)
        if model.training:
            whole = "attention_mask" in inputs
            masks = [inputs["attention_mask"]] if whole else [inputs["prompt_mask"], inputs["completion_mask"]]
            self.tokens["trained"] += int(sum(mask.sum() for mask in masks))
        loss = super().compute_loss(model, inputs, *args, **kwargs)
        if model.training:
            self._note_loss(loss, self._row_indices)
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the curriculum's metrics to those of a training step, and leave out what is not finite."""
        if "loss" in logs:
            metrics = self._metrics["train"]
            for name, values in list(metrics.items()):
                metrics[name] = [value for value in values if np.isfinite(value)]
                if not metrics[name]:
                    del metrics[name]
            logs |= {f"curriculum/{name}": value for name, value in self.curriculum.metrics().items()}
            if self.engine is not None:
                logs |= {f"engine/{name}": value for name, value in self.interruptions().items()}
        super().log(logs, start_time)
