"""Value functions: what the policy expects to earn from here on, at every token of a completion."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoConfig, AutoModelForTokenClassification

from ..errors import ConfigurationError
from ..store import ARRAYS_SUFFIX
from .ppo_config import CurriculumPPOConfig

VALUE_HEAD_FILE = f"value_head{ARRAYS_SUFFIX}"
VALUE_MODEL_FOLDER = "value_model"


class ValueFunction(nn.Module, ABC):
    """Predicts the return from each state of a completion, and keeps itself in a folder beside the policy."""

    learning_rate: ClassVar[float | None] = None
    """Its learning rate where the settings name none; `None` is the policy's."""

    @abstractmethod
    def save(self, folder: str | Path) -> None:
        """Write the weights to the policy's folder, under names that the policy's do not use."""

    @abstractmethod
    def load(self, folder: str | Path) -> None:
        """Read the weights that [`~ValueFunction.save`] wrote.

        Raises:
            ConfigurationError: The folder holds no such value function.
        """


class ValueHead(ValueFunction):
    """A linear value head on the policy's hidden states, in float32.

    A value is a bias plus the mean over hidden dimensions of weight times hidden state; hidden states are normalized
    to mean 0 and variance 1. So a step of Adam moves a value by about the learning rate whatever the size of the
    model, and the bias learns the level of the returns, rather than every weight at once, which would make values
    differ where returns do not. Weights and bias start at zero: before training every value is 0.

    Args:
        hidden_size (`int`):
            Size of the policy's hidden states.
    """

    learning_rate = 0.1

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden_size, elementwise_affine=False)
        self.linear = nn.Linear(hidden_size, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Values of shape (B, T) from hidden states of shape (B, T, H)."""
        with torch.autocast(hidden_states.device.type, enabled=False):
            return self.linear(self.norm(hidden_states.float()) / self.linear.in_features).squeeze(-1)

    def save(self, folder: str | Path) -> None:
        save_file({name: p.contiguous() for name, p in self.state_dict().items()}, Path(folder) / VALUE_HEAD_FILE)

    def load(self, folder: str | Path) -> None:
        path = Path(folder) / VALUE_HEAD_FILE
        if not path.is_file():
            raise ConfigurationError(f"{folder} has no {VALUE_HEAD_FILE}: it is not of PPO with a value head.")
        self.load_state_dict(load_file(path))


class ValueModel(ValueFunction):
    """A value model of its own: any model with a head that gives each token one number.

    A reward model (`num_labels` 1) keeps its head; a head that the model does not come with starts at zero.

    Args:
        name (`str`):
            Folder or hub id of the model.
        dtype (`torch.dtype`):
            Data type of its weights.
        trust_remote_code (`bool`, *optional*, defaults to `False`):
            Whether to run code that comes with the model.
    """

    def __init__(self, name: str, dtype: torch.dtype, trust_remote_code: bool = False) -> None:
        super().__init__()
        config = AutoConfig.from_pretrained(name, trust_remote_code=trust_remote_code, num_labels=1)
        config.classifier_dropout = 0.0  # the values of a rollout and of the loss are compared
        self.model, loaded = AutoModelForTokenClassification.from_pretrained(
            name, config=config, dtype=dtype, trust_remote_code=trust_remote_code, output_loading_info=True
        )
        backbone = f"{self.model.base_model_prefix}."
        for parameter_name in loaded["missing_keys"]:
            if parameter_name.startswith(backbone):
                raise ConfigurationError(f"value_model_name_or_path {name!r} has no weights for {parameter_name}.")
            nn.init.zeros_(self.model.get_parameter(parameter_name))

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, completion_length: int) -> torch.Tensor:
        """Values of shape (B, T) of the states before each of the last T tokens; inputs are of shape (B, P + T)."""
        values = self.model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).logits
        return values[:, -completion_length - 1 : -1, 0].float()

    def save(self, folder: str | Path) -> None:
        self.model.save_pretrained(Path(folder) / VALUE_MODEL_FOLDER)

    def load(self, folder: str | Path) -> None:
        path = Path(folder) / VALUE_MODEL_FOLDER
        if not path.is_dir():
            raise ConfigurationError(f"{folder} has no {VALUE_MODEL_FOLDER}: it is not of PPO with a value model.")
        saved = AutoModelForTokenClassification.from_pretrained(path, dtype=self.model.dtype)
        self.model.load_state_dict(saved.state_dict())


def make_value_function(args: CurriculumPPOConfig, policy: Any) -> ValueFunction:
    """The value function that settings ask for: a head on the policy's hidden states, or a model."""
    if args.value_model_name_or_path is None:
        return ValueHead(policy.config.get_text_config().hidden_size)
    value_model = ValueModel(args.value_model_name_or_path, policy.dtype, trust_remote_code=args.trust_remote_code)
    if args.gradient_checkpointing:
        value_model.model.gradient_checkpointing_enable(args.gradient_checkpointing_kwargs)
    return value_model


@contextmanager
def last_hidden_states(model: Any) -> Iterator[list[torch.Tensor]]:
    """Collect the last hidden states, of shape (B, S, H), of each forward pass of a causal model's backbone.

    Args:
        model (`PreTrainedModel` or `PeftModel`):
            The unwrapped model.
    """
    causal_model = model.get_base_model() if hasattr(model, "get_base_model") else model
    collected: list[torch.Tensor] = []
    hook = causal_model.base_model.register_forward_hook(
        lambda module, args, output: collected.append(output.last_hidden_state)
    )
    try:
        yield collected
    finally:
        hook.remove()
