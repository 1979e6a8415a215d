"""PPO with a curriculum."""

from contextlib import nullcontext
from typing import Any, ClassVar

import torch
from accelerate.utils import gather_object
from trl.models.utils import disable_gradient_checkpointing
from trl.trainer.utils import get_config_model_id, use_adapter

from ..errors import ConfigurationError
from ..models import check_model_path
from .callbacks import ValueFunctionCallback
from .find_checkpoint import reading
from .grpo import CurriculumGRPOTrainer
from .ppo_config import CurriculumPPOConfig
from .ppo_functions import (
    explained_variance,
    generalized_advantages,
    masked_moments,
    policy_mask,
    root_mean_square,
    sequences,
    token_rewards,
    value_losses,
    whiten,
    whitening_scale,
)
from .value_function import ValueFunction, ValueHead, last_hidden_states, make_value_function


class CurriculumPPOTrainer(CurriculumGRPOTrainer):
    """Proximal policy optimization (Schulman et al. 2017, arXiv 1707.06347) with a curriculum.

    TRL's `GRPOTrainer` with a value function in place of the group: advantages are generalized advantage estimates of
    each token, and the value function is trained beside the policy. Generation, rewards, the clipped objective and
    everything of the curriculum are those of [`CurriculumGRPOTrainer`].

    `save_model` and checkpoints write the policy as usual, and beside it `value_head.arrays` or the folder
    `value_model`.

    Args:
        model, reward_funcs, train_dataset, *args, **kwargs:
            As in [`CurriculumGRPOTrainer`].
        args ([`CurriculumPPOConfig`], *optional*):
            Settings.

    Raises:
        ConfigurationError: A bad row, setting or combination; raised before a model is loaded where possible.

    Example:

    ```python
    >>> from edco_rl import CurriculumPPOTrainer, EngineConfig, CurriculumPPOConfig
    >>> trainer = CurriculumPPOTrainer(
    ...     model="Qwen/Qwen3-0.6B",
    ...     reward_funcs=accuracy_reward,
    ...     args=CurriculumPPOConfig(value_warmup_steps=10),
    ...     train_dataset=dataset,
    ...     curriculum="edco",
    ...     engine=EngineConfig(),
    ... )
    >>> trainer.train()
    ```
    """

    _tag_names: ClassVar[list[str]] = ["trl", "ppo", "edco-rl"]
    _name = "PPO"
    _paper: ClassVar[dict[str, str]] = {
        "title": "Proximal Policy Optimization Algorithms",
        "id": "1707.06347",
        "citation": "@article{schulman2017proximal, title={{Proximal Policy Optimization Algorithms}}, "
        "author={John Schulman and Filip Wolski and Prafulla Dhariwal and Alec Radford and Oleg Klimov}, "
        "year=2017, eprint={arXiv:1707.06347}}",
    }

    args: CurriculumPPOConfig
    value_function: ValueFunction

    def __init__(
        self,
        model: Any,
        reward_funcs: Any = None,
        args: CurriculumPPOConfig | None = None,
        train_dataset: Any = None,
        *positional: Any,
        **kwargs: Any,
    ) -> None:
        if args is None:
            name = model if isinstance(model, str) else get_config_model_id(model.config)
            args = CurriculumPPOConfig(f"{name.split('/')[-1]}-PPO")
        if not isinstance(args, CurriculumPPOConfig):
            raise ConfigurationError(
                f"{type(self).__name__} takes a CurriculumPPOConfig as args; got {type(args).__name__}."
            )
        if args.value_model_name_or_path is not None:
            check_model_path(args.value_model_name_or_path, "value_model_name_or_path")
        args.beta = args.kl_coef  # TRL then makes the reference model
        try:
            super().__init__(model, reward_funcs, args, train_dataset, *positional, **kwargs)
        finally:
            args.beta = 0.0
        self.beta = 0.0  # the penalty is in the reward, not in the loss
        self._hidden_states: torch.Tensor | None = None
        self._value_batches: list[tuple[torch.Tensor, ...]] = []
        try:
            self.value_function = self._make_value_function()
        except BaseException:
            self.close()
            raise
        # Several processes average the gradients of each module in its own wrapper.
        self._value_function_wrapped = self.accelerator.prepare_model(self.value_function)
        self.add_callback(ValueFunctionCallback(self))

    def _make_value_function(self) -> ValueFunction:
        if self._is_vlm:
            raise ConfigurationError("PPO takes text-only models.")
        if self.is_deepspeed_enabled or self.is_fsdp_enabled:
            raise ConfigurationError(
                "PPO trains a value function beside the policy, which DeepSpeed and FSDP do not shard: launch it with "
                "one process, or several without them (DDP)."
            )
        return make_value_function(self.args, self.model)

    def _trained_modules(self) -> list[torch.nn.Module]:
        return [self.model, self.value_function]

    @property
    def _warms_up(self) -> bool:
        return self.model.training and self.state.global_step < self.args.value_warmup_steps

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        optimizer = super().create_optimizer(model)
        parameters = list(self.value_function.parameters())
        known = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        if id(parameters[0]) not in known:
            rate = self.args.value_learning_rate
            if rate is None:
                rate = self.value_function.learning_rate or self.args.learning_rate
            optimizer.add_param_group({"params": parameters, "lr": rate, "weight_decay": 0.0})
        return optimizer

    def _calculate_rewards(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        self._rewards_per_func = super()._calculate_rewards(*args, **kwargs)
        return self._rewards_per_func

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        logits_to_keep: int,
        *args: Any,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        with last_hidden_states(self.accelerator.unwrap_model(model)) as collected:
            output = super()._get_per_token_logps_and_entropies(
                model, input_ids, attention_mask, logits_to_keep, *args, **kwargs
            )
        if not self.share_prompts:
            self._keep_hidden_states(torch.cat(collected)[:, -logits_to_keep - 1 : -1])
        self._logprobs = output[0].detach()
        return output

    def _keep_hidden_states(self, hidden_states: torch.Tensor) -> None:
        self._hidden_states = hidden_states

    def _values(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, completion_length: int) -> torch.Tensor:
        """Values of shape (B, T). Those of a value head are of the policy's latest forward pass."""
        hidden_states, self._hidden_states = self._hidden_states, None
        if isinstance(self.value_function, ValueHead):
            return self._value_function_wrapped(hidden_states)
        return self._value_function_wrapped(input_ids, attention_mask, completion_length)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        output = super()._generate_and_score_completions(inputs)
        mode = "train" if self.model.training else "eval"
        self._metrics[mode].pop("frac_reward_zero_std", None)  # of a group
        rewards_per_func = self._rewards_per_func.split(len(inputs))[self.accelerator.process_index]
        unscored = rewards_per_func.isnan().all(dim=1)
        output["completion_mask"] = output["completion_mask"] * (~unscored).unsqueeze(1)
        mask = policy_mask(output)
        output["num_items_in_batch"] = self.accelerator.gather(mask.sum()).sum()
        scores = (rewards_per_func * self.reward_weights.to(rewards_per_func.device)).nansum(dim=1)
        with torch.no_grad(), disable_gradient_checkpointing(self.model, self.args.gradient_checkpointing_kwargs):
            self._estimate_advantages(output, scores, mask, mode)
        return output

    def _estimate_advantages(
        self, output: dict[str, Any], scores: torch.Tensor, mask: torch.Tensor, mode: str
    ) -> None:
        """Replace TRL's advantages in a generation batch by those of each token, and add what the losses need."""
        input_ids, attention_mask, length = sequences(output)
        batch_size = self.args.per_device_train_batch_size if mode == "train" else self.args.per_device_eval_batch_size
        if "old_per_token_logps" not in output:  # where TRL has needed them, its forward pass gives the values too
            output["old_per_token_logps"], _, _ = self._get_per_token_logps_and_entropies(
                self.model, input_ids, attention_mask, length, batch_size
            )
        values = self._values(input_ids, attention_mask, length)
        metrics = self._metrics[mode]
        penalties = None
        if self.args.kl_coef != 0.0:
            reference = self._reference_logprobs(input_ids, attention_mask, length, batch_size)
            divergence = output["old_per_token_logps"] - reference
            penalties = self.args.kl_coef * divergence
            metrics["kl"].append(self._mean(divergence, mask))
        rewards = token_rewards(scores, mask, penalties)
        unit = token_rewards(torch.ones_like(scores), mask)  # what a reward of 1 is here
        if self.args.whiten_rewards:
            floor = self.args.whiten_floor * root_mean_square(unit, mask, self._sum)
            unit = unit * whitening_scale(rewards, mask, floor, self._sum)
            rewards = whiten(rewards, mask, shift_mean=False, floor=floor, reduce=self._sum)
        decay = {"gamma": self.args.gamma, "lam": self.args.lam}
        advantages = generalized_advantages(rewards, values, mask, **decay)
        returns = advantages + values
        metrics["explained_variance"].append(explained_variance(values, returns, mask, self._sum))
        metrics["value_mean"].append(self._mean(values, mask))
        metrics["return_mean"].append(self._mean(returns, mask))
        if self.args.whiten_advantages:
            unit = generalized_advantages(unit, torch.zeros_like(values), mask, **decay)
            floor = self.args.whiten_floor * root_mean_square(unit, mask, self._sum)
            advantages = whiten(advantages, mask, floor=floor, reduce=self._sum)
        output |= {"advantages": advantages, "values": values, "returns": returns}
        self._log_advantages((advantages.sum(1) / mask.sum(1).clamp(min=1)).tolist())

    def _log_advantages(self, local: list[float]) -> None:
        """Mean advantage of each completion, in place of TRL's in the table of completions."""
        means = gather_object(local)
        for _ in means:
            self._logs["advantages"].pop()
        self._logs["advantages"].extend(means)

    def _reference_logprobs(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, length: int, batch_size: int
    ) -> torch.Tensor:
        """Log-probabilities under the initial policy: the reference model, or the model without its new adapter."""
        if self.ref_model is not None:
            model, initial = self.ref_model, nullcontext()
        else:
            model = self.accelerator.unwrap_model(self.model)
            initial = use_adapter(model, "ref" if "ref" in model.peft_config else None)
        with initial:
            return self._get_per_token_logps_and_entropies(model, input_ids, attention_mask, length, batch_size)[0]

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        mode = "train" if self.model.training else "eval"
        with torch.no_grad() if self._warms_up else nullcontext():
            policy_loss = super()._compute_loss(model, inputs)
        logprobs = self._logprobs
        mask = policy_mask(inputs)
        if mode == "train" and self.args.num_value_epochs > 1 and self._hidden_states is not None:
            self._value_batches.append((self._hidden_states.detach(), inputs["values"], inputs["returns"], mask))
        values = self._values(*sequences(inputs))
        losses, clipped = value_losses(values, inputs["values"], inputs["returns"], self.args.cliprange_value)
        # The mean over the tokens of an optimizer step, on all processes: TRL's own normalizer.
        tokens = inputs["num_items_in_batch"].clamp(min=1.0) / self.accelerator.num_processes
        accumulated = self.current_gradient_accumulation_steps if mode == "train" else 1
        if mode == "train":
            tokens = tokens * accumulated / self.args.steps_per_generation
        metrics = self._metrics[mode]
        if not self._entropy_bonus_enabled:  # with it, TRL logs the policy's loss
            metrics["policy_loss"].append(self.accelerator.gather(policy_loss.detach() * accumulated).mean().item())
        metrics["value_loss"].append(self._mean(losses, mask))
        metrics["value_clip_ratio"].append(self._mean(clipped.float(), mask))
        log_ratio = logprobs - inputs["old_per_token_logps"]
        metrics["approx_kl"].append(self._mean(log_ratio.exp() - 1 - log_ratio, mask))
        return policy_loss + self.args.vf_coef * (losses * mask).sum() / tokens

    def repeat_value_steps(self) -> None:
        """Take the further steps of `num_value_epochs` on the optimizer step just done; the policy stays as it is."""
        batches, self._value_batches = self._value_batches, []
        for _ in range(0 if self.step_skipped else self.args.num_value_epochs - 1):
            tokens = self._sum(torch.stack([mask.sum() for *_, mask in batches]).sum()).clamp(min=1.0)
            for hidden_states, old_values, returns, mask in batches:
                values = self._value_function_wrapped(hidden_states)
                losses, _ = value_losses(values, old_values, returns, self.args.cliprange_value)
                loss = (losses * mask).sum() * self.accelerator.num_processes / tokens
                self.accelerator.backward(self.args.vf_coef * loss)
            limit = self.args.max_grad_norm or float("inf")
            if self._may_step([self.accelerator.clip_grad_norm_(self.value_function.parameters(), limit)]):
                self.optimizer.step()  # the policy's parameters have no gradients now
            self.optimizer.zero_grad()

    def _sum(self, tensor: torch.Tensor) -> torch.Tensor:
        return self.accelerator.reduce(tensor.detach(), reduction="sum")

    def _mean(self, values: torch.Tensor, mask: torch.Tensor) -> float:
        return masked_moments(values.detach(), mask, self._sum)[1].item()

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        super()._save(output_dir, state_dict)
        self.value_function.save(output_dir if output_dir is not None else self.args.output_dir)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        with reading(resume_from_checkpoint, "value function"):
            self.value_function.load(resume_from_checkpoint)

    def _load_best_model(self) -> None:
        super()._load_best_model()
        self.value_function.load(self.state.best_model_checkpoint)
