"""Divergences against plain float64 computations."""

import math

import pytest
import torch
from transformers import AutoModelForCausalLM
from trl.trainer.distillation_trainer import _chunked_divergence_loss

from edco_rl.errors import ConfigurationError
from edco_rl.trainers import divergence as module
from edco_rl.trainers.divergence import (
    DIVERGENCES,
    distillation_loss,
    generalized_jensen_shannon,
    make_divergence,
)
from edco_rl.trainers.lm_head import Head


def plain_divergence(name, teacher, student, skew):
    """The textbook sums over the vocabulary, on probabilities in float64."""

    def kl(p, q):
        return (p * (p / q).log()).sum(-1)

    half = (teacher + student) / 2
    return {
        "forward_kl": lambda: kl(teacher, student),
        "reverse_kl": lambda: kl(student, teacher),
        "skewed_forward_kl": lambda: kl(teacher, skew * teacher + (1 - skew) * student),
        "skewed_reverse_kl": lambda: kl(student, skew * student + (1 - skew) * teacher),
        "jensen_shannon": lambda: (kl(teacher, half) + kl(student, half)) / 2,
        "total_variation": lambda: (teacher - student).abs().sum(-1) / 2,
    }[name]()


def plain_loss(student, teacher, labels, label_weights, *, name, temperature, weight, skew):
    """Loss of full logits, shape (N, V)."""
    divergence = plain_divergence(name, (teacher / temperature).softmax(-1), (student / temperature).softmax(-1), skew)
    nll = -student.softmax(-1)[torch.arange(len(labels)), labels].log()
    return (weight * temperature**2 * divergence + (1 - weight) * label_weights * nll).sum()


def problem(dtype=torch.float32, positions=23, vocabulary=57, bias=True):
    """Hidden states of different widths, two heads, labels of which every third is no reference's."""
    generator = torch.Generator().manual_seed(3)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    student_hidden, teacher_hidden = draw(positions, 8), draw(positions, 12)
    student = [draw(vocabulary, 8), draw(vocabulary) if bias else None]
    teacher = [draw(vocabulary, 12), draw(vocabulary) if bias else None]
    labels = torch.randint(vocabulary, (positions,), generator=generator)
    return student_hidden, teacher_hidden, student, teacher, labels, (torch.arange(positions) % 3 > 0).to(dtype)


@pytest.fixture
def small_chunks(monkeypatch):
    """Chunks of five positions, so that the last one is not full."""
    monkeypatch.setitem(module._CHUNK_LOGITS, "cpu", 5 * 57)


@pytest.mark.parametrize("name", DIVERGENCES)
@pytest.mark.parametrize(
    ("temperature", "weight", "skew"), [(1.0, 1.0, 0.1), (2.0, 0.7, 0.3), (1.33, 0.0, 0.1), (0.5, 1.0, 0.9)]
)
def test_a_loss_and_its_gradient_are_those_of_full_logits_in_float64(small_chunks, name, temperature, weight, skew):
    student_hidden, teacher_hidden, student, teacher, labels, label_weights = problem()
    given = [student_hidden.requires_grad_(), student[0].requires_grad_(), student[1].requires_grad_()]
    total, terms = distillation_loss(
        student_hidden,
        teacher_hidden,
        Head(*student, scale=0.5, softcap=4.0),
        Head(*teacher, scale=0.25),
        labels,
        label_weights,
        divergence=make_divergence(name, skew=skew),
        temperature=temperature,
        weight=weight,
    )
    (3.0 * total).backward()
    exact = [tensor.detach().double().requires_grad_() for tensor in given]
    logits = 4.0 * torch.tanh(0.5 * (exact[0] @ exact[1].T + exact[2]) / 4.0)
    target = 0.25 * (teacher_hidden.double() @ teacher[0].double().T + teacher[1].double())
    settings = {"name": name, "temperature": temperature, "weight": weight, "skew": skew}
    expected = plain_loss(logits, target, labels, label_weights.double(), **settings)
    (3.0 * expected).backward()
    assert total.item() == pytest.approx(expected.item(), rel=1e-5)
    for ours, theirs in zip(given, exact, strict=True):
        assert torch.allclose(ours.grad.double(), theirs.grad, atol=1e-4 * theirs.grad.abs().max().item())
    tempered = (logits / temperature).softmax(-1)
    assert torch.allclose(terms.entropy.double(), -(tempered * tempered.log()).sum(-1), atol=1e-4)
    assert terms.is_top1.tolist() == (logits.argmax(-1) == labels).tolist()
    alone = plain_divergence(name, (target / temperature).softmax(-1), tempered, skew)
    assert torch.allclose(terms.divergence.double(), alone, atol=1e-5)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_a_gradient_agrees_with_finite_differences(small_chunks, name):
    student_hidden, teacher_hidden, student, teacher, labels, label_weights = problem()
    given = [student_hidden.requires_grad_(), student[0].requires_grad_()]

    def loss():
        heads = Head(*student), Head(*teacher)
        kind = {"divergence": make_divergence(name, skew=0.2), "temperature": 1.5, "weight": 0.8}
        return distillation_loss(student_hidden, teacher_hidden, *heads, labels, label_weights, **kind)[0]

    loss().backward()
    generator = torch.Generator().manual_seed(1)
    step = 2e-3
    for tensor in given:
        direction = torch.randn(tensor.shape, generator=generator)
        with torch.no_grad():
            tensor.add_(direction, alpha=step)
            above = loss().double()
            tensor.add_(direction, alpha=-2 * step)
            below = loss().double()
            tensor.add_(direction, alpha=step)
        slope = (tensor.grad * direction).sum().item()
        assert ((above - below) / (2 * step)).item() == pytest.approx(slope, rel=2e-2, abs=2e-2)


@pytest.mark.parametrize(
    ("beta", "name"), [(0.0, "forward_kl"), (0.5, "jensen_shannon"), (1.0, "reverse_kl"), (0.3, "")]
)
def test_at_temperature_one_and_weight_one_the_loss_is_trls_own_padding_ignored(small_chunks, beta, name):
    student_hidden, teacher_hidden, student, teacher, labels, label_weights = problem(positions=24)
    mask = torch.ones(4, 6)
    mask[1, 3:] = 0
    mask[3, 1:] = 0
    student_hidden.requires_grad_()
    loss, entropy, valid = _chunked_divergence_loss(
        student_hidden.view(4, 6, -1),
        teacher_hidden.view(4, 6, -1),
        student[0],
        teacher[0],
        mask,
        beta,
        student_lm_head_bias=student[1],
        teacher_lm_head_bias=teacher[1],
    )
    (expected,) = torch.autograd.grad(loss, student_hidden)
    counted = mask.view(-1).bool()
    chosen = make_divergence(name) if name else generalized_jensen_shannon(beta)
    total, terms = distillation_loss(
        student_hidden[counted],
        teacher_hidden[counted],
        Head(*student),
        Head(*teacher),
        labels[counted],
        label_weights[counted],
        divergence=chosen,
    )
    (found,) = torch.autograd.grad(total / valid, student_hidden)
    assert (total / valid).item() == pytest.approx(loss.item(), rel=1e-5)
    assert torch.allclose(found, expected, atol=1e-6)
    assert found.view(4, 6, -1)[mask == 0].abs().max() == 0
    assert terms.entropy.sum().item() == pytest.approx(entropy.item(), rel=1e-5)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_a_divergence_is_zero_for_equal_models_and_stays_finite_for_certain_ones(name):
    logits = torch.tensor([[80.0, -80.0, 0.0], [0.0, 0.0, 0.0]], dtype=torch.float32)
    kind = make_divergence(name)
    same = logits.log_softmax(-1).requires_grad_()
    assert kind(same, same.detach()).tolist() == pytest.approx([0.0, 0.0], abs=1e-6)
    opposite = (-logits).log_softmax(-1).requires_grad_()
    value = kind(opposite, logits.log_softmax(-1))
    (gradient,) = torch.autograd.grad(value.sum(), opposite)
    assert torch.isfinite(value).all() and torch.isfinite(gradient).all()


def test_no_position_gives_a_zero_loss_that_can_be_differentiated():
    student_hidden, teacher_hidden, student, teacher, labels, label_weights = problem(positions=0)
    student_hidden.requires_grad_()
    total, _ = distillation_loss(
        student_hidden,
        teacher_hidden,
        Head(*student),
        Head(*teacher),
        labels,
        label_weights,
        divergence=module.forward_kl,
    )
    total.backward()
    assert total.item() == 0.0 and student_hidden.grad.shape == (0, 8)


def test_bfloat16_states_give_the_loss_of_their_float32_copies(small_chunks):
    student_hidden, teacher_hidden, student, teacher, labels, label_weights = problem(torch.bfloat16, bias=False)
    arguments = {"divergence": module.forward_kl, "temperature": 2.0}
    total, _ = distillation_loss(
        student_hidden, teacher_hidden, Head(*student), Head(*teacher), labels, label_weights, **arguments
    )
    wide, _ = distillation_loss(
        student_hidden.float(),
        teacher_hidden.float(),
        Head(student[0].float()),
        Head(teacher[0].float()),
        labels,
        label_weights.float(),
        **arguments,
    )
    assert total.item() == pytest.approx(wide.item(), rel=1e-5)


def test_a_second_backward_is_refused():
    student_hidden, teacher_hidden, student, teacher, labels, label_weights = problem()
    student_hidden.requires_grad_()
    total, _ = distillation_loss(
        student_hidden,
        teacher_hidden,
        Head(*student),
        Head(*teacher),
        labels,
        label_weights,
        divergence=module.forward_kl,
    )
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="can be taken once"):
        total.backward()


def test_the_head_of_a_model_gives_the_models_own_logits(tiny_model_path):
    model = AutoModelForCausalLM.from_pretrained(tiny_model_path, dtype=torch.float32)
    ids = torch.tensor([[1, 5, 9]])
    head = Head.of(model)
    hidden = model.base_model(ids).last_hidden_state
    assert torch.allclose(head.finish(hidden @ head.weight.T), model(ids).logits, atol=1e-5)


def test_different_vocabularies_are_refused_with_their_sizes():
    with pytest.raises(ConfigurationError, match=r"vocabulary of 49,152 tokens, the teacher one of 151,936"):
        distillation_loss(
            torch.zeros(1, 2),
            torch.zeros(1, 2),
            Head(torch.empty(49152, 2, device="meta")),
            Head(torch.empty(151936, 2, device="meta")),
            torch.zeros(1),
            torch.zeros(1),
            divergence=module.forward_kl,
        )


@pytest.mark.parametrize(
    ("name", "skew", "message"),
    [
        ("kl", 0.1, "Unknown divergence 'kl'. Available: forward_kl"),
        ("skewed_forward_kl", 1.0, "skew must be above 0"),
    ],
)
def test_wrong_divergences_are_refused(name, skew, message):
    with pytest.raises(ConfigurationError, match=message):
        make_divergence(name, skew=skew)


def test_total_variation_lies_between_zero_and_one():
    far = torch.tensor([[50.0, -50.0]]).log_softmax(-1)
    assert module.total_variation(far, far.flip(-1)).item() == pytest.approx(1.0)
    assert module.jensen_shannon(far, far.flip(-1)).item() == pytest.approx(math.log(2.0), rel=1e-5)
