"""The model being trained as a source of log-probabilities, where there is no engine."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from trl.trainer.utils import pad

from ..engine.completion import Completion


class ModelGenerator:
    """Continues prompts with a transformers model, in evaluation mode and without touching its random state.

    Args:
        model (`PreTrainedModel` or `PeftModel`):
            The unwrapped model.
        pad_token_id (`int`):
            Padding token.
        eos_token_ids (`Sequence[int]`):
            Tokens that end a completion.
        batch_size (`int`, *optional*, defaults to `32`):
            Prompts in one forward pass.
    """

    def __init__(self, model: Any, pad_token_id: int, eos_token_ids: Sequence[int], batch_size: int = 32) -> None:
        self.model = model
        self.pad_token_id = pad_token_id
        self.eos_token_ids = list(eos_token_ids)
        self.batch_size = batch_size

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        max_tokens: int,
        n: int = 1,
        temperature: float = 1.0,
        top_logprobs: int = 0,
    ) -> list[list[Completion]]:
        """Continue each prompt `n` times: see [`~edco_rl.engine.completion.Generator.generate`]."""
        was_training = self.model.training
        self.model.eval()
        flat: list[Completion] = []
        repeated = [prompt for prompt in prompts for _ in range(n)]
        devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
        try:
            with torch.random.fork_rng(devices=devices), torch.no_grad():
                for start in range(0, len(repeated), self.batch_size):
                    flat += self._generate_batch(
                        repeated[start : start + self.batch_size], max_tokens, temperature, top_logprobs
                    )
        finally:
            self.model.train(was_training)
        return [flat[i : i + n] for i in range(0, len(flat), n)]

    def _generate_batch(
        self, prompts: Sequence[Sequence[int]], max_tokens: int, temperature: float, top_logprobs: int
    ) -> list[Completion]:
        tensors = [torch.tensor(prompt) for prompt in prompts]
        ids = pad(tensors, padding_value=self.pad_token_id, padding_side="left").to(self.model.device)
        mask = pad([torch.ones_like(t) for t in tensors], padding_value=0, padding_side="left").to(self.model.device)
        sampling: dict[str, Any] = {"do_sample": False} if temperature == 0 else {"temperature": temperature}
        output = self.model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=max_tokens,
            pad_token_id=self.pad_token_id,
            eos_token_id=self.eos_token_ids,
            output_logits=True,
            return_dict_in_generate=True,
            disable_compile=True,
            **({"do_sample": True, "top_k": 0, "top_p": 1.0} | sampling),
        )
        generated = output.sequences[:, ids.shape[1] :]
        logits = torch.stack(output.logits, dim=1).float() / (temperature or 1.0)
        logprobs = logits.log_softmax(-1)
        sampled = logprobs.gather(-1, generated.unsqueeze(-1)).squeeze(-1)
        top = logprobs.topk(top_logprobs, dim=-1).values if top_logprobs else logprobs[..., :0]
        return [
            self._to_completion(tokens, s, t)
            for tokens, s, t in zip(generated.tolist(), sampled.cpu().numpy(), top.cpu().numpy(), strict=True)
        ]

    def _to_completion(self, tokens: list[int], sampled: np.ndarray, top: np.ndarray) -> Completion:
        end = next((i for i, token in enumerate(tokens) if token in self.eos_token_ids), None)
        length = len(tokens) if end is None else end + 1
        return Completion(
            tokens[:length], sampled[:length].astype(np.float64), top[:length].astype(np.float64), end is not None
        )
