"""What counts as cut off: several end tokens, and texts to stop at."""

from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import RLOOTrainer

from edco_rl import EngineConfig
from edco_rl.engine import Sampling
from edco_rl.engine.transformers_backend import TransformersBackend

from ..conftest import TINY_VOCABULARY
from ..engine.own import CopiedModel
from .support import TRAINERS, length_reward, logged, sums

STOPPING = EngineConfig(engine_mode=f"{__name__}:StoppingEngine")
STOPS = ["t", "ou"]
TURN_END = 33


class StoppingEngine(CopiedModel):
    """Stops at texts, as vLLM does; keeps what it has said of each completion."""

    @classmethod
    def open(cls, model, config, *, rank, log_path):
        engine = super().open(model, config, rank=rank, log_path=log_path)
        engine.tokenizer = AutoTokenizer.from_pretrained(model)
        engine.finished = []
        return engine

    def generate(self, prompts, sampling):
        stops = sampling.extra.get("stop", [])
        stops = [stops] if isinstance(stops, str) else stops
        groups = super().generate(prompts, replace(sampling, extra={}))
        groups = [[self.cut(completion, stops) for completion in group] for group in groups]
        self.finished += [completion.finished for group in groups for completion in group]
        return groups

    def cut(self, completion, stops):
        for length in range(1, len(completion.token_ids) + 1):
            ids = completion.token_ids[:length]
            if any(stop in self.tokenizer.decode(ids, skip_special_tokens=True) for stop in stops):
                own, top = completion.logprobs[:length], completion.top_logprobs[:length]
                return replace(completion, token_ids=ids, logprobs=own, top_logprobs=top, finished=True)
        return completion


def make(kind, model, folder, base=None, engine=None, **changes):
    trainer, config, settings = TRAINERS[kind]
    args = config(**(settings | {"output_dir": str(folder), "max_steps": 3} | changes))
    cls = trainer if base is None else type("Trainer", (base, trainer), {})
    return cls(model, length_reward, args, sums(), curriculum="random", engine=engine)


def truncated(trainer):
    """Train, and return what the curriculum was told of each completion."""
    said = []
    trainer.outcome_observers.append(said.extend)
    steps = logged(trainer, "completions/clipped_ratio", "loss", "grad_norm")
    return [cut for outcome in said for cut in outcome.truncated], steps


@pytest.mark.parametrize("kind", ["grpo", "rloo", "ppo"])
@pytest.mark.parametrize("stop", [STOPS, "o"])
def test_a_completion_that_a_text_stops_is_not_cut_off(tiny_model_path, tmp_path, kind, stop):
    trainer = make(kind, tiny_model_path, tmp_path, engine=STOPPING, generation_kwargs={"stop": stop})
    engine = trainer.engine
    cut, steps = truncated(trainer)
    assert sorted(cut) == sorted(not finished for finished in engine.finished) and 0 < sum(cut) < len(cut)
    assert all(step["completions/clipped_ratio"] == 1.0 for step in steps)  # TRL counts end tokens only


class Ending:
    """Completions of a group end with the first end token, the second, a token that is none, and padding."""

    def _generate_single_turn(self, prompt_ids, *args, **kwargs):
        ends = [self.eos_token_ids[0], TURN_END, 40, self._tokenizer.pad_token_id]
        made = [[50 + i, 60, ends[i % 4]] for i in range(len(prompt_ids))]
        return made if isinstance(self, RLOOTrainer) else (made, None)


@pytest.mark.parametrize("kind", ["grpo", "rloo", "ppo"])
@pytest.mark.parametrize("mask", [False, True])
def test_every_end_token_ends_a_completion(tiny_model_path, tmp_path, kind, mask):
    """Gemma 3 and Phi end a turn with their second."""
    model = AutoModelForCausalLM.from_pretrained(tiny_model_path)
    model.generation_config.eos_token_id = [2, TURN_END]
    trainer = make(kind, model, tmp_path, Ending, mask_truncated_completions=mask)
    masks = []
    original = trainer._compute_loss
    trainer._compute_loss = lambda model, inputs: masks.append(inputs) or original(model, inputs)
    cut, steps = truncated(trainer)
    assert cut == [False, False, True, False] * (len(cut) // 4) and len(cut) >= 12
    assert all(step["completions/clipped_ratio"] == 0.25 for step in steps)
    for inputs in masks:
        left_out = inputs["completion_ids"][:, 2] == 40
        assert torch.equal(inputs["completion_mask"].sum(dim=1) == 0, left_out & mask)


@pytest.mark.parametrize("own", [7, [7, 9], None])
def test_what_model_or_tokenizer_ends_with_ends_what_transformers_generates(tiny_model_path, own):
    model = AutoModelForCausalLM.from_pretrained(tiny_model_path)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_path)
    model.generation_config.eos_token_id = own
    backend = TransformersBackend.of(model, tokenizer)
    with torch.no_grad():
        model.get_output_embeddings().bias = torch.nn.Parameter(torch.zeros(TINY_VOCABULARY))
    ends = {tokenizer.eos_token_id, *([own] if isinstance(own, int) else own or [])}
    for token in (5, 7, 9, tokenizer.eos_token_id):
        with torch.no_grad():
            model.get_output_embeddings().bias.zero_()[token] = 1e4
        [[completion]] = backend.generate([[1, 2]], Sampling(max_tokens=3, temperature=0.0))
        assert completion.finished == (token in ends)
        assert completion.token_ids == [token] * (1 if token in ends else 3)
