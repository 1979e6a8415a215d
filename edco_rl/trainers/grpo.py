"""GRPO with a curriculum."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from accelerate.utils import gather_object
from trl import GRPOConfig, GRPOTrainer

from ..config import CurriculumConfig, EngineConfig
from ..curriculum import make_gates
from ..curriculum.pool import IndexArray
from ..data.prompts import check_prompts
from ..engine.launch import EngineConnection
from ..errors import ConfigurationError
from .engine import EngineMixin
from .mixin import CurriculumMixin, repeat_sampler_order, resolve_settings
from .rollouts import Group, Rollout, has_signal, judge, make_groups, refill_size
from .shared_prompt import completion_logprobs
from .stopwatch import Stopwatch


class CurriculumGRPOTrainer(CurriculumMixin, EngineMixin, GRPOTrainer):
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
        config, engine_config = resolve_settings(curriculum, engine)
        if engine_config is not None and args is not None:
            args.use_vllm = False  # TRL would start, or look for, a vLLM of its own
        self.share_prompts = share_prompts
        self.stopwatch = Stopwatch()
        self._connection: EngineConnection | None = None
        self._scores_on_every_rank = engine_config is None
        self._admitted: list[Rollout] | None = None
        super().__init__(model, reward_funcs, args, train_dataset, *positional, **kwargs)

        if share_prompts and (self.accelerator.num_processes > 1 or self.args.gradient_checkpointing or self._is_vlm):
            raise ConfigurationError(
                "share_prompts needs one process, gradient_checkpointing false and a text-only model."
            )
        steps_per_batch = self.args.steps_per_generation * self.num_iterations / self.args.gradient_accumulation_steps
        self._init_curriculum(
            config,
            rows=self.train_dataset,
            batch_size=self.args.generation_batch_size // self.num_generations,
            steps_per_batch=steps_per_batch,
            group_size=self.num_generations,
            repeat_count=self.num_iterations * self.args.steps_per_generation,
            order=self._order,
        )
        assert not isinstance(config.gate_kwargs, str)  # the configuration has parsed it
        self.gates = make_gates(config.gates or [], config.gate_kwargs or {}, self.num_generations)
        if self.gates and (self.tools or self.environment_factories or self.rollout_func or self._is_vlm):
            raise ConfigurationError("gates work with text prompts, without tools, environments and rollout_func.")
        if engine_config is not None:
            self._open_engine_for_rollouts(engine_config)

    def _order(self, epoch: int) -> IndexArray:
        """The order of TRL's `RepeatSampler` in its pass number `epoch`."""
        return repeat_sampler_order(len(self.train_dataset), self.args.seed, epoch, self.shuffle_dataset)

    def _generate_single_turn(self, *args: Any, **kwargs: Any) -> Any:
        if self._connection is not None:  # the engine's generation takes its own time
            return super()._generate_single_turn(*args, **kwargs)
        with self.stopwatch("rollout"):
            return super()._generate_single_turn(*args, **kwargs)

    def _generate(self, prompts: list[Any]) -> Any:
        if self._admitted is None:
            self._generated = super()._generate(prompts)
            if self.model.training:
                self.tokens["generated"] += sum(map(len, self._generated[1]))
            return self._generated
        rollouts = self._admitted
        logprobs = [rollout.logprobs for rollout in rollouts]
        return (
            [rollout.prompt_ids for rollout in rollouts],
            [rollout.completion_ids for rollout in rollouts],
            None,
            [rollout.completion for rollout in rollouts],
            None if None in logprobs else logprobs,
            {},
            None,
            [],
        )

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
            logprobs, entropies, hidden_states = completion_logprobs(
                model, input_ids, attention_mask, logits_to_keep, temperature=self.temperature
            )
        self._keep_hidden_states(hidden_states)
        padding = attention_mask[:, -logits_to_keep:] == 0
        return logprobs.masked_fill(padding, 0.0), entropies.masked_fill(padding, 0.0), None

    def _keep_hidden_states(self, hidden_states: torch.Tensor) -> None:
        """Told what the tokens of completions were predicted from, shape (B, T, H); GRPO has no use for it."""

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any) -> Any:
        if self._admitted is not None:
            return self._admitted_rewards
        with self.stopwatch("reward"):
            rewards_per_func = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        if self.model.training and not self.gates:
            groups = self._groups(self.curriculum.batch, rewards_per_func)
            self.observe([group.outcome for group in groups])
            self._log_groups(groups)
        return rewards_per_func

    def _groups(self, indices: IndexArray, rewards_per_func: torch.Tensor) -> list[Group]:
        """What was just generated, of all ranks. Rewards are gathered over ranks already."""
        prompt_ids, completion_ids, _, completions, logprobs, *_ = self._generated
        end = {*self.eos_token_ids, self._tokenizer.pad_token_id}
        truncated = [ids[-1] not in end for ids in completion_ids]
        logprobs = [None] * len(prompt_ids) if logprobs is None else logprobs
        local = list(zip(prompt_ids, completion_ids, completions, logprobs, truncated, strict=True))
        rollouts = [
            Rollout(prompt, ids, completion, values, cut, rewards)
            for (prompt, ids, completion, values, cut), rewards in zip(
                gather_object(local), rewards_per_func.tolist(), strict=True
            )
        ]
        return make_groups(
            indices.tolist(),
            rollouts,
            version=self.state.global_step,
            reward_weights=self.reward_weights,
            prefix_tokens=self._curriculum_config.scoring_prefix_tokens,
        )

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> Any:
        if not (self.gates and self.model.training):
            return super()._generate_and_score_completions(inputs)
        groups = self._collect_admitted(inputs)
        everyone = [(group.outcome.index, rollout) for group in groups for rollout in group.rollouts]
        rewards = [rollout.rewards for _, rollout in everyone]
        self._admitted_rewards = torch.tensor(rewards, device=self.accelerator.device)
        local = len(inputs)
        mine = everyone[self.accelerator.process_index * local :][:local]
        self._admitted = [rollout for _, rollout in mine]
        try:
            return super()._generate_and_score_completions(self._rows([index for index, _ in mine]))
        finally:
            self._admitted = None

    def _collect_admitted(self, inputs: list[dict[str, Any]]) -> list[Group]:
        """Roll out the batch, and new prompts for the groups the gates drop; the same groups on every rank."""
        batch_size, size = self.curriculum.batch_size, self.num_generations
        rank, processes = self.accelerator.process_index, self.accelerator.num_processes
        indices = self.curriculum.batch
        seen: list[Group] = []
        dropped: Counter[str] = Counter()
        for refills_left in range(self._curriculum_config.gate_max_refills, -1, -1):
            prompts = [row["prompt"] for row in inputs]
            _, completion_ids, _, completions, *_ = self._generate(prompts)
            rewards = self._calculate_rewards(inputs, prompts, completions, completion_ids)
            judged, counts = judge(self._groups(indices, rewards), self.gates)
            self.observe([group.outcome for group in judged])
            seen += judged
            dropped.update(counts)
            missing = batch_size - sum(group.outcome.admitted for group in seen)
            refill = refill_size(missing, self.curriculum, size, processes) if missing > 0 and refills_left else 0
            if refill <= 0:
                break
            indices = self.curriculum.draw(refill)
            share = refill * size // processes
            inputs = self._rows(np.repeat(indices, size)[rank * share :][:share])
        # Groups that were dropped last come after the admitted ones: they fill what is missing after all refills.
        chosen = sorted(seen, key=lambda group: not group.outcome.admitted)[:batch_size]
        self._log_groups(seen, chosen)
        metrics = self._metrics["train"]
        for name, count in dropped.items():
            metrics[f"curriculum/dropped_{name.rpartition(':')[2]}"].append(count)
        metrics["curriculum/groups_dropped"].append(dropped.total())
        metrics["curriculum/groups_refilled"].append(len(seen) - batch_size)
        metrics["curriculum/groups_missing"].append(max(missing, 0))
        return chosen

    def _rows(self, indices: Sequence[int] | IndexArray) -> list[dict[str, Any]]:
        rows = self._training_rows()
        return [rows[int(index)] for index in indices]

    def _log_groups(self, groups: list[Group], trained: list[Group] | None = None) -> None:
        metrics = self._metrics["train"]
        entropies = [group.outcome.entropy for group in groups if group.outcome.entropy is not None]
        if entropies:
            metrics["curriculum/rollout_entropy"].append(float(np.mean(entropies)))
        if self.num_generations > 1:  # PPO can do with one, which has nothing to differ from
            metrics["curriculum/groups_with_signal"].append(float(np.mean([has_signal(g) for g in groups])))
            if trained is not None:
                signal = float(np.mean([has_signal(g) for g in trained]))
                metrics["curriculum/groups_with_signal_trained"].append(signal)
        rewards = np.array([rollout.rewards for group in groups for rollout in group.rollouts])
        for index, function in enumerate(self.reward_funcs):
            if getattr(function, "is_accuracy", False):
                metrics["accuracy"].append(float((rewards[:, index] >= 1.0).mean()))

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        generate_every = self.args.steps_per_generation * self.num_iterations
        state = {"step": self._step, "rollouts": self._buffered_inputs if self._step % generate_every else None}
        torch.save(state, self._rollouts_file(self._checkpoint_folder(trial)))

    def _load_curriculum(self, folder: str | Path) -> None:
        super()._load_curriculum(folder)
        path = self._rollouts_file(Path(folder))
        if not path.is_file():
            raise ConfigurationError(
                f"The checkpoint {folder} has no {path.name}: it was made with fewer than "
                f"{self.accelerator.num_processes} processes. Resume with as many."
            )
        state = torch.load(path, map_location=self.accelerator.device, weights_only=True)
        self._step, self._buffered_inputs = state["step"], state["rollouts"]

    def _rollouts_file(self, folder: Path) -> Path:
        """Where this rank keeps the rollouts of a generation batch that is not used up yet."""
        return folder / f"rollouts_{self.accelerator.process_index}.pt"
