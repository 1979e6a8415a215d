from collections.abc import Iterator

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer

from edco_rl import EngineConfig
from edco_rl.data.load import load_prompts
from edco_rl.engine import Sampling
from edco_rl.engine.client import EngineClient
from edco_rl.engine.launch import reset_weights

TOLERANCE = 2e-3
"""Nats: float32 engines, as those of the tests are, agree to rounding."""


@pytest.fixture(scope="session")
def tokenizer(model_path: str):
    return AutoTokenizer.from_pretrained(model_path)


@pytest.fixture(scope="session")
def tasks() -> Dataset:
    """32 arithmetic questions as plain text."""
    rows, _ = load_prompts("reasoning_gym:chain_sum", train_prompts=32, conversational=False, seed=11)
    return rows


@pytest.fixture(scope="module")
def base_weights(server_url: str, model_path: str) -> None:
    """The shared server as it was started, whatever the tests of other files have pushed to it."""
    reset_weights(EngineConfig(engine_url=server_url, engine_transport="file"), model_path)


@pytest.fixture
def client(server_url: str, base_weights: None) -> Iterator[EngineClient]:
    client = EngineClient(server_url)
    yield client
    client.close()


@pytest.fixture
def model(model_path: str):
    """A fresh copy of the model in float32."""
    return AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32).eval()


def transformers_logprobs(model, prompt, completion):
    """Log-probabilities of a completion's tokens, and full distributions, from full logits in float64."""
    ids = torch.tensor([list(prompt) + list(completion)])
    with torch.no_grad():
        logprobs = model(ids.to(model.device)).logits[0].double().log_softmax(-1)
    rows = logprobs[len(prompt) - 1 : -1]
    return rows[torch.arange(len(completion)), torch.tensor(completion)].numpy(), rows.numpy()


def largest_difference(client, model, prompts):
    """Largest difference in nats between the engine's log-probabilities of its greedy answers and transformers'."""
    groups = client.generate(prompts, Sampling(4, temperature=0.0))
    return max(
        np.abs(group[0].logprobs - transformers_logprobs(model, prompt, group[0].token_ids)[0]).max()
        for prompt, group in zip(prompts, groups, strict=True)
    )
