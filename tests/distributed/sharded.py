"""Trains a tiny model in processes that share or shard it, and writes down what the engine was given at the end.

    python -m tests.distributed.sharded SETTINGS.json

Launched by accelerate. The engine of each process is a whole copy of the model. Rollouts are the same for any number
of processes: completion i of a group starts with the policy's i-th most probable token.
"""

import json
import sys
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import DistributedType
from datasets import Dataset
from peft import LoraConfig
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM
from trl import GRPOConfig
from trl.distributed import DistributedBackend

from edco_rl import CurriculumConfig, CurriculumGRPOTrainer, EngineConfig
from edco_rl.engine.generation import iter_base
from edco_rl.engine.protocol import Completion

from ..engine.own import CopiedModel, CopyTransport
from .run import rank, reward


class AdapterCopy(CopyTransport):
    """Keeps an adapter beside the copy, which answers without it."""

    adapter_only = True

    def send(self, named_parameters, version):
        self.engine.adapter = {name: p.detach().clone() for name, p in named_parameters}
        self.engine.version = version


class WholeCopy(CopiedModel):
    adapter = None

    @classmethod
    def default_transport(cls, config, *, lora, cuda):
        return (
            f"{__package__}.sharded:AdapterCopy" if lora else super().default_transport(config, lora=lora, cuda=cuda)
        )

    @classmethod
    def open(cls, model, config, *, rank, log_path):
        copy = LlamaForCausalLM(LlamaConfig.from_pretrained(model))  # from_pretrained would shard it, under ZeRO-3
        copy.load_state_dict(load_file(Path(model) / "model.safetensors"), strict=False)
        copy.tie_weights()
        return cls(copy, AutoTokenizer.from_pretrained(model))

    def generate(self, prompts, sampling):
        groups = []
        for i, prompt in enumerate(prompts, start=rank() * len(prompts)):
            with torch.no_grad():
                logits = self.model(torch.tensor([prompt])).logits[0, -1]
            tokens = [int(logits.topk(2).indices[i % 2]), *prompt[:2]]
            [(own, top)] = self.read([prompt], [tokens])
            groups.append([Completion(tokens, own, top, finished=False)])
        return groups


def main(settings):
    torch.set_num_threads(1)
    if settings["kind"] == "zero3":
        import deepspeed

        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # else it is compiled first
    folder = Path(settings["folder"])
    args = GRPOConfig(
        output_dir=str(folder / "run"),
        report_to="none",
        bf16=False,
        use_cpu=settings["kind"] != "zero3",  # accelerate leaves DeepSpeed out of what it calls a CPU run
        ddp_backend="gloo" if settings["kind"] == "zero3" else None,
        optim="sgd",  # Adam would blow up differences in rounding between one process and two
        learning_rate=1.0,
        gradient_checkpointing=False,
        save_strategy="no",
        logging_steps=1,
        disable_tqdm=True,
        max_completion_length=3,
        num_generations=2,
        max_steps=4,
        per_device_train_batch_size=8 // settings["processes"],
        gradient_accumulation_steps=1,
    )
    if settings["kind"] == "fsdp2":
        # accelerate shards for accelerators only; torch does for CPUs too.
        PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
    rows = Dataset.from_dict({"prompt": [f"{i} + {i * i} =" for i in range(30)]})
    model = AutoModelForCausalLM.from_pretrained(settings["model"], dtype=torch.float32)
    curriculum, engine = (
        CurriculumConfig(**settings["curriculum"]),
        EngineConfig(engine_mode=f"{__package__}.sharded:WholeCopy"),
    )
    lora = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM") if settings["lora"] else None
    options = {"curriculum": curriculum, "engine": engine, "peft_config": lora}
    trainer = CurriculumGRPOTrainer(model, reward, args, rows, **options)
    trainer.train()
    trainer.sync_engine()
    held = sum(_shard(p).numel() for p in trainer.model.parameters())
    pushed = trainer.engine.adapter or {
        name: p.detach().clone() for name, p in trainer.engine.model.named_parameters()
    }
    save_file(pushed, folder / f"pushed_{rank()}.safetensors")
    if settings["lora"]:
        base = iter_base(trainer.model, DistributedBackend(trainer.accelerator))
        save_file({name: weight.detach().clone() for name, weight in base}, folder / f"base_{rank()}.safetensors")
    whole = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if rank() == 0:
        named = {name.replace(".default.", "."): value for name, value in whole.items()}  # an adapter's name
        save_file({name: named[name].contiguous().clone() for name in pushed}, folder / "gathered.safetensors")
        (folder / "held.json").write_text(json.dumps(held))


def _shard(parameter):
    """What this process holds of it."""
    shard = getattr(parameter, "ds_tensor", parameter)
    return shard.to_local() if hasattr(shard, "to_local") else shard


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
