"""What every curriculum trainer shares: sampling, scoring, observing, logging and checkpoints of the curriculum."""

import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from accelerate.utils import broadcast_object_list, gather_object
from datasets import Dataset
from torch.utils.data import DataLoader
from transformers import ProgressCallback, Trainer, TrainerCallback

from ..config import CurriculumConfig, EngineConfig
from ..curriculum import STRATEGIES, Curriculum, CurriculumBatchSampler, Outcome, Pool
from ..curriculum.pool import IndexArray
from ..data.prompts import prompt_ids
from ..engine.protocol import GenerationBackend
from ..errors import ConfigurationError
from .progress import CurriculumProgressCallback
from .scoring import PromptScorer
from .stopwatch import Stopwatch

T = TypeVar("T")

CURRICULUM_FILE = "curriculum.json"


def resolve_settings(
    curriculum: str | CurriculumConfig, engine: str | EngineConfig | None
) -> tuple[CurriculumConfig, EngineConfig | None]:
    """The settings behind a trainer's arguments `curriculum` and `engine`; no engine for `engine_mode` `"none"`.

    Raises:
        ConfigurationError: There is no such strategy.
    """
    config = CurriculumConfig(strategy=curriculum) if isinstance(curriculum, str) else curriculum
    STRATEGIES.find(config.strategy)
    engine_config = EngineConfig(engine_url=engine) if isinstance(engine, str) else engine
    if engine_config is not None and engine_config.engine_mode == "none":
        engine_config = None
    return config, engine_config


class CurriculumMixin(Trainer if TYPE_CHECKING else object):  # type: ignore[misc]
    """Puts a curriculum into a TRL trainer; inherit from it before the trainer.

    The trainer calls [`~CurriculumMixin._init_curriculum`] at the end of its constructor, and has a
    `scoring_backend` ([`~edco_rl.trainers.engine.EngineMixin`]).
    """

    curriculum: Curriculum
    stopwatch: Stopwatch
    tokens: Counter[str]
    """Tokens this process has `generated` for rollouts, `scored` prompts with, and `trained` on."""
    outcome_observers: list[Callable[[Sequence[Outcome]], None]]
    """Told, with the curriculum, what became known about prompts."""
    _scores_on_every_rank: bool
    _outcomes: list[Outcome]

    def _init_curriculum(
        self,
        config: CurriculumConfig,
        *,
        rows: Dataset,
        batch_size: int,
        steps_per_batch: float,
        group_size: int,
        repeat_count: int,
        order: Callable[[int], IndexArray],
    ) -> None:
        """Build the curriculum over `self.train_dataset`.

        Args:
            rows (`datasets.Dataset`):
                The training set as it was given, with a column `prompt`, row for row.
            config (`CurriculumConfig`):
                Settings.
            batch_size (`int`):
                Different prompts in a generation batch, over all processes.
            steps_per_batch (`float`):
                Optimizer steps a generation batch lasts.
            group_size (`int`), repeat_count (`int`):
                See [`~edco_rl.curriculum.CurriculumBatchSampler`].
            order (`Callable[[int], IndexArray]`):
                The trainer's own order of the data set in each pass.
        """
        self.tokens = Counter()
        self.outcome_observers = []
        self._scorer = PromptScorer(
            rows,
            self._tokenizer,
            config,
            getattr(self, "chat_template_kwargs", None),
            estimator=STRATEGIES.find(config.strategy).estimator,
            vocabulary_size=self.model.config.get_text_config().vocab_size,
        )
        assert not isinstance(config.strategy_kwargs, str)  # the configuration has parsed it
        # What an interval can use up: gates may have each batch filled up again and again.
        fillings = 1 + config.gate_max_refills if config.gates else 1
        interval_size = int(np.ceil(config.curriculum_interval / steps_per_batch)) * batch_size * fillings
        self._prompt_rows = rows
        pool = Pool(prompt_ids(rows), order, column=self._column, max_visits=config.curriculum_max_visits)
        self.curriculum = Curriculum(
            pool,
            config.strategy,
            batch_size=batch_size,
            size=config.curriculum_size if config.curriculum_size is not None else min(interval_size, len(pool)),
            seed=self.args.seed,
            strategy_kwargs=config.strategy_kwargs,
            exploration=config.curriculum_exploration,
            half_life=config.curriculum_half_life,
        )
        if self.curriculum.strategy.needs_validation and self.args.eval_strategy == "no":
            raise ConfigurationError(
                f"strategy {config.strategy!r} waits for the validation loss, and eval_strategy is no: nothing is "
                "evaluated. Set eval_strategy to steps."
            )
        self._curriculum_config = config
        self._batch_sampler = CurriculumBatchSampler(
            self.curriculum,
            group_size=group_size,
            repeat_count=repeat_count,
            rank=self.accelerator.process_index,
            world_size=self.accelerator.num_processes,
        )
        self.add_callback(_CurriculumCallback(self))
        if self.pop_callback(ProgressCallback) is not None:
            self.add_callback(CurriculumProgressCallback)

    def _column(self, name: str) -> Sequence[Any]:
        """A column of the training set, or `prompt_length`: the tokens of each prompt."""
        if name == "prompt_length" and name not in self._prompt_rows.column_names:
            return self._scorer.prompt_lengths()
        if name not in self._prompt_rows.column_names:
            raise KeyError(name)
        return self._prompt_rows[name]

    def get_train_dataloader(self) -> DataLoader:
        """A data loader that draws from the curriculum at the moment a batch is needed."""
        if self.args.dataloader_num_workers:
            raise ConfigurationError(
                f"dataloader_num_workers is {self.args.dataloader_num_workers}: workers would draw prompts ahead of "
                "the policy that should choose them. Set it to 0."
            )
        return DataLoader(
            self._training_rows(),
            batch_sampler=self._batch_sampler,
            collate_fn=self.data_collator,
            pin_memory=self.args.dataloader_pin_memory and self.accelerator.device.type == "cuda",
        )

    def _training_rows(self) -> Dataset:
        """The training set with the columns batches are made of."""
        return self._remove_unused_columns(self.train_dataset, description="Training")

    def _renew_curriculum(self) -> None:
        """Score what the strategy wants, and let it form the next curriculum. The same on every rank."""
        step = self.state.global_step
        wanted = self.curriculum.wants(self._curriculum_config.curriculum_candidates)
        if len(wanted):
            self.observe(self._score(wanted, step))
        self.curriculum.renew(step)

    def observe(self, outcomes: Sequence[Outcome]) -> None:
        """Tell the curriculum what became known, the same on every rank.

        Raises:
            RuntimeError: The ranks' curricula are not in the same state.
        """
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

    def _observe_step(self) -> None:
        """Observe what the rows of the last optimizer step, of all ranks, said."""
        outcomes, self._outcomes = self._outcomes, []
        self.observe(gather_object(outcomes))

    def _score(self, wanted: IndexArray, step: int) -> list[Outcome]:
        return self._spread(
            "scoring", wanted, lambda share, backend: self._scorer.score(share, backend, step, self.tokens)
        )

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

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Count the tokens that are trained on."""
        if model.training:
            masks = [inputs[name] for name in ("attention_mask", "prompt_mask", "completion_mask") if name in inputs]
            self.tokens["trained"] += int(sum(mask.sum() for mask in masks))
        return super().compute_loss(model, inputs, *args, **kwargs)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the curriculum's metrics to those of a training step."""
        if "loss" in logs:
            logs |= {f"curriculum/{name}": value for name, value in self.curriculum.metrics().items()}
        super().log(logs, start_time)

    def save_curriculum(self, folder: str | Path) -> None:
        """Write the curriculum's state to `curriculum.json` in a folder."""
        state = {"curriculum": self.curriculum.state_dict(), "sampler": self._batch_sampler.state_dict()}
        (Path(folder) / CURRICULUM_FILE).write_text(json.dumps(state, default=_to_plain))

    def _load_curriculum(self, folder: str | Path) -> None:
        path = Path(folder) / CURRICULUM_FILE
        if not path.is_file():
            raise ConfigurationError(
                f"The checkpoint {folder} has no {CURRICULUM_FILE}: it is not one of a curriculum."
            )
        state = json.loads(path.read_text())
        self.curriculum.load_state_dict(state["curriculum"])
        self._batch_sampler.load_state_dict(state["sampler"])

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        if self.args.should_save:
            self.save_curriculum(self._checkpoint_folder(trial))

    def _checkpoint_folder(self, trial: Any = None) -> Path:
        return Path(self._get_output_dir(trial=trial)) / f"checkpoint-{self.state.global_step}"

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            self._load_curriculum(checkpoint)


class ObserveCallback(TrainerCallback):
    """Tells the curriculum what a step's rows said, where no rollouts do. Comes before the one that renews it."""

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.trainer._observe_step()


class _CurriculumCallback(TrainerCallback):
    """Renews the curriculum at step 0 and every `interval` steps, tells it of evaluations, and times the steps."""

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer
        self._began = 0.0
        self._before: dict[str, float] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._renew_if_due(state)

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: dict[str, float] | None = None, **kwargs: Any
    ) -> None:
        if metrics and "eval_loss" in metrics:
            self.trainer.curriculum.validate(metrics["eval_loss"])

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._began = time.perf_counter()
        self._before = dict(self.trainer.stopwatch.seconds)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._renew_if_due(state)
        seconds = self.trainer.stopwatch.seconds
        total = time.perf_counter() - self._began
        parts = {part: seconds[part] - self._before.get(part, 0.0) for part in seconds if part != "optimizer"}
        parts["optimizer"] = total - sum(parts.values())  # what no other part has claimed
        seconds["optimizer"] = seconds.get("optimizer", 0.0) + parts["optimizer"]
        for part, value in {**parts, "step": total}.items():
            self.trainer._metrics["train"][f"time/{part}"].append(value)

    def _renew_if_due(self, state: Any) -> None:
        step = state.global_step
        trainer = self.trainer
        due = step % trainer._curriculum_config.curriculum_interval == 0 and step < state.max_steps
        if due and trainer.curriculum.renewed_at != step:
            trainer._renew_curriculum()


def repeat_sampler_order(size: int, seed: int, epoch: int, shuffle: bool | None) -> IndexArray:
    """The order of TRL's `RepeatSampler` in its pass number `epoch`."""
    if not shuffle:
        return np.arange(size)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epoch):
        torch.randperm(size, generator=generator)
    return torch.randperm(size, generator=generator).numpy()


def _to_plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"Cannot write {type(value).__name__} to {CURRICULUM_FILE}.")
