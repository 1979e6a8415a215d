"""Settings of PPO."""

from dataclasses import dataclass, field
from typing import Literal

from trl import GRPOConfig

from ..config.ranges import Count, NotNegative, Positive, Share, Text, Whole
from ..declarations import check_declared
from ..errors import ConfigurationError

# They differ in how tokens are averaged; TRL's others replace the clipped objective.
_LOSS_TYPES = ("grpo", "bnpo", "dr_grpo", "dapo")


@dataclass
class CurriculumPPOConfig(GRPOConfig):
    r"""Settings of [`CurriculumPPOTrainer`]: TRL's `GRPOConfig`, and what PPO has beyond it.

    Names are those of TRL's former `PPOConfig`. Every other field of `GRPOConfig` keeps its meaning, apart from those
    of group-relative advantages (`beta`, `scale_rewards`, `multi_objective_aggregation`), which are refused.
    """

    num_generations: int | None = field(
        default=1, metadata={"help": "Completions a prompt in a generation batch. PPO needs no group: 1 is enough."}
    )
    scale_rewards: Literal["none", False] = field(
        default="none", metadata={"help": "Not of PPO: its advantages are not relative to a group. Only none."}
    )
    num_ppo_epochs: Count | None = field(
        default=None,
        metadata={"help": "Passes of the optimizer over a generation batch: another name of num_iterations."},
    )
    cliprange: Positive | None = field(
        default=None, metadata={"help": "Clip range of the policy's probability ratio: another name of epsilon."}
    )
    gamma: Share = field(default=1.0, metadata={"help": "Discount a token."})
    lam: Share = field(default=0.95, metadata={"help": "Lambda of generalized advantage estimation."})
    vf_coef: NotNegative = field(default=0.1, metadata={"help": "Weight of the value loss."})
    cliprange_value: NotNegative = field(
        default=0.2, metadata={"help": "How far a value can move from its value at the rollout."}
    )
    kl_coef: NotNegative = field(
        default=0.0,
        metadata={
            "help": "Weight of the penalty, in each token's reward, for the divergence from the initial policy. 0 "
            "loads no reference model."
        },
    )
    whiten_rewards: bool = field(
        default=False, metadata={"help": "Whether to scale rewards to variance 1 over a generation batch."}
    )
    whiten_advantages: bool = field(
        default=True,
        metadata={"help": "Whether to shift and scale advantages to mean 0 and variance 1 over a generation batch."},
    )
    whiten_floor: NotNegative = field(
        default=0.1,
        metadata={
            "help": "Smallest standard deviation of rewards, one a completion, that whitening scales up to 1: what "
            "deviates less than such rewards would is noise of the value function, and stays small. The default is "
            "that of a reward of 0 or 1 which one completion in a hundred earns. 0 scales whatever there is."
        },
    )
    value_model_name_or_path: Text | None = field(
        default=None,
        metadata={
            "help": "A separate value model, as a reward model or the policy itself. By default a value head on the "
            "policy's hidden states."
        },
    )
    value_learning_rate: NotNegative | None = field(
        default=None,
        metadata={
            "help": "Learning rate of the value function. By default learning_rate for a value model, and 0.1 for a "
            "value head: about how far a value can move in a step."
        },
    )
    num_value_epochs: Count = field(
        default=1,
        metadata={
            "help": "Steps of a value head on the tokens of each optimizer step: the first along with the policy, the "
            "others on hidden states kept from it, which costs next to nothing. A value model takes 1."
        },
    )
    value_warmup_steps: Whole = field(
        default=0, metadata={"help": "First optimizer steps that train the value function only."}
    )

    def __post_init__(self) -> None:
        check_declared(self)
        self._adopt("num_ppo_epochs", "num_iterations")
        self._adopt("cliprange", "epsilon")
        if self.num_value_epochs > 1 and self.value_model_name_or_path is not None:
            raise ConfigurationError(
                f"num_value_epochs is {self.num_value_epochs}, which a value head can do on hidden states it was "
                "given; a value model has none. Leave out value_model_name_or_path or num_value_epochs."
            )
        if self.beta != 0.0:
            raise ConfigurationError(f"beta is {self.beta}: PPO's KL penalty is part of the reward; set kl_coef.")
        if self.scale_rewards not in ("none", False):
            raise ConfigurationError(
                f"scale_rewards is {self.scale_rewards}: PPO has no group to scale by; set whiten_rewards or "
                "whiten_advantages."
            )
        if self.multi_objective_aggregation != "sum_then_normalize":
            raise ConfigurationError(
                f"multi_objective_aggregation is {self.multi_objective_aggregation}: PPO adds up weighted rewards."
            )
        if self.loss_type not in _LOSS_TYPES:
            raise ConfigurationError(
                f"loss_type is {self.loss_type}, which is not PPO's clipped objective; choose from "
                f"{', '.join(_LOSS_TYPES)}."
            )
        self._post_init_of_trl()
        if self.torch_compile:
            raise ConfigurationError(
                "torch_compile: the value function is given the policy's hidden states, which a compiled model does "
                "not hand out. Set it to false, and torch_compile_backend and torch_compile_mode to none."
            )

    def _adopt(self, name: str, target: str) -> None:
        """Give a field of `GRPOConfig` the value of its name in PPO."""
        value, current = getattr(self, name), getattr(self, target)
        if value is None:
            return
        if current not in (value, type(self).__dataclass_fields__[target].default):
            raise ConfigurationError(f"{name} is {value} and {target} is {current}: they are one setting. Set one.")
        setattr(self, target, value)

    def _post_init_of_trl(self) -> None:
        """TRL's own checks, past the one that wants groups of two or more."""
        if self.num_generations != 1:
            super().__post_init__()
            return
        # A divisor of every generation batch, which is all that TRL checks beside it.
        accumulated = self.steps_per_generation or self.gradient_accumulation_steps
        stand_in = self.generation_batch_size or self.per_device_train_batch_size * accumulated
        if stand_in < 2:
            raise ConfigurationError(
                "A generation batch has a single completion, and advantages of one cannot be whitened. Raise "
                "per_device_train_batch_size or gradient_accumulation_steps to 2 or more."
            )
        self.num_generations_eval: int = self.num_generations_eval or 1
        self.num_generations = stand_in
        try:
            super().__post_init__()
        finally:
            self.num_generations = 1
