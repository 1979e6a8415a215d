"""Divergences between a teacher's and a student's next-token distributions, without full logits of either.

Both LM heads are applied to a few positions at a time. The gradient of each chunk is formed while its logits are
there, so that nothing of the width of the vocabulary outlives it but the gradient of the student's head.
"""

import functools
import math
from collections.abc import Callable

import torch

from ..errors import ConfigurationError

# Largest number of logits of one model that are held at a time: 16 MiB in float32 on a CPU, 256 MiB on a GPU.
_CHUNK_LOGITS = {"cpu": 1 << 22}
_CHUNK_LOGITS_GPU = 1 << 26

Divergence = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def forward_kl(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """KL(teacher || student).

    Args:
        student (`torch.Tensor`), teacher (`torch.Tensor`):
            Log-probabilities, shape (N, V).

    Returns:
        `torch.Tensor`: in nats, shape (N,).
    """
    return (teacher.exp() * (teacher - student)).sum(-1)


def reverse_kl(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """KL(student || teacher); see [`forward_kl`]."""
    return (student.exp() * (student - teacher)).sum(-1)


def skewed_forward_kl(student: torch.Tensor, teacher: torch.Tensor, *, skew: float) -> torch.Tensor:
    """KL(teacher || skew teacher + (1 - skew) student) (DistiLLM, arXiv 2402.03898); see [`forward_kl`]."""
    return (teacher.exp() * (teacher - _mixture(teacher, student, skew))).sum(-1)


def skewed_reverse_kl(student: torch.Tensor, teacher: torch.Tensor, *, skew: float) -> torch.Tensor:
    """KL(student || skew student + (1 - skew) teacher) (DistiLLM, arXiv 2402.03898); see [`forward_kl`]."""
    return (student.exp() * (student - _mixture(student, teacher, skew))).sum(-1)


def jensen_shannon(student: torch.Tensor, teacher: torch.Tensor, *, beta: float = 0.5) -> torch.Tensor:
    """beta KL(teacher || m) + (1 - beta) KL(student || m), m = beta teacher + (1 - beta) student; see [`forward_kl`].

    At 0.5 the Jensen-Shannon divergence, else the generalized one of GKD (arXiv 2306.13649, equation 1).
    """
    mixture = _mixture(teacher, student, beta)
    return (beta * teacher.exp() * (teacher - mixture) + (1 - beta) * student.exp() * (student - mixture)).sum(-1)


def total_variation(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Half the sum of absolute differences of probabilities, 0 to 1; see [`forward_kl`]."""
    return 0.5 * (student.exp() - teacher.exp()).abs().sum(-1)


def _mixture(first: torch.Tensor, second: torch.Tensor, share: float) -> torch.Tensor:
    """Logarithm of share * first + (1 - share) * second."""
    return torch.logaddexp(first + math.log(share), second + math.log1p(-share))


DIVERGENCES: dict[str, Callable[..., torch.Tensor]] = {
    "forward_kl": forward_kl,
    "reverse_kl": reverse_kl,
    "skewed_forward_kl": skewed_forward_kl,
    "skewed_reverse_kl": skewed_reverse_kl,
    "jensen_shannon": jensen_shannon,
    "total_variation": total_variation,
}


def make_divergence(name: str, *, skew: float = 0.1) -> Divergence:
    """The divergence of that name.

    Args:
        name (`str`):
            One of `DIVERGENCES`.
        skew (`float`, *optional*, defaults to `0.1`):
            Share of the first distribution in the mixture of a skewed divergence, above 0 and below 1.

    Raises:
        ConfigurationError: There is no such divergence, or the skew is out of range.
    """
    if name not in DIVERGENCES:
        raise ConfigurationError(f"Unknown divergence {name!r}. Available: {', '.join(DIVERGENCES)}.")
    if not name.startswith("skewed"):
        return DIVERGENCES[name]
    if not 0 < skew < 1:
        raise ConfigurationError(f"skew must be above 0 and below 1; got {skew}.")
    return functools.partial(DIVERGENCES[name], skew=skew)


def generalized_jensen_shannon(beta: float) -> Divergence:
    """What TRL's `beta` stands for: 0 forward KL, 1 reverse KL, the generalized Jensen-Shannon divergence between."""
    if beta == 0:
        return forward_kl
    return reverse_kl if beta == 1 else functools.partial(jensen_shannon, beta=beta)


