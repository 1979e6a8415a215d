"""Which weights rollouts are made with: those of their optimizer step, or older ones; and when they are made."""

import logging
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import broadcast_object_list

from ..config import CurriculumConfig, EngineConfig
from ..curriculum.pool import IndexArray
from ..engine.protocol import EngineLostError
from ..errors import ConfigurationError
from .find_checkpoint import reading
from .rollout_faults_mixin import RolloutFaultsMixin

logger = logging.getLogger(__name__)

_FILE = "rollouts_ahead.pt"


@dataclass(frozen=True)
class RolloutsBegun:
    """Rollouts of a generation batch whose turn is yet to come.

    Args:
        indices (`NDArray[np.int64]`):
            Its prompts.
        version (`int`):
            Optimizer step of the weights they are made with.
        made (`Future`):
            What comes of it, as `EngineGeneration`'s client of TRL's returns it: `prompt_ids`, one a prompt,
            `completion_ids` and `logprobs`, as many a prompt as a group has.
    """

    indices: IndexArray
    version: int
    made: Future[dict[str, Any]]


class RolloutsAheadMixin(RolloutFaultsMixin):
    """Has a trainer on rollouts take those that an engine has made ahead, with `rollouts_ahead`.

    As a generation batch begins, its rollouts are taken, the weights pushed, the prompts of the next batch drawn, and
    its rollouts begun; the engine makes them while the optimizer works. So a batch is drawn before the rewards of the
    one before it are known. The loss is corrected by TRL's `vllm_importance_sampling_correction`.

    A checkpoint keeps what was made ahead. Where the engine is lost on the way, rollouts are made anew in their turn.
    """

    args: Any
    model: Any
    rollout_version: int = 0
    """Optimizer step of the weights that have made the latest rollouts."""
    _version_taken: int | None = None
    _makes_ahead: bool = False
    _pushes_seldom: bool = False
    _made_ahead: RolloutsBegun | None = None
    """Of the main process; others are told when it is its turn."""
    _rows: Any

    def _set_up(self, config: CurriculumConfig, rows: Any, engine: EngineConfig | None) -> None:
        self._makes_ahead = engine is not None and engine.rollouts_ahead == 1
        self._pushes_seldom = engine is not None and engine.sync_interval > 1
        with_tools = any(getattr(self, name, None) for name in ("tools", "environment_factories", "rollout_func"))
        if self._makes_ahead and (with_tools or self._is_vlm):
            raise ConfigurationError(
                "rollouts_ahead 1 works with text prompts, without tools, environments and rollout_func."
            )
        super()._set_up(config, rows, engine)

    def _generate(self, prompts: list[Any]) -> Any:
        self._version_taken = None
        generated = super()._generate(prompts)
        pushed = None if self._connection is None else self.vllm_generation.pushed_version
        versions = (self._version_taken, pushed, self.state.global_step)
        self.rollout_version = next(version for version in versions if version is not None)
        if self.model.training and (self._makes_ahead or self._pushes_seldom):
            self._metrics["train"]["engine/rollout_age"].append(self.state.global_step - self.rollout_version)
        return generated

    def _generate_single_turn(self, prompt_ids: list[list[int]], *args: Any, **kwargs: Any) -> Any:
        if self._connection is None:
            return super()._generate_single_turn(prompt_ids, *args, **kwargs)
        if not self.model.training:
            self.sync_engine()  # answers are those of the weights that are evaluated
            return super()._generate_single_turn(prompt_ids, *args, **kwargs)
        taken = self._take_rollouts(prompt_ids) if self._makes_ahead else None
        if taken is None:
            self._sync_for_rollouts()
            taken = super()._generate_single_turn(prompt_ids, *args, **kwargs)
            self._version_taken = self.vllm_generation.pushed_version  # before another push for what is begun
        if self._makes_ahead and self._needs_another_batch():
            self._begin_rollouts()
        self.begin_scoring()
        return taken

    def _sync_for_rollouts(self) -> None:
        if self.scores_in_this_step:  # which needs the current weights
            self.sync_engine()
        elif self._last_loaded_step != self.state.global_step:
            self.vllm_generation.sync_weights()
            self._last_loaded_step = self.state.global_step

    def _needs_another_batch(self) -> bool:
        return self.state.global_step + self.batch_layout(self.args).steps_per_batch < self.state.max_steps

    def _begin_rollouts(self) -> None:
        """Draw the prompts of the next batch, and have the engine continue them with the weights as they are now."""
        self._sync_for_rollouts()
        indices = self.curriculum.draw_ahead()
        if not self.accelerator.is_main_process:
            return
        prompts = self.row_tokenizer.prompts(self._rows(indices))
        engine, client, size = self.engine, self.vllm_generation.vllm_client, self.num_generations

        def generate() -> dict[str, Any]:
            with engine.without_recovery():
                return client.generate(prompts, n=size)

        version = self.vllm_generation.pushed_version
        assert version is not None
        self._made_ahead = RolloutsBegun(indices, version, self._background.begin("rollout", generate))

    def _take_rollouts(self, prompt_ids: list[list[int]]) -> tuple[list[Any], list[Any]] | None:
        """This rank's completions and log-probabilities of the batch whose turn it is, as TRL's method returns them.

        `None` where they are yet to be made: of the first batch, and where the engine was lost. A collective.

        Raises:
            EngineError: The engine failed otherwise.
            WeightVersionError: It has other weights than those pushed last.
        """
        begun, self._made_ahead = self._made_ahead, None
        found: list[tuple[int, list[Any], list[Any]] | None] = [None]
        if begun is not None and np.array_equal(begun.indices, self._batch_sampler.next_taken):
            assert self._connection is not None
            try:
                made = self._background.result(begun.made)
                self._connection.transport.verify()
                assert made["prompt_ids"][0] == prompt_ids[0]
                logprobs = [[position[0] for position in completion] for completion in made["logprobs"]]
                found = [(begun.version, made["completion_ids"], logprobs)]
            except EngineLostError as error:
                logger.warning("%s Its rollouts are made again.", error)
        [taken] = broadcast_object_list(found)
        if taken is None:
            return None
        self._version_taken, *parts = taken
        first = self.accelerator.process_index * len(prompt_ids)
        completion_ids, logprobs = (part[first : first + len(prompt_ids)] for part in parts)
        return completion_ids, logprobs

    def _save_of_rank(self, folder: Path) -> None:
        super()._save_of_rank(folder)
        if self._connection is None:
            return
        if self.vllm_generation.pushed_version != self.state.global_step:
            self.outdate_engine()  # a run that resumes from here begins with a push, so this one goes on with one
        begun = self._made_ahead
        if begun is not None:
            self._background.idle()
            if begun.made.exception() is None:  # otherwise they are made anew in their turn
                torch.save({"version": begun.version, **begun.made.result()}, folder / _FILE)

    def _load_curriculum(self, folder: str | Path) -> None:
        super()._load_curriculum(folder)
        path, ahead = Path(folder) / _FILE, self.curriculum.ahead
        self._made_ahead = None
        if self._makes_ahead and self.accelerator.is_main_process and len(ahead) and path.is_file():
            with reading(str(folder), f"rollouts ({path.name})"):
                made = torch.load(path, weights_only=True)
                version = made.pop("version")
            done: Future[dict[str, Any]] = Future()
            done.set_result(made)
            self._made_ahead = RolloutsBegun(ahead, version, done)
