"""The loss of a distillation, without full logits of either model.

Both LM heads are applied to a few positions at a time. The gradient of each chunk is formed while its logits are
there, so that nothing of the width of the vocabulary outlives it but the gradient of the student's head.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from trl.kernels.chunked_divergence import _addmm_fp32, _compute_dtype, _project
from trl.trainer.utils import maybe_gather_lm_head_ctx

from ..errors import ConfigurationError
from .divergence import Divergence
from .lm_head import Head

# Largest number of logits of one model that are held at a time: 16 MiB in float32 on a CPU, 256 MiB on a GPU.
_CHUNK_LOGITS = {"cpu": 1 << 22}
_CHUNK_LOGITS_GPU = 1 << 26


class TokenTerms(NamedTuple):
    """What was found at each of N positions, without a gradient, shape (N,) each.

    Args:
        divergence (`torch.Tensor`):
            Of student and teacher at the temperature, in nats, before it is scaled.
        nll (`torch.Tensor`):
            Negative log-likelihood of the label under the student at temperature 1, in nats; 0 where its weight is.
        entropy (`torch.Tensor`):
            Of the student's distribution at the temperature, in nats.
        is_top1 (`torch.Tensor`):
            1 where the student ranks the label first.
    """

    divergence: torch.Tensor
    nll: torch.Tensor
    entropy: torch.Tensor
    is_top1: torch.Tensor


@dataclass(frozen=True)
class _Settings:
    """The part of the arguments that is no tensor."""

    divergence: Divergence
    temperature: float
    scale: float
    weight: float
    student: Head
    teacher: Head
    needs_gradient: bool


def distillation_loss(
    student_hidden: torch.Tensor,
    teacher_hidden: torch.Tensor,
    student: Head,
    teacher: Head,
    labels: torch.Tensor,
    label_weights: torch.Tensor,
    *,
    divergence: Divergence,
    temperature: float = 1.0,
    weight: float = 1.0,
    squared: bool = True,
) -> tuple[torch.Tensor, TokenTerms]:
    """Sum over positions of weight T^2 divergence + (1 - weight) label weight * negative log-likelihood.

    The gradient reaches the student only: hidden states and head. It can be taken once.

    Args:
        student_hidden (`torch.Tensor`), teacher_hidden (`torch.Tensor`):
            What each position's token was predicted from, shapes (N, H) and (N, H'); no padding.
        student (`Head`), teacher (`Head`):
            The LM heads.
        labels (`torch.Tensor`):
            The token at each position, shape (N,).
        label_weights (`torch.Tensor`):
            Weight of each position's negative log-likelihood, shape (N,): 1 in a reference, 0 in a student's output.
        divergence (`Callable`):
            See [`~edco_rl.trainers.divergence.make_divergence`].
        temperature (`float`, *optional*, defaults to `1.0`):
            T: both models' logits are divided by it within the divergence.
        weight (`float`, *optional*, defaults to `1.0`):
            Weight of the divergence, 0 to 1; the rest is that of the negative log-likelihood.
        squared (`bool`, *optional*, defaults to `True`):
            Whether the divergence is scaled by T^2, so that its gradient keeps its size: see
            [`~edco_rl.trainers.divergence.squares_temperature`].

    Returns:
        `tuple[torch.Tensor, TokenTerms]`: the sum, and what was found at each position.

    Raises:
        ConfigurationError: The vocabularies differ.
    """
    check_vocabularies(student.weight.shape[0], teacher.weight.shape[0])
    scale = weight * temperature**2 if squared else weight
    settings = _Settings(divergence, temperature, scale, weight, student, teacher, torch.is_grad_enabled())
    total, terms = _DistillationLoss.apply(
        student_hidden, student.weight, student.bias, teacher_hidden, labels, label_weights, settings
    )
    return total, TokenTerms(*terms)


def check_vocabularies(student: int, teacher: int) -> None:
    """Raise [`ConfigurationError`] where two models give probabilities to different numbers of tokens."""
    if student != teacher:
        raise ConfigurationError(
            f"The student has a vocabulary of {student:,} tokens, the teacher one of {teacher:,}: their next-token "
            "distributions cannot be compared. Take a teacher with the student's vocabulary."
        )


class _DistillationLoss(torch.autograd.Function):
    """The chunks of [`distillation_loss`], with their gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        teacher_hidden: torch.Tensor,
        labels: torch.Tensor,
        label_weights: torch.Tensor,
        settings: _Settings,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        teacher = settings.teacher
        dtype, teacher_dtype = _compute_dtype(hidden), _compute_dtype(teacher_hidden)
        wanted = [settings.needs_gradient and needed for needed in ctx.needs_input_grad[:3]]
        # A float32 sum, however the parameters are kept.
        gradients = [
            torch.zeros_like(tensor, dtype=torch.float32) if needed and tensor is not None else None
            for tensor, needed in zip((hidden, weight, bias), wanted, strict=True)
        ]
        terms = hidden.new_zeros((len(TokenTerms._fields), len(hidden)), dtype=torch.float32)
        total = hidden.new_zeros((), dtype=torch.float32)
        with maybe_gather_lm_head_ctx(weight, bias), maybe_gather_lm_head_ctx(teacher.weight, teacher.bias):
            vocabulary = weight.shape[0]
            rows = max(1, _CHUNK_LOGITS.get(hidden.device.type, _CHUNK_LOGITS_GPU) // vocabulary)
            for start in range(0, len(hidden), rows):
                chunk = slice(start, start + rows)
                states, teacher_states = hidden[chunk].to(dtype), teacher_hidden[chunk].to(teacher_dtype)
                projected = hidden.new_empty((len(states), vocabulary), dtype=torch.float32)
                _project(projected, states, weight, bias, 0, vocabulary, dtype)
                target = torch.empty_like(projected)
                _project(target, teacher_states, teacher.weight, teacher.bias, 0, vocabulary, teacher_dtype)
                target = (teacher.finish(target) / settings.temperature).log_softmax(-1)
                with torch.set_grad_enabled(any(wanted)):
                    part = _chunk_loss(
                        projected.requires_grad_(any(wanted)),
                        target,
                        labels[chunk],
                        label_weights[chunk],
                        settings,
                        terms[:, chunk],
                    )
                total += part.detach()
                if not any(wanted):
                    continue
                (gradient,) = torch.autograd.grad(part, projected)
                narrow = gradient.to(dtype)
                if gradients[0] is not None:
                    _addmm_fp32(gradients[0][chunk], narrow, weight.to(dtype))
                if gradients[1] is not None:
                    _addmm_fp32(gradients[1], narrow.t(), states)
                if gradients[2] is not None:
                    gradients[2] += gradient.sum(dim=0)
        ctx.gradients = [
            None if gradient is None else gradient.to(tensor.dtype)
            for gradient, tensor in zip(gradients, (hidden, weight, bias), strict=True)
        ]
        ctx.mark_non_differentiable(terms)
        return total, terms

    @staticmethod
    def backward(ctx: Any, grad_total: torch.Tensor, _: Any) -> tuple[torch.Tensor | None, ...]:
        if ctx.gradients is None:
            raise RuntimeError("The gradient of a distillation loss can be taken once.")
        gradients, ctx.gradients = ctx.gradients, None
        # In place: a second tensor of the size of the head is what this function is there to avoid.
        scaled = [None if gradient is None else gradient.mul_(grad_total.to(gradient.dtype)) for gradient in gradients]
        return (*scaled, None, None, None, None)


def _chunk_loss(
    projected: torch.Tensor,
    target: torch.Tensor,
    labels: torch.Tensor,
    label_weights: torch.Tensor,
    settings: _Settings,
    terms: torch.Tensor,
) -> torch.Tensor:
    """Loss of a chunk; `terms`, shape (4, n), is filled in."""
    logits = settings.student.finish(projected)
    student = (logits / settings.temperature if settings.temperature != 1.0 else logits).log_softmax(-1)
    divergence = settings.divergence(student, target)
    loss = settings.scale * divergence.sum()
    if settings.weight < 1.0:
        plain = student if settings.temperature == 1.0 else logits.log_softmax(-1)
        nll = -label_weights * plain.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
        loss = loss + (1.0 - settings.weight) * nll.sum()
        terms[1] = nll.detach()
    with torch.no_grad():
        terms[0] = divergence
        terms[2] = -(student.exp() * student).sum(-1)
        terms[3] = (logits.argmax(-1) == labels).float()
    return loss
