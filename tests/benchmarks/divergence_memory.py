"""Memory of a divergence between two models: `python -m tests.benchmarks.divergence_memory`.

Forward and backward pass from hidden states to the gradients of hidden states and student's LM head, each divergence
in a process of its own: in chunks, as the trainer computes it, and the plain way, from the logits of all tokens.
"""

import json
import resource
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from trl import TrlParser

from edco_rl.errors import ConfigurationError
from edco_rl.trainers.distillation_loss import distillation_loss
from edco_rl.trainers.divergence import DIVERGENCES, make_divergence
from edco_rl.trainers.lm_head import Head

_MIB = 1 << 20
_WAYS = ("chunks", "plain")


@dataclass
class MemoryConfig:
    """What is measured."""

    divergences: list[str] = field(
        default_factory=lambda: list(DIVERGENCES), metadata={"help": "Divergences measured; by default all."}
    )
    vocabulary: int = field(default=49_152, metadata={"help": "Tokens both models know."})
    tokens: int = field(default=2_048, metadata={"help": "Positions."})
    hidden_size: int = field(default=576, metadata={"help": "Width of both models' hidden states."})
    temperature: float = field(default=2.0, metadata={"help": "Temperature of both models."})
    weight: float = field(default=0.9, metadata={"help": "Weight of the divergence; the rest is the likelihood's."})
    skew: float = field(default=0.1, metadata={"help": "Of the skewed divergences."})
    way: str | None = field(
        default=None, metadata={"help": "chunks or plain: measure that in this process, and print JSON."}
    )


def plain_loss(
    student_hidden: torch.Tensor,
    teacher_hidden: torch.Tensor,
    student: Head,
    teacher: Head,
    labels: torch.Tensor,
    label_weights: torch.Tensor,
    *,
    divergence: Any,
    temperature: float,
    weight: float,
) -> torch.Tensor:
    """The sum that [`~edco_rl.trainers.distillation_loss.distillation_loss`] gives, by way of all logits."""
    logits = student.finish(student_hidden @ student.weight.t())
    with torch.no_grad():
        target = (teacher.finish(teacher_hidden @ teacher.weight.t()) / temperature).log_softmax(-1)
    values = divergence((logits / temperature).log_softmax(-1), target)
    nll = -logits.log_softmax(-1).gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    return (weight * temperature**2 * values + (1 - weight) * label_weights * nll).sum()


def measure(config: MemoryConfig, name: str, way: str) -> dict[str, float]:
    """Run one divergence in this process.

    Returns:
        `dict[str, float]`: `mib`, peak resident memory above that of the inputs in MiB; `seconds`; `loss`, the mean
        over tokens; `gradient`, the norm of both gradients.
    """
    generator = torch.Generator().manual_seed(0)
    shape = config.tokens, config.hidden_size
    student_hidden, teacher_hidden = (torch.randn(*shape, generator=generator) for _ in range(2))
    heads = [torch.randn(config.vocabulary, shape[1], generator=generator) * shape[1] ** -0.5 for _ in range(2)]
    labels = torch.randint(config.vocabulary, (config.tokens,), generator=generator)
    trained = [student_hidden.requires_grad_(), heads[0].requires_grad_()]
    torch.mm(torch.ones(64, 64), torch.ones(64, 64))  # its workspace is no part of either way
    before = _peak()
    started = time.perf_counter()
    arguments = (student_hidden, teacher_hidden, Head(heads[0]), Head(heads[1]), labels, torch.ones(config.tokens))
    settings: dict[str, Any] = {"temperature": config.temperature, "weight": config.weight}
    settings["divergence"] = make_divergence(name, skew=config.skew)
    loss = distillation_loss(*arguments, **settings)[0] if way == "chunks" else plain_loss(*arguments, **settings)
    loss = loss / config.tokens
    loss.backward()
    seconds, mib = time.perf_counter() - started, (_peak() - before) / _MIB
    norm = sum(float(tensor.grad.double().square().sum()) for tensor in trained if tensor.grad is not None) ** 0.5
    return {"mib": mib, "seconds": seconds, "loss": loss.item(), "gradient": norm}


def _peak() -> int:
    """Peak resident memory of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def compare(config: MemoryConfig) -> dict[str, dict[str, dict[str, float]]]:
    """Measure every divergence both ways, each in a process of its own: by divergence, then by way."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name in config.divergences:
        make_divergence(name, skew=config.skew)  # a wrong name is told before anything is measured
        for way in _WAYS:
            settings = {key: getattr(config, key) for key in ("vocabulary", "tokens", "hidden_size")}
            settings |= {key: getattr(config, key) for key in ("temperature", "weight", "skew")}
            flags = [word for key, value in settings.items() for word in (f"--{key}", str(value))]
            command = [sys.executable, "-m", __spec__.name, "--divergences", name, "--way", way, *flags]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            found.setdefault(name, {})[way] = json.loads(output.splitlines()[-1])
            print(f"{name}, {way}: {found[name][way]['mib']:.0f} MiB", file=sys.stderr, flush=True)
    return found


def print_table(config: MemoryConfig, found: dict[str, dict[str, dict[str, float]]]) -> None:
    """Print both ways side by side."""
    table = Table(
        title=f"Peak memory above the inputs, forward and backward: {config.tokens:,} tokens, vocabulary "
        f"{config.vocabulary:,}, hidden size {config.hidden_size}, float32"
    )
    table.add_column("divergence", no_wrap=True)
    for column in ("chunks", "plain", "share", "chunks", "plain", "largest difference"):
        table.add_column(column, justify="right")
    for name, ways in found.items():
        chunks, plain = ways["chunks"], ways["plain"]
        difference = max(abs(chunks[key] / plain[key] - 1) for key in ("loss", "gradient"))
        table.add_row(
            name,
            f"{chunks['mib']:.0f} MiB",
            f"{plain['mib']:.0f} MiB",
            f"{chunks['mib'] / plain['mib']:.0%}",
            f"{chunks['seconds']:.1f} s",
            f"{plain['seconds']:.1f} s",
            f"{difference:.0e}",
        )
    Console().print(table)


def main() -> None:
    """Measure and print the table."""
    try:
        (config,) = TrlParser((MemoryConfig,)).parse_args_and_config(fail_with_unknown_args=True)
        if config.way is not None:
            print(json.dumps(measure(config, config.divergences[0], config.way)))
            return
        print_table(config, compare(config))
    except ConfigurationError as error:
        raise SystemExit(f"divergence_memory: error: {error}") from error


if __name__ == "__main__":
    main()
