"""An engine and a transport as a user writes them, named by import path: a copy of the model in this process."""

import errno
import threading

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from edco_rl.engine import Engine, EngineLostError, WeightTransport
from edco_rl.engine.leftovers import push_folder
from edco_rl.engine.protocol import Completion
from edco_rl.engine.transformers_backend import TransformersBackend


class CopiedModel(Engine):
    one_per_rank = True

    def __init__(self, model, tokenizer):
        self.model = model
        self.backend = TransformersBackend.of(model, tokenizer)
        self.version = "start"
        self.closed = False

    @classmethod
    def open(cls, model, config, *, rank, log_path):
        return cls(AutoModelForCausalLM.from_pretrained(model), AutoTokenizer.from_pretrained(model))

    @classmethod
    def default_transport(cls, config, *, lora, cuda):
        return "tests.engine.own:CopyTransport"

    def generate(self, prompts, sampling):
        return self.backend.generate(prompts, sampling)

    def read(self, prompts, completions, top_logprobs=0):
        return self.backend.read(prompts, completions, top_logprobs)

    def weight_version(self):
        return self.version

    def close(self):
        self.closed = True


class ShortEngine(CopiedModel):
    """Takes 12 tokens."""

    def max_model_len(self):
        return 12


class CopyTransport(WeightTransport):
    engine_class = CopiedModel

    def send(self, named_parameters, version):
        own = dict(self.engine.model.named_parameters())
        with torch.no_grad():
            for name, parameter in named_parameters:
                own[name].copy_(parameter)
        self.engine.version = version


class ForgetfulTransport(CopyTransport):
    """Does not stamp the weights."""

    def send(self, named_parameters, version):
        pass


class FullTransport(CopyTransport):
    """Has no room for the third push."""

    sent = 0

    def send(self, named_parameters, version):
        self.sent += 1
        with push_folder(None):
            if self.sent == 3:
                raise OSError(errno.ENOSPC, "No space left on device")
        super().send(named_parameters, version)


class UnfinishedTransport(CopyTransport):
    def __init__(self, engine, config, rank, peft_config, model):
        raise TypeError("its author's own mistake")


class LosingEngine(CopiedModel):
    """Is lost for good at the third batch of rollouts."""

    batches = 0

    def generate(self, prompts, sampling):
        if sampling.n > 1 or sampling.max_tokens == 4:
            self.batches += 1
            if self.batches == 3:
                raise EngineLostError("The engine was ended by SIGKILL, after 3 restarts.")
        return super().generate(prompts, sampling)


class UncertainEngine(CopiedModel):
    """Gives NaN for all that follows the first prompt it was asked about."""

    first = None

    def generate(self, prompts, sampling):
        self.first = self.first or list(prompts[0])
        groups = super().generate(prompts, sampling)
        for prompt, group in zip(prompts, groups, strict=True):
            if list(prompt) == self.first:
                for completion in group:
                    completion.logprobs[:] = float("nan")
                    completion.top_logprobs[:] = float("nan")
        return groups


class BesideEngine(CopiedModel):
    """One for all ranks, which another thread can ask. What it samples depends on prompt and weights alone.

    It notes the optimizer step of the weights at each generation and at each push, and whether the trainer's own
    thread asked. `faults` are raised at generations of these numbers.
    """

    one_per_rank = False
    answers_beside = True

    def __init__(self, model, tokenizer):
        super().__init__(model, tokenizer)
        self.generated, self.pushed, self.faults = [], [], {}
        self.before = lambda number: None

    @classmethod
    def open(cls, model, config, *, rank, log_path):
        return super().open(model, config, rank=rank, log_path=log_path) if rank == 0 else None

    @classmethod
    def default_transport(cls, config, *, lora, cuda):
        return "tests.engine.own:NotedTransport"

    def generate(self, prompts, sampling):
        step = int(self.version.partition("-")[0])
        self.generated.append((step, len(prompts), threading.current_thread() is threading.main_thread()))
        self.before(len(self.generated))
        if (fault := self.faults.pop(len(self.generated), None)) is not None:
            raise fault
        with torch.no_grad():
            groups = [self._continue(list(prompt), sampling) for prompt in prompts]
        assert int(self.version.partition("-")[0]) == step, "weights were pushed under a generation"
        return groups

    def _continue(self, prompt, sampling):
        self.model.eval()
        ids, noise = torch.tensor([prompt] * sampling.n), np.random.default_rng(prompt)
        own, top = [], []
        for _ in range(sampling.max_tokens):
            logprobs = (self.model(ids).logits[:, -1].float() / (sampling.temperature or 1)).log_softmax(-1)
            gumbel = torch.tensor(noise.gumbel(size=logprobs.shape)) if sampling.temperature else 0.0
            token = (logprobs + gumbel).argmax(-1, keepdim=True)
            own.append(logprobs.gather(-1, token)[:, 0].numpy())
            top.append(logprobs.topk(max(sampling.top_logprobs, 1)).values.numpy())
            ids = torch.cat([ids, token], dim=1)
        rows = zip(ids[:, len(prompt) :].tolist(), np.stack(own, 1), np.stack(top, 1), strict=True)
        return [Completion(a, b.astype(float), c.astype(float)[:, : sampling.top_logprobs], False) for a, b, c in rows]


class NotedTransport(CopyTransport):
    def send(self, named_parameters, version):
        if self.engine is None:
            list(named_parameters)
            return
        super().send(named_parameters, version)
        self.engine.pushed.append(int(version.partition("-")[0]))
