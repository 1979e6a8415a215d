"""GRPO with a curriculum."""

import atexit
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from accelerate.utils import gather_object, is_peft_model
from trl import GRPOConfig, GRPOTrainer
from trl.models import unwrap_model_for_generation

from ..config import ConfigurationError, CurriculumConfig, EngineConfig
from ..curriculum import Outcome, strategy_class
from ..curriculum.pool import IndexArray
from ..data.prompts import check_prompts
from ..engine.completion import Generator
from ..engine.generation import EngineGeneration
from ..engine.launch import EngineConnection, open_engine
from ..entropy import rollout_entropy
from .mixin import CurriculumMixin
from .model_generator import ModelGenerator
from .shared_prompt import completion_logprobs
from .stopwatch import Stopwatch


class CurriculumGRPOTrainer(CurriculumMixin, GRPOTrainer):
    """TRL's `GRPOTrainer` with a curriculum.

    Args:
        model, reward_funcs, args, train_dataset, *args, **kwargs:
            As in `trl.GRPOTrainer`. The training set needs a column `prompt`; a column `id` is kept as
            the prompt's id.
        curriculum (`str` or [`CurriculumConfig`], *optional*, defaults to `"edco"`):
            Name or import path of a strategy, or full settings.
        engine (`None`, `str` or [`EngineConfig`], *optional*):
            `None` leaves generation to TRL (transformers, or vLLM as `args` says) and scores prompts with the model
            being trained. The URL of a server (`edco-rl serve`), or settings with which one is started, generates and
            scores with vLLM; this replaces `args.use_vllm`.

        share_prompts (`bool`, *optional*, defaults to `False`):
            Whether to compute each prompt once for all its completions in the forward and backward pass: the same
            losses up to rounding, several times faster where completions are shorter than prompts. It materializes the
            logits of the completions, and needs one process and no gradient checkpointing.

    Raises:
        ConfigurationError: A bad row, setting or combination; raised before a model is loaded where possible.

    Example:

    ```python
    >>> from edco_rl import CurriculumGRPOTrainer, EngineConfig
    >>> trainer = CurriculumGRPOTrainer(
    ...     model="Qwen/Qwen3-0.6B",
    ...     reward_funcs=accuracy_reward,
    ...     train_dataset=dataset,
    ...     curriculum="edco",
    ...     engine=EngineConfig(),
    ... )
    >>> trainer.train()
    ```
    """

    _tag_names: ClassVar[list[str]] = ["trl", "grpo", "edco-rl"]

    def __init__(
        self,
        model: Any,
        reward_funcs: Any = None,
        args: GRPOConfig | None = None,
        train_dataset: Any = None,
        *positional: Any,
        curriculum: str | CurriculumConfig = "edco",
        engine: str | EngineConfig | None = None,
        share_prompts: bool = False,
        **kwargs: Any,
    ) -> None:
        check_prompts(train_dataset)
        config = CurriculumConfig(strategy=curriculum) if isinstance(curriculum, str) else curriculum
        strategy_class(config.strategy)
        engine_config = EngineConfig(engine_url=engine) if isinstance(engine, str) else engine
        if engine_config is not None and engine_config.engine_mode == "none":
            engine_config = None
        if engine_config is not None and args is not None:
            args.use_vllm = False  # TRL would start, or look for, a vLLM of its own
        self.share_prompts = share_prompts
        self.stopwatch = Stopwatch()
        self._connection: EngineConnection | None = None
        self._scores_on_every_rank = engine_config is None
        super().__init__(model, reward_funcs, args, train_dataset, *positional, **kwargs)

        if share_prompts and (self.accelerator.num_processes > 1 or self.args.gradient_checkpointing or self._is_vlm):
            raise ConfigurationError(
                "share_prompts needs one process, gradient_checkpointing false and a text-only model."
            )
        steps_per_batch = self.args.steps_per_generation * self.num_iterations / self.args.gradient_accumulation_steps
        self._init_curriculum(
            config,
            batch_size=self.args.generation_batch_size // self.num_generations,
            steps_per_batch=steps_per_batch,
            group_size=self.num_generations,
            repeat_count=self.num_iterations * self.args.steps_per_generation,
            order=self._order,
        )
        if engine_config is not None:
            self._open_engine(engine_config)

    def _order(self, epoch: int) -> IndexArray:
        """The order of TRL's `RepeatSampler` in its pass number `epoch`."""
        size = len(self.train_dataset)
        if not self.shuffle_dataset:
            return np.arange(size)
        generator = torch.Generator().manual_seed(self.args.seed)
        for _ in range(epoch):
            torch.randperm(size, generator=generator)
        return torch.randperm(size, generator=generator).numpy()

    def _open_engine(self, config: EngineConfig) -> None:
        lora = self.model.peft_config[self.model.active_adapter] if is_peft_model(self.model) else None
        name = self.model.get_base_model().name_or_path if lora is not None else self.model.name_or_path
        if not name and config.engine_url is None:
            raise ConfigurationError(
                "The model has no name_or_path the engine could load: start a server and pass its URL."
            )
        atexit.register(self.close)
        self._connection = open_engine(
            config,
            name,
            rank=self.accelerator.process_index,
            cuda=self.accelerator.device.type == "cuda",
            peft_config=lora,
            log_path=Path(self.args.output_dir) / "engine.log",
        )
        self.accelerator.wait_for_everyone()
        self.use_vllm = self.args.use_vllm = True
        self._last_loaded_step = -1
        self.vllm_generation = EngineGeneration(
            self.model,
            self.accelerator,
            self.processing_class,
            engine=self._connection.engine,
            transport=self._connection.transport,
            version=lambda: self.state.global_step,
            timer=self.stopwatch,
            max_completion_length=self.max_completion_length,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            generation_kwargs=self.args.generation_kwargs,
        )

    @property
    def engine(self) -> Any:
        """This rank's engine, or `None`. Its weights are the policy's after [`~CurriculumGRPOTrainer.sync_engine`]."""
        return None if self._connection is None else self._connection.engine

    def sync_engine(self) -> None:
        """Push the policy's weights to the engine, unless it serves those of this optimizer step already."""
        if self._connection is not None and self._last_loaded_step != self.state.global_step:
            self.vllm_generation.sync_weights()
            self._last_loaded_step = self.state.global_step

    def close(self) -> None:
        """Release the engine, and stop a server that was started here. Safe to call more than once."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        atexit.unregister(self.close)

    @contextmanager
    def scoring_generator(self) -> Iterator[Generator | None]:
        if self._connection is not None:
            self.sync_engine()
            yield self._connection.engine if self.accelerator.is_main_process else None
            return
        with (
            unwrap_model_for_generation(
                self.model_wrapped, self.accelerator, gather_deepspeed3_params=self.args.ds3_gather_for_generation
            ) as model,
            self._dist.summon_full_params(self.model_wrapped, recurse=False),
        ):
            yield ModelGenerator(model, self._tokenizer.pad_token_id, self.eos_token_ids)

    def _generate_single_turn(self, *args: Any, **kwargs: Any) -> Any:
        if self._connection is not None:  # the engine's generation takes its own time
            return super()._generate_single_turn(*args, **kwargs)
        with self.stopwatch("rollout"):
            return super()._generate_single_turn(*args, **kwargs)

    def _generate(self, prompts: list[Any]) -> Any:
        output = super()._generate(prompts)
        self._rollout_logprobs = output[4]
        return output

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        compute_aux_loss: bool = False,
        **multimodal: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        if not self.share_prompts or compute_aux_loss:
            return super()._get_per_token_logps_and_entropies(
                model,
                input_ids,
                attention_mask,
                logits_to_keep,
                batch_size,
                compute_entropy,
                compute_aux_loss,
                **multimodal,
            )
        with self.accelerator.autocast():
            logprobs, entropies = completion_logprobs(
                model, input_ids, attention_mask, logits_to_keep, temperature=self.temperature
            )
        padding = attention_mask[:, -logits_to_keep:] == 0
        return logprobs.masked_fill(padding, 0.0), entropies.masked_fill(padding, 0.0), None

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any) -> Any:
        with self.stopwatch("reward"):
            rewards_per_func = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        if self.model.training:
            self._observe_rollouts(rewards_per_func)
        return rewards_per_func

    def _observe_rollouts(self, rewards_per_func: torch.Tensor) -> None:
        """Tell the curriculum what the rollouts of its last batch said. Rewards are gathered over ranks already."""
        rewards = (rewards_per_func * self.reward_weights.to(rewards_per_func.device)).nansum(dim=1)
        groups = rewards.view(-1, self.num_generations).tolist()
        entropies = self._group_entropies(len(groups))
        version = self.state.global_step
        self.curriculum.observe(
            [
                Outcome(index=int(index), version=version, entropy=entropy, rewards=tuple(group))
                for index, group, entropy in zip(self.curriculum.batch, groups, entropies, strict=True)
            ]
        )
        known = [entropy for entropy in entropies if entropy is not None]
        if known:
            self._metrics["train"]["curriculum/rollout_entropy"].append(float(np.mean(known)))
        for index, function in enumerate(self.reward_funcs):
            if getattr(function, "is_accuracy", False):
                right = (rewards_per_func[:, index] >= 1.0).float().mean().item()
                self._metrics["train"]["accuracy"].append(right)

    def _group_entropies(self, groups: int) -> Sequence[float | None]:
        local = self._rollout_logprobs
        if local is None:
            return [None] * groups
        logprobs = [np.array([np.nan if v is None else v for v in row]) for row in gather_object(local)]
        size = self.num_generations
        prefix = self._curriculum_config.prefix_tokens
        return [rollout_entropy(logprobs[i : i + size], prefix).value for i in range(0, groups * size, size)]
