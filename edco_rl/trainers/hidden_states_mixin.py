"""How a trainer lets a strategy look into the policy: its hidden state at the end of prompts."""

from collections.abc import Sequence

import numpy as np
from accelerate.utils import gather_object
from trl.distributed import DistributedBackend

from ..engine.transformers_backend import TransformersBackend
from ..errors import ConfigurationError
from .engine_mixin import lora_config
from .scoring_mixin import ScoringMixin
from .stopwatch import Stopwatch

_OFF = "Set hidden_state to false in strategy_kwargs, or"


class HiddenStatesMixin(ScoringMixin):
    """Gives a strategy that asks for them hidden states of the policy; none where it asks for none.

    The trainer computes them, as no engine returns them: a forward pass over the prompts without the LM head, by the
    weights at a renewal, shared out among processes.
    """

    stopwatch: Stopwatch

    def _check_hidden_states(self) -> None:
        """Refuse a strategy that asks for hidden states of a policy that has none to give.

        Raises:
            ConfigurationError: It says why, and what to do.
        """
        if not self.curriculum.strategy.needs_hidden_states:
            return
        weights, adapter = DistributedBackend(self.accelerator), lora_config(self.model)
        asked = f"strategy {self.curriculum.strategy_name!r} looks into the policy (hidden_state)"
        if weights.is_fsdp or weights.is_zero3:
            raise ConfigurationError(
                f"{asked}, and FSDP and ZeRO-3 leave each process a part of it. {_OFF} launch the run with DDP or "
                "ZeRO-2."
            )
        if adapter is not None and adapter.is_prompt_learning:
            raise ConfigurationError(
                f"{asked} as it reads a prompt, and {adapter.peft_type.value} puts what it learns before that. {_OFF} "
                "train a LoRA adapter, or all weights."
            )

    def observe_hidden_states(self, scored: Sequence[int]) -> None:
        """Give the strategy the hidden states it wants. The same on every rank.

        A prompt whose hidden state is not finite goes into quarantine.

        Args:
            scored (`Sequence[int]`):
                The prompts that were scored for this renewal.
        """
        pool, strategy = self.curriculum.pool, self.curriculum.strategy
        prompts = strategy.wants_hidden_states(np.unique(np.array(scored, dtype=np.int64)))
        if not len(prompts):
            return
        rank, processes = self.accelerator.process_index, self.accelerator.num_processes
        with self.stopwatch("scoring"):
            rows = self._scored_rows.select(prompts[rank::processes]).to_list()
            policy = TransformersBackend.of(self.accelerator.unwrap_model(self.model), self._tokenizer)
            parts = gather_object([policy.hidden_states(self.row_tokenizer.trained_prompts(rows))])
        states = np.empty((len(prompts), parts[0].shape[1]), dtype=np.float32)
        for number, part in enumerate(parts):
            states[number::processes] = part
        finite = np.isfinite(states).all(axis=1)
        wrong = prompts[~finite].tolist()
        self.quarantine([(index, f"The hidden state of prompt {pool.ids[index]!r} is not finite.") for index in wrong])
        self.curriculum.observe_hidden_states(prompts[finite], states[finite])
