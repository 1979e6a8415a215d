"""The mixin of trainers that roll out groups: observe them, let gates judge them, and fill up what they drop."""

from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object

from ..config import CurriculumConfig, EngineConfig
from ..curriculum import make_gates
from ..curriculum.gates import has_signal
from ..curriculum.pool import IndexArray
from ..errors import ConfigurationError, EdcoRLError
from .batches import BatchLayout
from .find_checkpoint import reading
from .groups import Group, Rollout, ends, judge, make_groups, refill_size
from .pass_order import repeat_sampler_order
from .rollouts_ahead_mixin import RolloutsAheadMixin
from .shared_prompt import completion_logprobs


class RolloutMixin(RolloutsAheadMixin):
    """Gives TRL's trainers on rollouts (GRPO, RLOO and what stands on them) a curriculum that learns from groups.

    A trainer class is this mixin, TRL's class, and [`~RolloutMixin.unpack`] and [`~RolloutMixin.pack`], which say what
    TRL's `_generate` returns.

    Args:
        *args, curriculum, engine, **kwargs:
            As of [`CurriculumMixin`].
        share_prompts (`bool`, *optional*, defaults to `False`):
            Whether to compute each prompt once for all its completions in the forward and backward pass: the same
            losses up to rounding, several times faster where completions are shorter than prompts. It materializes the
            logits of the completions, and needs one process and no gradient checkpointing.
    """

    _admitted_rewards: torch.Tensor

    def __init__(self, *args: Any, share_prompts: bool = False, **kwargs: Any) -> None:
        self.share_prompts = share_prompts
        self._admitted: list[Rollout] | None = None
        super().__init__(*args, **kwargs)

    @abstractmethod
    def unpack(self, generated: tuple[Any, ...]) -> tuple[list[Any], list[Any], list[Any], list[Any] | None]:
        """Prompt ids, completion ids, completions and log-probabilities (or `None`) of what `_generate` returned."""

    @abstractmethod
    def pack(self, rollouts: Sequence[Rollout]) -> tuple[Any, ...]:
        """What `_generate` would have returned for these rollouts."""

    def _check_given(self, given: Mapping[str, Any], config: CurriculumConfig) -> None:
        """Gates are welcome here."""

    def _set_up(self, config: CurriculumConfig, rows: Any, engine: EngineConfig | None) -> None:
        if self.share_prompts and (
            self.accelerator.num_processes > 1 or self.args.gradient_checkpointing or self._is_vlm
        ):
            raise ConfigurationError(
                "share_prompts needs one process, gradient_checkpointing false and a text-only model."
            )
        self._check_rewards(config.reward_timeout)
        assert not isinstance(config.gate_kwargs, str)  # the configuration has parsed it
        self.gates = make_gates(config.gates or [], config.gate_kwargs or {}, self.num_generations)
        with_tools = any(getattr(self, name, None) for name in ("tools", "environment_factories", "rollout_func"))
        if self.gates and (with_tools or self._is_vlm):
            raise ConfigurationError("gates work with text prompts, without tools, environments and rollout_func.")
        if config.curriculum_fallback and self.num_generations == 1:
            raise ConfigurationError(
                "curriculum_fallback compares rewards within groups, and num_generations is 1. Raise it to 2 or more."
            )
        super()._set_up(config, rows, engine)

    def _start_engine(self, config: EngineConfig) -> None:
        self._open_engine_for_rollouts(config)
        self._check_rollouts_fit()

    def _rollout_temperature(self) -> float:
        return self.temperature

    @classmethod
    def batch_layout(cls, args: Any) -> BatchLayout:
        return BatchLayout.of_groups(args)

    def _pass_order(self, epoch: int) -> IndexArray:
        return repeat_sampler_order(len(self.train_dataset), self.args.seed, epoch, self.shuffle_dataset)

    def _generate_single_turn(self, *args: Any, **kwargs: Any) -> Any:
        if self._connection is not None:  # the engine's generation takes its own time
            return super()._generate_single_turn(*args, **kwargs)
        with self.stopwatch("rollout"), self.sampling():
            return super()._generate_single_turn(*args, **kwargs)

    def _generate(self, prompts: list[Any]) -> Any:
        if self._admitted is not None:
            return self.pack(self._admitted)
        self._generated = super()._generate(prompts)
        if self.model.training:
            self.tokens["generated"] += sum(map(len, self.unpack(self._generated)[1]))
        return self._generated

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
            found = super()._get_per_token_logps_and_entropies(
                model,
                input_ids,
                attention_mask,
                logits_to_keep,
                batch_size,
                compute_entropy,
                compute_aux_loss,
                **multimodal,
            )
            self._unfit = ~found[0].detach().isfinite().all(dim=1)
            return found
        with self.accelerator.autocast():
            logprobs, entropies, hidden_states = completion_logprobs(
                model, input_ids, attention_mask, logits_to_keep, temperature=self.temperature
            )
        self._keep_hidden_states(hidden_states)
        self._unfit = ~logprobs.detach().isfinite().all(dim=1)
        return logprobs, entropies, None

    def _keep_hidden_states(self, hidden_states: torch.Tensor) -> None:
        """Told what the tokens of completions were predicted from, shape (B, T, H); most have no use for it."""

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any) -> Any:
        if self._admitted is not None:
            return self._admitted_rewards
        with self.stopwatch("reward"):
            rewards_per_func = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        if self.model.training and not self.gates:
            self._drawn = self._batch_sampler.take()
        self._leave_out_faults(rewards_per_func, len(prompts))
        if self.model.training and not self.gates:
            groups = self._groups(self._drawn, rewards_per_func)
            self.observe([group.outcome for group in groups])
            self._log_groups(groups)
        return rewards_per_func

    def _groups(self, indices: IndexArray, rewards_per_func: torch.Tensor) -> list[Group]:
        """What was just generated, of all ranks. Rewards are gathered over ranks already."""
        prompt_ids, completion_ids, completions, logprobs = self.unpack(self._generated)
        stops = self.args.generation_kwargs or {}
        end = {*self.eos_token_ids, self._tokenizer.pad_token_id, *(stops.get("stop_token_ids") or [])}
        texts = [stops["stop"]] if isinstance(stops.get("stop"), str) else stops.get("stop") or []
        truncated = [not ends(ids, end, texts, self._tokenizer) for ids in completion_ids]
        logprobs = [None] * len(prompt_ids) if logprobs is None else logprobs
        local = list(zip(prompt_ids, completion_ids, completions, logprobs, truncated, strict=True))
        everyone: list[tuple[Any, Any, Any, Any, bool]] = gather_object(local)
        rollouts = [Rollout(*made, rewards) for made, rewards in zip(everyone, rewards_per_func.tolist(), strict=True)]
        return make_groups(
            indices.tolist(),
            rollouts,
            version=self.rollout_version,
            reward_weights=self.reward_weights,
            prefix_tokens=self._curriculum_config.scoring_prefix_tokens,
        )

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> Any:
        if not self.model.training:
            return super()._generate_and_score_completions(inputs)
        local = len(inputs)
        if not self.gates:
            output = super()._generate_and_score_completions(inputs)
            return self._with_indices(output, np.repeat(self._drawn, self.num_generations), local)
        groups = self._collect_admitted(inputs)
        everyone = [(group.outcome.index, rollout) for group in groups for rollout in group.rollouts]
        rewards = [rollout.rewards for _, rollout in everyone]
        self._admitted_rewards = torch.tensor(rewards, device=self.accelerator.device)
        mine = everyone[self.accelerator.process_index * local :][:local]
        self._admitted = [rollout for _, rollout in mine]
        try:
            output = super()._generate_and_score_completions(self._rows([index for index, _ in mine]))
        finally:
            self._admitted = None
        return self._with_indices(output, np.array([index for index, _ in everyone]), local)

    def _collect_admitted(self, inputs: list[dict[str, Any]]) -> list[Group]:
        """Roll out the batch, and new prompts for the groups the gates drop; the same groups on every rank."""
        batch_size, size = self.curriculum.batch_size, self.num_generations
        rank, processes = self.accelerator.process_index, self.accelerator.num_processes
        self._drawn = self._batch_sampler.take()
        seen: list[Group] = []
        dropped: Counter[str] = Counter()
        for refills_left in range(self._curriculum_config.gate_max_refills, -1, -1):
            prompts, self._rolled_out = [row["prompt"] for row in inputs], inputs
            _, completion_ids, completions, _ = self.unpack(self._generate(prompts))
            rewards = self._calculate_rewards(inputs, prompts, completions, completion_ids)
            judged, counts = judge(self._groups(self._drawn, rewards), self.gates)
            self.observe([group.outcome for group in judged])
            seen += judged
            dropped.update(counts)
            missing = batch_size - sum(group.outcome.admitted for group in seen)
            refill = refill_size(missing, self.curriculum, size, processes) if missing > 0 and refills_left else 0
            if refill <= 0:
                break
            self._drawn = self.curriculum.draw(refill)
            share = refill * size // processes
            inputs = self._rows(np.repeat(self._drawn, size)[rank * share :][:share])
        if missing > 0 and self._curriculum_config.gate_if_short == "error":
            raise EdcoRLError(
                f"At optimizer step {self.state.global_step} the gates {', '.join(self.gates)} have admitted "
                f"{batch_size - missing} of {batch_size} groups after {self._curriculum_config.gate_max_refills} "
                "refills, and gate_if_short is error. Raise gate_max_refills, or let dropped groups fill the batch."
            )
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
            metrics["curriculum/groups_with_signal"].append(float(np.mean([has_signal(g.outcome) for g in groups])))
            if trained is not None:
                signal = float(np.mean([has_signal(g.outcome) for g in trained]))
                metrics["curriculum/groups_with_signal_trained"].append(signal)
        rewards = np.array([rollout.rewards for group in groups for rollout in group.rollouts])
        for index, function in enumerate(self.reward_funcs):
            judged = rewards[~np.isnan(rewards[:, index]), index]
            if getattr(function, "is_accuracy", False) and len(judged):
                metrics["accuracy"].append(float((judged >= 1.0).mean()))

    def _save_of_rank(self, folder: Path) -> None:
        super()._save_of_rank(folder)
        if self._batch_sampler.uses_left:
            torch.save(self._buffered_inputs, self._rollouts_file(folder))

    def _load_curriculum(self, folder: str | Path) -> None:
        super()._load_curriculum(folder)
        left, device = self._batch_sampler.uses_left, self.accelerator.device
        self._step = self._batch_sampler.repeat_count - left if left else 0  # of the current generation batch
        path = self._rollouts_file(Path(folder))
        with reading(str(folder), f"rollouts ({path.name})"):
            self._buffered_inputs = torch.load(path, map_location=device, weights_only=True) if left else None

    def _rollouts_file(self, folder: Path) -> Path:
        """Where this rank keeps the rollouts of a generation batch that is not used up yet."""
        return folder / f"rollouts_{self.accelerator.process_index}.pt"
