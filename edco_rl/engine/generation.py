"""The engine behind TRL's own generation interface: what a TRL trainer calls to sync weights and to generate."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from accelerate.utils import is_peft_model
from peft.tuners.lora import LoraLayer
from trl.distributed import DistributedBackend
from trl.generation.vllm_generation import VLLMGeneration

from ..errors import ConfigurationError
from ..finite_weights import check_finite_weights
from .answers import check_groups
from .protocol import Engine, EngineError, Sampling
from .weights import WeightTransport


class EngineGeneration(VLLMGeneration):
    """TRL's `VLLMGeneration` over an engine and a transport of this package.

    Gathering parameters under FSDP and ZeRO-3, and handing each rank its share of the completions, stay TRL's. What
    differs: weights go through the transport, a LoRA adapter is never merged into the trainer's own weights, and the
    engine's log-probabilities are those of the sampled tokens.

    Args:
        model (`PreTrainedModel` or `PeftModel`):
            The policy.
        accelerator (`Accelerator`):
            The trainer's accelerator.
        processing_class (`PreTrainedTokenizerBase`):
            The trainer's tokenizer.
        engine (`Engine` or `None`):
            This rank's engine: the main process alone has a client of a server, every rank a colocated one.
        transport (`WeightTransport`):
            Moves the weights.
        version (`Callable[[], int]`):
            Returns the optimizer step of the current weights.
        timer (`Callable[[str], AbstractContextManager]`, *optional*):
            Context manager that is told what the time goes to: `"sync"` or `"rollout"`.
        sync_interval (`int`, *optional*, defaults to `1`):
            Optimizer steps between two pushes for rollouts.
        idle (`Callable[[], None]`, *optional*):
            Waits until the engine works on nothing that was begun beside this thread. Called before each push, since
            weights must not change under what is in flight, and before each generation, since requests of different
            kinds must not share a batch (see [`~edco_rl.engine.EngineClient.generate`]).
        sampling:
            `max_completion_length`, `temperature`, `top_p`, `top_k`, `min_p`, `repetition_penalty` and
            `generation_kwargs`, as TRL's class takes them.
    """

    def __init__(
        self,
        model: Any,
        accelerator: Any,
        processing_class: Any,
        *,
        engine: Engine | None,
        transport: WeightTransport,
        version: Callable[[], int],
        timer: Callable[[str], AbstractContextManager] = lambda part: nullcontext(),
        sync_interval: int = 1,
        idle: Callable[[], None] = lambda: None,
        **sampling: Any,
    ) -> None:
        self.engine = engine
        self.transport = transport
        self.version = version
        self.timer = timer
        self.sync_interval = sync_interval
        self.idle = idle
        self.pushed_version: int | None = None
        """Optimizer step of the weights the engine has; `None` where it needs others before it is used again."""
        self.logprobs: list[list[float]] = []
        """Of this rank's latest completions, for trainers of TRL's that do not pass them on."""
        self.give_base: Callable[[], None] = lambda: None
        """Gives an engine of adapters that was started again the base weights, where it has not loaded them."""
        super().__init__(model, accelerator, processing_class, mode="server", **sampling)

    def _init_vllm(self) -> None:
        self.vllm_client = _TRLClient(self.engine, self.sampling)
        self.transport.connect()
        if self.engine is not None:
            self.engine.restore = self._restore
        self.accelerator.wait_for_everyone()

    def _iter_named_params(self) -> Iterator[tuple[str, torch.Tensor]]:
        if self.transport.adapter_only:
            return iter_adapter(self.model, self._dist)
        if is_peft_model(self.model):
            return iter_merged(self.model, self._dist)
        return super()._iter_named_params()

    def sync_weights(self, *, now: bool = False) -> None:
        """Push the policy to the engine, and verify that it arrived.

        Args:
            now (`bool`, *optional*, defaults to `False`):
                Whether to push also where `sync_interval` optimizer steps have not passed since the last push.

        Raises:
            WeightVersionError: The engine reports another version than the optimizer step pushed.
            NotFiniteError: A weight is not finite; nothing is pushed.
        """
        if not now and self._is_recent():
            return
        self.idle()
        with self.timer("sync"):
            check_finite_weights([self.model], self.version(), "they are not pushed to the engine")
            if self.engine is None:
                self._push()
            else:
                self.engine.again_if_lost(self._push)

    def _is_recent(self) -> bool:
        """Whether the engine's weights are older than the policy's by no more than `sync_interval` lets them be."""
        if self.sync_interval == 1 or self.pushed_version is None:
            return False
        return 0 <= self.version() - self.pushed_version < self.sync_interval

    def _push(self) -> None:
        self.transport.push(Reiterable(self._iter_named_params), self.version())
        self.pushed_version = self.version()

    def _restore(self) -> None:
        """Give an engine that was started again the policy as it is now.

        Raises:
            EngineError: The policy is sharded: all ranks would have to take part, and they wait for this one.
        """
        if self.accelerator.num_processes > 1 and (self._dist.is_fsdp or self._dist.is_zero3):
            raise EngineError(
                "The engine was lost and is back, but the policy is sharded over processes: resume from a checkpoint."
            )
        self.transport.connect()
        self.give_base()
        self._push()

    def generate(
        self, prompts: list[list[int]], images: list | None, num_generations: int, profiler: Any = None
    ) -> tuple:
        """Continue token ids: see TRL's `VLLMGeneration.generate`. Images are refused.

        Raises:
            WeightVersionError: The engine has other weights than those pushed last.
        """
        if images is not None and any(images):
            raise ConfigurationError("The engine takes text prompts only; use engine none with TRL's own vLLM modes.")
        self.idle()
        with self.timer("rollout"):
            if self.engine is None or not self.engine.one_per_rank:  # for all ranks' prompts at once
                made = super().generate(prompts, None, num_generations, profiler)
            else:
                with profiler or nullcontext():
                    # A group can be spread over ranks, so each rank continues its own copies of a prompt.
                    output = self.vllm_client.generate(prompts, n=1)
                made = prompts, output["completion_ids"], output["logprobs"], None
            self.transport.verify()
        self.logprobs = [[position[0] for position in completion] for completion in made[2]]
        return made

    def sampling(self) -> Sampling:
        """How rollouts are sampled, as TRL's settings say."""
        return Sampling(
            max_tokens=self.max_completion_length,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            min_p=self.min_p or 0.0,
            repetition_penalty=self.repetition_penalty,
            extra=self.generation_kwargs,
        )


class Reiterable:
    """An iterable that starts anew each time: vLLM's transports walk the parameters more than once."""

    def __init__(self, make_iterator: Callable[[], Iterator[tuple[str, torch.Tensor]]]) -> None:
        self._make_iterator = make_iterator

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
        return self._make_iterator()


class _TRLClient:
    """An engine as TRL's `VLLMClient`. Of what TRL asks for, the rest is in the sampling already."""

    def __init__(self, engine: Engine | None, sampling: Callable[[], Sampling]) -> None:
        self._engine = engine
        self._sampling = sampling

    def generate(self, prompts: list[list[int]], *, n: int, **_: Any) -> dict[str, Any]:
        assert self._engine is not None
        groups = self._engine.generate(prompts, replace(self._sampling(), n=n))
        check_groups(groups, len(prompts), n)
        completions = [completion for group in groups for completion in group]
        return {
            "prompt_ids": prompts,
            "completion_ids": [completion.token_ids for completion in completions],
            # TRL reads the first entry of each position: the sampled token's.
            "logprobs": [[[value] for value in completion.logprobs.tolist()] for completion in completions],
        }


def iter_adapter(model: Any, distributed: DistributedBackend) -> Iterator[tuple[str, torch.Tensor]]:
    """Full tensors of a LoRA adapter under the names PEFT saves them with. A collective where they are sharded."""
    parameters = [(name, p) for name, p in model.named_parameters() if model.prefix in name]
    adapter = f".{model.active_adapter}"
    with distributed.gather_params([p for _, p in parameters]):
        for name, p in parameters:
            if f"{adapter}." in name or name.endswith(adapter):  # of a linear layer, or of embeddings
                yield name.replace(adapter, ""), _whole(p)


def iter_merged(model: Any, distributed: DistributedBackend) -> Iterator[tuple[str, torch.Tensor]]:
    """Parameters of the base model with the LoRA adapter merged into a copy, one layer at a time.

    The model itself is read only. The sum is formed in float32 and rounded once.

    Raises:
        ConfigurationError: The adapter is sharded by FSDP.
    """
    if distributed.is_fsdp:
        raise ConfigurationError("A LoRA adapter sharded by FSDP cannot be merged for sync; use transport adapter.")
    layers = {
        f"{name}.base_layer.weight": module for name, module in model.named_modules() if isinstance(module, LoraLayer)
    }
    with distributed.gather_params(list(model.parameters())):
        for name, p in _of_base(model):
            weight = p.data
            if name in layers:
                weight = weight.float()
                for adapter in layers[name].active_adapters:
                    weight = weight + layers[name].get_delta_weight(adapter).float()
                weight = weight.to(p.dtype)
            yield _base_name(model, name), weight


def iter_base(model: Any, distributed: DistributedBackend) -> Iterator[tuple[str, torch.Tensor]]:
    """Parameters of a LoRA model without its adapter. A collective where they are sharded."""
    with distributed.gather_params(list(model.parameters())):
        for name, p in _of_base(model):
            yield _base_name(model, name), _whole(p)


def _whole(parameter: torch.nn.Parameter) -> torch.Tensor:
    """All of a parameter that FSDP2 may have sharded; ZeRO-3 has gathered its own by then."""
    return parameter.full_tensor() if hasattr(parameter, "full_tensor") else parameter.data


def _of_base(model: Any) -> Iterator[tuple[str, torch.nn.Parameter]]:
    """Parameters in use that are not those of an adapter's matrices, under PEFT's names."""
    for name, p in model.named_parameters():
        saved = "modules_to_save." in name
        if model.prefix in name or "original_module." in name:
            continue
        if not saved or f"modules_to_save.{model.active_adapter}." in name:
            yield name, p


def _base_name(model: Any, name: str) -> str:
    """The name a parameter has in the model without an adapter."""
    name = name.removeprefix("base_model.model.")
    for part in (".base_layer", f"modules_to_save.{model.active_adapter}.", "_checkpoint_wrapped_module."):
        name = name.replace(part, "")
    return name
