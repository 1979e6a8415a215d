"""A transformers model as a backend: the model being trained, where there is no engine."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)
from trl.trainer.utils import pad, selective_log_softmax

from ..errors import ConfigurationError
from .protocol import Completion, Sampling

# Instead of the model's own generation settings.
_NEUTRAL: dict[str, Any] = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": None, "repetition_penalty": 1.0}
# Rows of full-vocabulary logits in one forward pass over given completions: 200 MB for 50,000 tokens in float32.
_LOGITS_ROWS = 1024
# Tokens that are generated with at a time, where the prompts of a batch are shorter than that.
_TOKENS = 8192


class TransformersBackend:
    """Log-probabilities from a transformers model, in evaluation mode and without touching its random state.

    Args:
        model (`PreTrainedModel` or `PeftModel`):
            The unwrapped model.
        pad_token_id (`int`):
            Padding token.
        eos_token_ids (`Sequence[int]`):
            Tokens that end a completion.
        batch_size (`int`, *optional*, defaults to `32`):
            Prompts in one forward pass; more where they are short.
    """

    requests_in_flight = 1

    def __init__(self, model: Any, pad_token_id: int, eos_token_ids: Sequence[int], batch_size: int = 32) -> None:
        self.model = model
        self.pad_token_id = pad_token_id
        self.eos_token_ids = list(eos_token_ids)
        self.batch_size = batch_size
        self._random_state: list[torch.Tensor] | None = None

    @classmethod
    def of(cls, model: Any, tokenizer: Any) -> Self:
        """A backend of a loaded model. Completions end where model or tokenizer say, as vLLM's and TRL's do."""
        own = model.generation_config.eos_token_id
        ends = {tokenizer.eos_token_id, *(own if isinstance(own, list) else [own])} - {None}
        padding = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        return cls(model, padding, sorted(ends))

    def generate(self, prompts: Sequence[Sequence[int]], sampling: Sampling) -> list[list[Completion]]:
        """Continue each prompt: see [`~edco_rl.engine.GenerationBackend.generate`].

        Raises:
            ConfigurationError: The sampling has something that only vLLM does.
        """
        _check_supported(sampling)
        repeated = [prompt for prompt in prompts for _ in range(sampling.n)]
        found: dict[int, Completion] = {}
        # Prompts of like length together: less padding.
        order = sorted(range(len(repeated)), key=lambda row: len(repeated[row]))
        with self._evaluating(), self._own_randomness():
            while order:
                longest = len(repeated[order[-1]]) + sampling.max_tokens
                rows = sorted(order[-max(self.batch_size, _TOKENS // longest) :])
                del order[-len(rows) :]
                found |= zip(rows, self._generate_batch([repeated[row] for row in rows], sampling), strict=True)
        return [[found[i + n] for n in range(sampling.n)] for i in range(0, len(repeated), sampling.n)]

    def read(
        self, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]], top_logprobs: int = 0
    ) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """Log-probabilities of given completions: see [`~edco_rl.engine.GenerationBackend.read`]."""
        # Rows of like length together: less padding. The order is undone at the end.
        order = sorted(range(len(prompts)), key=lambda row: (len(completions[row]), len(prompts[row])))
        found: dict[int, tuple[NDArray[np.float64], NDArray[np.float64]]] = {}
        with self._evaluating():
            while order:
                longest = len(completions[order[-1]])
                rows = order[-min(self.batch_size, max(1, _LOGITS_ROWS // longest)) :]
                del order[-len(rows) :]
                sequences = [[*prompts[row], *completions[row]] for row in rows]
                ids, mask = self._left_padded(sequences)
                positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
                logits = self.model(
                    input_ids=ids, attention_mask=mask, position_ids=positions, logits_to_keep=longest + 1
                ).logits[:, :-1]
                logits = logits.float()
                own = selective_log_softmax(logits, ids[:, -longest:]).double().cpu().numpy()
                largest = logits.topk(top_logprobs).values - logits.logsumexp(-1, keepdim=True)
                top = largest.double().cpu().numpy()
                for number, row in enumerate(rows):
                    kept = slice(longest - len(completions[row]), None)
                    found[row] = own[number, kept], top[number, kept]
        return [found[row] for row in range(len(prompts))]

    def hidden_states(self, prompts: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """The last hidden state of each prompt, at its last token, shape (len(prompts), H)."""
        causal_model = self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model
        found = np.empty((len(prompts), self.model.config.get_text_config().hidden_size), dtype=np.float32)
        order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))  # less padding
        with self._evaluating():
            for start in range(0, len(order), self.batch_size):
                rows = order[start : start + self.batch_size]
                ids, mask = self._left_padded([prompts[row] for row in rows])
                positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
                output = causal_model.base_model(
                    input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False
                )
                found[rows] = output.last_hidden_state[:, -1].float().cpu().numpy()
        return found

    def weight_version(self) -> str:
        return "unknown"

    def max_model_len(self) -> int | None:
        return None

    def reset_prefix_cache(self) -> None:
        """Nothing is kept from one call to the next."""

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        was_training = self.model.training
        self.model.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            self.model.train(was_training)

    @contextmanager
    def _own_randomness(self) -> Iterator[None]:
        """Samples differ from call to call, and the process's random state stays as it was."""
        devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
        with torch.random.fork_rng(devices=devices):
            if self._random_state is not None:
                torch.set_rng_state(self._random_state[0])
                for device, state in zip(devices, self._random_state[1:], strict=True):
                    torch.cuda.set_rng_state(state, device)
            yield
            self._random_state = [torch.get_rng_state(), *map(torch.cuda.get_rng_state, devices)]

    def _left_padded(self, sequences: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        tensors = [torch.tensor(sequence) for sequence in sequences]
        ids = pad(tensors, padding_value=self.pad_token_id, padding_side="left")
        mask = pad([torch.ones_like(t) for t in tensors], padding_value=0, padding_side="left")
        return ids.to(self.model.device), mask.to(self.model.device)

    def _generate_batch(self, prompts: Sequence[Sequence[int]], sampling: Sampling) -> list[Completion]:
        ids, mask = self._left_padded(prompts)
        recorder, processors = _LogprobRecorder(sampling), _processors(sampling, mask)
        sequences = self.model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=sampling.max_tokens,
            pad_token_id=self.pad_token_id,
            eos_token_id=self.eos_token_ids,
            # transformers would apply its own after the recorder: they are all given here, in vLLM's order.
            logits_processor=LogitsProcessorList(
                [recorder, *processors] if sampling.model_logprobs else [*processors, recorder]
            ),
            disable_compile=True,
            **_NEUTRAL,
            do_sample=sampling.temperature > 0,
        )
        generated = sequences[:, ids.shape[1] :]
        sampled, top = recorder.finish(generated[:, -1])
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


def _check_supported(sampling: Sampling) -> None:
    if sampling.extra:
        raise ConfigurationError(f"{min(sampling.extra)}: transformers does not sample with it; use an engine.")


def _processors(sampling: Sampling, mask: torch.Tensor) -> list[LogitsProcessor]:
    """Logits processors that make the distribution sampled from, in vLLM's order."""
    processors: list[LogitsProcessor] = []
    if sampling.repetition_penalty != 1 or sampling.presence_penalty or sampling.frequency_penalty:
        processors.append(_Penalties(sampling, mask))
    if sampling.temperature == 0:
        return processors
    if sampling.temperature != 1.0:
        processors.append(TemperatureLogitsWarper(sampling.temperature))
    if sampling.min_p:
        processors.append(MinPLogitsWarper(sampling.min_p))
    if sampling.top_k > 0:
        processors.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        processors.append(TopPLogitsWarper(sampling.top_p))
    return processors


class _Penalties(LogitsProcessor):
    """Penalises tokens that were there before, as vLLM does.

    transformers has no penalty of generated tokens alone, and its own for repetition counts the padding.
    """

    def __init__(self, sampling: Sampling, prompt_mask: torch.Tensor) -> None:
        self.sampling = sampling
        self.prompt_mask = prompt_mask

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        width, factor = self.prompt_mask.shape[1], self.sampling.repetition_penalty
        nothing = torch.zeros_like(scores, dtype=input_ids.dtype)
        in_prompt = nothing.scatter_add(1, input_ids[:, :width], self.prompt_mask)
        generated = nothing.scatter_add(1, input_ids[:, width:], torch.ones_like(input_ids[:, width:]))
        repeated = torch.where(scores > 0, scores / factor, scores * factor)
        scores = torch.where(in_prompt + generated > 0, repeated, scores)
        return scores - self.sampling.frequency_penalty * generated - self.sampling.presence_penalty * (generated > 0)


class _LogprobRecorder(LogitsProcessor):
    """Keeps what is wanted of each step's distribution, so that full logits of only one step are held."""

    def __init__(self, sampling: Sampling) -> None:
        self.top_logprobs = sampling.top_logprobs
        self.token_ids = None if sampling.logprob_token_ids is None else list(sampling.logprob_token_ids)
        self._last: torch.Tensor | None = None
        self._sampled: list[torch.Tensor] = []
        self._top: list[torch.Tensor] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self._record_sampled(input_ids[:, -1])
        self._last = scores.float().log_softmax(-1)
        if self.token_ids is not None:
            self._top.append(self._last[:, self.token_ids])
        else:
            self._top.append(self._last.topk(self.top_logprobs, dim=-1).values)
        return scores

    def _record_sampled(self, tokens: torch.Tensor) -> None:
        if self._last is not None:
            self._sampled.append(self._last.gather(-1, tokens.unsqueeze(-1)).squeeze(-1))

    def finish(self, last_tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probabilities of the sampled tokens, shape (B, T), and those wanted at each position, (B, T, k)."""
        self._record_sampled(last_tokens)
        return torch.stack(self._sampled, dim=1), torch.stack(self._top, dim=1)
