"""Divergences between a teacher's and a student's next-token distributions, and which are scaled by T^2."""

import functools
import math
from collections.abc import Callable, Sequence

import torch

from ..errors import ConfigurationError

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


def generalized_jensen_shannon(student: torch.Tensor, teacher: torch.Tensor, *, beta: float) -> torch.Tensor:
    """What TRL's `beta` stands for: 0 forward KL, 1 reverse KL, the generalized [`jensen_shannon`] between."""
    if beta == 0:
        return forward_kl(student, teacher)
    return reverse_kl(student, teacher) if beta == 1 else jensen_shannon(student, teacher, beta=beta)


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
    "gkd": generalized_jensen_shannon,
}
WITH_BETA = ("jensen_shannon", "gkd")
"""Those that a weight belongs to."""
_WITH_SKEW = ("skewed_forward_kl", "skewed_reverse_kl")

# liuliuyuan6/POCL at fa3fc6f, pocl/losses.py: the functions tem_* that end by scaling the loss, and those that do not.
RELEASED_SQUARED = ("forward_kl", "jensen_shannon", "skewed_reverse_kl")
"""Divergences that POCL's code scales by the square of the temperature."""


def make_divergence(name: str, *, skew: float = 0.1, beta: float = 0.5) -> Divergence:
    """The divergence of that name.

    Args:
        name (`str`):
            One of `DIVERGENCES`; `gkd` is that of a student's own outputs.
        skew (`float`, *optional*, defaults to `0.1`):
            Share of the first distribution in the mixture of a skewed divergence, above 0 and below 1.
        beta (`float`, *optional*, defaults to `0.5`):
            Weight of the teacher in `jensen_shannon`, above 0 and below 1, and in `gkd`, where 0 is forward KL and 1
            reverse KL.

    Raises:
        ConfigurationError: There is no such divergence, or skew or beta are out of range.
    """
    if name not in DIVERGENCES:
        raise ConfigurationError(f"Unknown divergence {name!r}. Available: {', '.join(DIVERGENCES)}.")
    if name in _WITH_SKEW:
        if not 0 < skew < 1:
            raise ConfigurationError(f"skew must be above 0 and below 1; got {skew}.")
        return functools.partial(DIVERGENCES[name], skew=skew)
    if name not in WITH_BETA:
        return DIVERGENCES[name]
    if name == "jensen_shannon" and not 0 < beta < 1:
        raise ConfigurationError(
            f"beta must be above 0 and below 1 with divergence jensen_shannon; got {beta}. At its ends it is 0: take "
            "forward_kl or reverse_kl."
        )
    return functools.partial(DIVERGENCES[name], beta=beta)


def squares_temperature(name: str, rule: Sequence[str], *, beta: float = 0.5) -> bool:
    """Whether a divergence at temperature T is scaled by T^2, which keeps the size of its gradient.

    Args:
        name (`str`), beta (`float`, *optional*, defaults to `0.5`):
            See [`make_divergence`]. `gkd` is as the divergence its `beta` stands for.
        rule (`Sequence[str]`):
            `["all"]`, as POCL's paper is read here; `["released"]`, as its code does (`RELEASED_SQUARED`); `["none"]`,
            as TRL; or names of divergences.

    Raises:
        ConfigurationError: The rule is none of these.
    """
    known = {"all": tuple(DIVERGENCES), "released": RELEASED_SQUARED, "none": ()}
    names = known[rule[0]] if len(rule) == 1 and rule[0] in known else tuple(rule)
    if not set(names) <= DIVERGENCES.keys() or not rule:
        raise ConfigurationError(
            f"temperature_squared must be all, released, none, or some of {', '.join(DIVERGENCES)}; got "
            f"{' '.join(rule)!r}."
        )
    if name == "gkd" and name not in names:
        name = "forward_kl" if beta == 0 else "reverse_kl" if beta == 1 else "jensen_shannon"
    return name in names
