"""Divergences against plain float64 computations."""

import math

import pytest
import torch
from transformers import AutoModelForCausalLM
from trl.experimental.gkd import GKDTrainer
from trl.trainer.distillation_trainer import _chunked_divergence_loss

from edco_rl.errors import ConfigurationError
from edco_rl.trainers import distillation_loss as module
from edco_rl.trainers.distillation_loss import distillation_loss
from edco_rl.trainers.divergence import (
    DIVERGENCES,
    forward_kl,
    jensen_shannon,
    make_divergence,
    squares_temperature,
    total_variation,
)
from edco_rl.trainers.lm_head import Head


def kl(p, q):
    return (p * (p / q).log()).sum(-1)


def plain_divergence(name, teacher, student, skew, beta=0.5):
    """The textbook sums over the vocabulary, on probabilities in float64."""
    mixture = beta * teacher + (1 - beta) * student
    return {
        "forward_kl": lambda: kl(teacher, student),
        "reverse_kl": lambda: kl(student, teacher),
        "skewed_forward_kl": lambda: kl(teacher, skew * teacher + (1 - skew) * student),
        "skewed_reverse_kl": lambda: kl(student, skew * student + (1 - skew) * teacher),
        "jensen_shannon": lambda: beta * kl(teacher, mixture) + (1 - beta) * kl(student, mixture),
        "total_variation": lambda: (teacher - student).abs().sum(-1) / 2,
    }["jensen_shannon" if name == "gkd" else name]()


def plain_loss(student, teacher, labels, label_weights, *, name, temperature, weight, skew, beta, squared):
    """Loss of full logits, shape (N, V)."""
    tempered = (teacher / temperature).softmax(-1), (student / temperature).softmax(-1)
    divergence = (temperature**2 if squared else 1) * plain_divergence(name, *tempered, skew, beta)
    nll = -student.softmax(-1)[torch.arange(len(labels)), labels].log()
    return (weight * divergence + (1 - weight) * label_weights * nll).sum()


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
    ("temperature", "weight", "skew", "beta", "squared"),
    [
        (1.0, 1.0, 0.1, 0.5, True),
        (2.0, 0.7, 0.3, 0.1, True),
        (1.67, 0.9, 0.1, 0.1, False),
        (1.33, 0.0, 0.1, 0.5, True),
        (0.5, 1.0, 0.9, 0.8, False),
    ],
)
def test_a_loss_and_its_gradient_are_those_of_full_logits_in_float64(
    small_chunks, name, temperature, weight, skew, beta, squared
):
    student_hidden, teacher_hidden, student, teacher, labels, label_weights = problem()
    given = [student_hidden.requires_grad_(), student[0].requires_grad_(), student[1].requires_grad_()]
    total, terms = distillation_loss(
        student_hidden,
        teacher_hidden,
        Head(*student, scale=0.5, softcap=4.0),
        Head(*teacher, scale=0.25),
        labels,
        label_weights,
        divergence=make_divergence(name, skew=skew, beta=beta),
        temperature=temperature,
        weight=weight,
        squared=squared,
    )
    (3.0 * total).backward()
    exact = [tensor.detach().double().requires_grad_() for tensor in given]
    logits = 4.0 * torch.tanh(0.5 * (exact[0] @ exact[1].T + exact[2]) / 4.0)
    target = 0.25 * (teacher_hidden.double() @ teacher[0].double().T + teacher[1].double())
    settings = {"name": name, "temperature": temperature, "weight": weight}
    settings |= {"skew": skew, "beta": beta, "squared": squared}
    expected = plain_loss(logits, target, labels, label_weights.double(), **settings)
    (3.0 * expected).backward()
    assert total.item() == pytest.approx(expected.item(), rel=1e-5)
    for ours, theirs in zip(given, exact, strict=True):
        assert torch.allclose(ours.grad.double(), theirs.grad, atol=1e-4 * theirs.grad.abs().max().item())
    tempered = (logits / temperature).softmax(-1)
    assert torch.allclose(terms.entropy.double(), -(tempered * tempered.log()).sum(-1), atol=1e-4)
    assert terms.is_top1.tolist() == (logits.argmax(-1) == labels).tolist()
    alone = plain_divergence(name, (target / temperature).softmax(-1), tempered, skew, beta)
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


def entropy_of(p):
    return -(p * p.log()).sum(-1)


# For each loss of POCL's code (liuliuyuan6/POCL, pocl/losses.py): its sum over the vocabulary, t teacher and s student
# at the temperature, and what it leaves out of the divergence, which has no gradient.
RELEASED = {
    "forward_kl": lambda t, s: -(t * s.log()).sum(-1) - entropy_of(t),
    "reverse_kl": lambda t, s: kl(s, t),
    "skewed_forward_kl": lambda t, s: -(t * (0.1 * t + 0.9 * s).log()).sum(-1) - entropy_of(t),
    "skewed_reverse_kl": lambda t, s: kl(s, 0.9 * t + 0.1 * s),
    "jensen_shannon": lambda t, s: 0.9 * kl(s, 0.1 * t + 0.9 * s) + 0.1 * kl(t, 0.1 * t + 0.9 * s),
    "total_variation": lambda t, s: 0.5 * (t - s).abs().sum(-1),
}


@pytest.mark.parametrize("name", RELEASED)
@pytest.mark.parametrize(("temperature", "weight"), [(1.0, 0.7), (1.33, 0.8), (1.67, 0.9), (2.0, 1.0)])
def test_each_loss_of_pocl_is_that_of_its_code_stage_by_stage(name, temperature, weight):
    """From the same logits: the divergence with its weight, and T squared for three of them alone."""
    teacher = torch.tensor([[2.0, 0.5, -1.0, 0.0], [0.1, 0.2, 3.0, -2.0]], dtype=torch.float64)
    student = torch.tensor([[0.3, 1.5, 0.0, -0.5], [1.0, 0.0, 1.0, 0.0]], dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([1, 2])
    divergence = RELEASED[name]((teacher / temperature).softmax(-1), (student / temperature).softmax(-1))
    if name in ("forward_kl", "jensen_shannon", "skewed_reverse_kl"):
        divergence = temperature**2 * divergence
    nll = torch.nn.functional.cross_entropy(student, labels, reduction="sum")
    expected = (1 - weight) * nll + weight * divergence.sum()
    (gradient,) = torch.autograd.grad(expected, student)
    hidden = student.detach().float().requires_grad_()
    total, _ = distillation_loss(
        hidden,
        teacher.float(),
        Head(torch.eye(4)),
        Head(torch.eye(4)),
        labels,
        torch.ones(2),
        divergence=make_divergence(name, skew=0.1, beta=0.1),
        temperature=temperature,
        weight=weight,
        squared=squares_temperature(name, ["released"]),
    )
    total.backward()
    assert total.item() == pytest.approx(expected.item(), rel=1e-5)
    assert torch.allclose(hidden.grad.double(), gradient, atol=1e-6)


def test_which_divergences_are_scaled_by_the_squared_temperature():
    def scaled(*rule, **settings):
        return [name for name in DIVERGENCES if squares_temperature(name, rule, **settings)]

    assert scaled("all") == list(DIVERGENCES) and scaled("none") == []
    assert scaled("released") == ["forward_kl", "skewed_reverse_kl", "jensen_shannon", "gkd"]
    assert scaled("released", beta=1.0) == ["forward_kl", "skewed_reverse_kl", "jensen_shannon"]
    assert scaled("reverse_kl", "total_variation") == ["reverse_kl", "total_variation"]
    for rule in (["some"], ["all", "forward_kl"], []):
        with pytest.raises(ConfigurationError, match="temperature_squared must be all, released, none, or some of"):
            squares_temperature("forward_kl", rule)


@pytest.mark.parametrize("beta", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_gkd_is_the_loss_of_trls_gkd_trainer(small_chunks, beta, temperature):
    student_hidden, teacher_hidden, student, teacher, labels, label_weights = problem()
    logits = student_hidden @ student[0].T + student[1], teacher_hidden @ teacher[0].T + teacher[1]
    expected = GKDTrainer.generalized_jsd_loss(*logits, beta=beta, temperature=temperature, reduction="sum")
    total, _ = distillation_loss(
        student_hidden,
        teacher_hidden,
        Head(*student),
        Head(*teacher),
        labels,
        label_weights,
        divergence=make_divergence("gkd", beta=beta),
        temperature=temperature,
        squared=squares_temperature("gkd", ["none"], beta=beta),
    )
    assert total.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize(
    ("beta", "name"),
    [(0.0, "forward_kl"), (0.5, "jensen_shannon"), (0.1, "jensen_shannon"), (1.0, "reverse_kl"), (0.3, "gkd")],
)
def test_at_weight_one_and_unscaled_the_loss_is_trls_own_padding_ignored(small_chunks, beta, name, temperature):
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
        temperature=temperature,
    )
    (expected,) = torch.autograd.grad(loss, student_hidden)
    counted = mask.view(-1).bool()
    total, terms = distillation_loss(
        student_hidden[counted],
        teacher_hidden[counted],
        Head(*student),
        Head(*teacher),
        labels[counted],
        label_weights[counted],
        divergence=make_divergence(name, beta=beta),
        temperature=temperature,
        squared=False,
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
        divergence=forward_kl,
    )
    total.backward()
    assert total.item() == 0.0 and student_hidden.grad.shape == (0, 8)


def test_bfloat16_states_give_the_loss_of_their_float32_copies(small_chunks):
    student_hidden, teacher_hidden, student, teacher, labels, label_weights = problem(torch.bfloat16, bias=False)
    arguments = {"divergence": forward_kl, "temperature": 2.0}
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
        divergence=forward_kl,
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
            divergence=forward_kl,
        )


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("kl", {}, "Unknown divergence 'kl'. Available: forward_kl"),
        ("skewed_forward_kl", {"skew": 1.0}, "skew must be above 0"),
        ("jensen_shannon", {"beta": 1.0}, "beta must be above 0 and below 1 with divergence jensen_shannon; got 1.0"),
    ],
)
def test_wrong_divergences_are_refused(name, settings, message):
    with pytest.raises(ConfigurationError, match=message):
        make_divergence(name, **settings)


def test_total_variation_lies_between_zero_and_one():
    far = torch.tensor([[50.0, -50.0]]).log_softmax(-1)
    assert total_variation(far, far.flip(-1)).item() == pytest.approx(1.0)
    assert jensen_shannon(far, far.flip(-1)).item() == pytest.approx(math.log(2.0), rel=1e-5)
