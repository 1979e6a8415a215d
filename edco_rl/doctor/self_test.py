"""An engine is started, scores prompts, is given other weights and read back: everything against transformers."""

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from ..config import EngineConfig, EstimatorConfig
from ..data.tokens import RowTokenizer
from ..engine.hardware import has_cuda
from ..engine.launch import open_engine
from ..engine.transformers_backend import TransformersBackend
from ..scoring import RowScorer
from .finding import Finding

TOLERANCE = 0.1
"""Nats by which two engines' log-probabilities may differ on average: bfloat16 alone makes a few hundredths."""

_TEXTS = [" ".join(str(start + step * number) for number in range(12)) for start in (1, 2, 30) for step in (1, 3)]
_WORDS = 510
FloatArray = NDArray[np.float64]


def make_model(folder: Path) -> str:
    """Save a Llama of two layers and random weights, with a tokenizer of numbers; it needs no download.

    Args:
        folder (`Path`):
            An empty folder.

    Returns:
        `str`: the folder.
    """
    words = {word: number for number, word in enumerate(["<unknown>", "<end>", *map(str, range(_WORDS))])}
    tokenizer = Tokenizer(WordLevel(words, unk_token="<unknown>"))
    tokenizer.pre_tokenizer = Whitespace()
    special = {"unk_token": "<unknown>", "eos_token": "<end>", "pad_token": "<end>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=1,
        initializer_range=0.2,  # so large that the model is sure of what it says
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(config)
    model.to(torch.bfloat16 if has_cuda() else torch.float32).save_pretrained(folder)
    return str(folder)


def self_test(config: EngineConfig, model: str, seconds: float, log_path: Path) -> Iterator[Finding]:
    """Test an engine with a model.

    Args:
        config (`EngineConfig`):
            What is started, or where a server runs. It ends with the weights that the model has on disk.
        model (`str`):
            Model folder or hub id.
        seconds (`float`):
            What starting and each request may take, less what was taken before.
        log_path (`Path`):
            Log of a started server.

    Yields:
        `Finding`: one for each step.

    Raises:
        EdcoRLError: A step failed.
    """
    clock = _Clock(seconds)
    policy = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    reference = _Reference(policy, AutoTokenizer.from_pretrained(model))
    expected, original = reference.scores(reference.backend), reference.logprobs(reference.backend)
    limits: dict[str, Any] = {name: min(getattr(config, name), clock.left()) for name in _TIMEOUTS}
    limits["engine_max_restarts"] = 0  # an engine that fails is what is looked for
    cuda = has_cuda()
    clock.lap()
    with closing(open_engine(replace(config, **limits), model, cuda=cuda, log_path=log_path)) as connection:
        engine, transport = connection.engine, connection.transport
        assert engine is not None
        verb = "started" if config.engine_url is None else "reached"
        yield Finding("engine", "ok", f"{verb} in {clock.lap():.1f} s")
        scores = reference.scores(engine)
        yield _agrees("scoring", f"{len(scores)} prompts in {clock.lap():.1f} s", scores, expected)
        if transport.needs_cuda:
            policy.to("cuda")
        transport.connect()
        kept = {name: parameter.detach().clone() for name, parameter in policy.named_parameters()}
        _disturb(policy)
        transport.push(list(policy.named_parameters()), 1)
        engine.reset_prefix_cache()
        name = type(transport).__name__.removesuffix("Transport").lower()
        yield Finding("push", "ok", f"through {name} in {clock.lap():.1f} s, and version 1 is served")
        pushed = reference.logprobs(reference.backend)
        moved = float(np.abs(pushed - original).mean())
        read = reference.logprobs(engine)
        said = f"after weights that moved them by {moved:.2f} nats"
        # Log-probabilities of disturbed weights are large, and so is what bfloat16 makes of them.
        yield _agrees("read back", said, read, pushed, max(TOLERANCE, moved / 10))
        if engine.outlives_trainer:
            transport.push(list(kept.items()), 0)
            engine.reset_prefix_cache()
            yield _agrees("restored", "the weights on disk", reference.logprobs(engine), original)
    took = clock.total()
    late = took > seconds
    advice = "a slow start is often vLLM's files being read for the first time: try again" if late else ""
    found = f"{took:.0f} s of {seconds:g}"
    yield Finding("self-test", "problem" if late else "ok", found, advice)


_TIMEOUTS = ("engine_startup_timeout", "engine_request_timeout", "engine_hang_timeout", "engine_wait_timeout")


@dataclass
class _Clock:
    limit: float

    def __post_init__(self) -> None:
        self._start = self._last = time.monotonic()

    def lap(self) -> float:
        """Seconds since the last lap."""
        now = time.monotonic()
        took, self._last = now - self._last, now
        return took

    def total(self) -> float:
        return time.monotonic() - self._start

    def left(self) -> float:
        return max(self.limit - self.total(), 1.0)


class _Reference:
    """The prompts, and what transformers makes of them with the weights the model has at the moment."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.backend = TransformersBackend.of(model, tokenizer)
        # One token: greedy continuations of more can part ways where two tokens are equally likely.
        config = EstimatorConfig(scoring_prefix_tokens=1)
        width = model.config.get_text_config().vocab_size
        self.scorer = RowScorer(RowTokenizer(tokenizer), config, vocabulary_size=width)
        self.rows = self.scorer.encode([{"prompt": text} for text in _TEXTS])
        tokens = RowTokenizer(tokenizer).prompts([{"prompt": text} for text in _TEXTS])
        self.prompts = [one[: len(one) // 2] for one in tokens]
        self.completions = [one[len(one) // 2 :] for one in tokens]

    def scores(self, backend: Any) -> FloatArray:
        return np.array([score.value for score in self.scorer.score(self.rows, backend)])

    def logprobs(self, backend: Any) -> FloatArray:
        return np.concatenate([own for own, _ in backend.read(self.prompts, self.completions)])


def _disturb(model: Any) -> None:
    """Other weights of the same kind: all matrices with noise of half their size."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                noise = torch.randn(parameter.shape, generator=generator).to(parameter)
                parameter.mul_(1 + noise / 2)


def _agrees(what: str, found: str, values: FloatArray, expected: FloatArray, tolerance: float = TOLERANCE) -> Finding:
    difference = float(np.abs(values - expected).mean())
    said = f"{found}; {difference:.4f} nats from what transformers computes"
    if difference <= tolerance:  # false for NaN
        return Finding(what, "ok", said)
    return Finding(
        what, "problem", said, "the engine computes something else: compare the versions above with those tested"
    )
