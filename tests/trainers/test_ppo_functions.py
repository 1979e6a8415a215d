"""PPO's functions against plain float64 NumPy that follows the definitions, one ragged completion at a time."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import explained_variance_score

from edco_rl.trainers.ppo_functions import (
    explained_variance,
    generalized_advantages,
    masked_moments,
    root_mean_square,
    token_rewards,
    value_losses,
    whiten,
    whitening_scale,
)

numbers = st.floats(-3, 3, width=32)


@st.composite
def batches(draw, arrays=2):
    """Float64 arrays of one shape and a mask: ragged ends, holes (a tool's tokens), rows without a token."""
    shape = (draw(st.integers(1, 5)), draw(st.integers(1, 7)))
    mask = draw(hnp.arrays(np.int64, shape, elements=st.integers(0, 1)))
    return mask, *(draw(hnp.arrays(np.float64, shape, elements=numbers)) for _ in range(arrays))


def tensors(*arrays):
    return [torch.from_numpy(array) for array in arrays]


@given(batches(), st.floats(0, 1), st.floats(0, 1))
def test_advantages_are_the_discounted_sum_of_temporal_differences(batch, gamma, lam):
    mask, rewards, values = batch
    found = generalized_advantages(*tensors(rewards, values, mask), gamma=gamma, lam=lam).numpy()
    for i, row in enumerate(mask.astype(bool)):
        r, v = rewards[i, row], np.append(values[i, row], 0.0)  # the end is terminal
        deltas = r + gamma * v[1:] - v[:-1]
        expected = [sum((gamma * lam) ** k * delta for k, delta in enumerate(deltas[t:])) for t in range(len(r))]
        np.testing.assert_allclose(found[i, row], expected, atol=1e-12)
        assert not found[i, ~row].any()


@given(batches(arrays=1), st.data())
def test_without_a_value_function_every_token_gets_the_score_of_its_completion(batch, data):
    """Lambda 1, no discount, values of zero: the advantage of REINFORCE."""
    mask, _ = batch
    scores = data.draw(hnp.arrays(np.float64, len(mask), elements=numbers))
    rewards = token_rewards(*tensors(scores, mask))
    found = generalized_advantages(rewards, torch.zeros_like(rewards), torch.from_numpy(mask), gamma=1.0, lam=1.0)
    np.testing.assert_array_equal(found.numpy(), mask * scores[:, None])


@given(batches(arrays=1), st.data())
def test_the_score_is_earned_at_the_last_token_and_the_penalty_at_each(batch, data):
    mask, penalties = batch
    scores = data.draw(hnp.arrays(np.float64, len(mask), elements=numbers))
    found = token_rewards(*tensors(scores, mask, penalties)).numpy()
    for i, row in enumerate(mask):
        expected = -penalties[i] * row
        if row.any():
            expected[np.flatnonzero(row)[-1]] += scores[i]
        np.testing.assert_allclose(found[i], expected)


@given(batches(arrays=1))
def test_moments_and_whitening_see_the_mask_only(batch):
    mask, values = batch
    kept = values[mask.astype(bool)]
    count, mean, variance = (moment.item() for moment in masked_moments(*tensors(values, mask)))
    assert count == len(kept)
    expected = np.var(kept, ddof=1) if len(kept) > 1 else 0.0
    np.testing.assert_allclose([mean, variance], [kept.mean() if len(kept) else 0.0, expected], atol=1e-12)
    for shift in (True, False):
        scaled = whiten(*tensors(values, mask), shift_mean=shift).numpy()
        assert not scaled[mask == 0].any()
        if expected > 1e-3:
            wanted = (kept - kept.mean()) / np.sqrt(expected) + (0 if shift else kept.mean())
            np.testing.assert_allclose(scaled[mask == 1], wanted, atol=1e-4)


@given(batches(arrays=1), st.floats(0, 3), st.booleans())
def test_values_that_deviate_less_than_the_floor_are_divided_by_it_and_others_are_whitened_as_before(
    batch, floor, shift
):
    mask, values = batch
    kept = values[mask.astype(bool)]
    mean = kept.mean() if len(kept) else 0.0
    variance = np.square(kept - mean).sum() / max(len(kept) - 1, 1)
    arrays = tensors(values, mask)
    found = whiten(*arrays, shift_mean=shift, floor=floor).numpy()
    expected = (kept - mean) / np.sqrt(max(variance, floor**2) + 1e-8) + (0 if shift else mean)
    np.testing.assert_allclose(found[mask == 1], expected, rtol=1e-9, atol=1e-9)
    if variance > floor**2 + 1e-12:
        np.testing.assert_array_equal(found, whiten(*arrays, shift_mean=shift).numpy())
    assert whitening_scale(*arrays, floor).item() == pytest.approx(1 / np.sqrt(max(variance, floor**2) + 1e-8))


@given(batches(arrays=1))
def test_the_root_mean_square_sees_the_mask_only(batch):
    mask, values = batch
    kept = values[mask.astype(bool)]
    expected = np.sqrt(np.mean(kept**2)) if len(kept) else 0.0
    assert root_mean_square(*tensors(values, mask)).item() == pytest.approx(expected, abs=1e-12)


@given(batches())
def test_explained_variance_is_scikit_learns(batch):
    mask, values, returns = batch
    found = explained_variance(*tensors(values, returns, mask))
    kept = mask.astype(bool)
    if kept.sum() < 2 or np.ptp(returns[kept]) == 0:
        assert np.isnan(found)
    elif np.var(returns[kept]) > 1e-6:
        expected = explained_variance_score(returns[kept], values[kept])
        assert found == pytest.approx(expected, rel=1e-6, abs=1e-6)


@given(batches(arrays=3), st.floats(0, 2))
def test_the_value_loss_is_the_larger_of_the_plain_and_the_clipped_error(batch, cliprange):
    _, values, old_values, returns = batch
    losses, clipped = (x.numpy() for x in value_losses(*tensors(values, old_values, returns), cliprange))
    for v, old, target, loss, was_clipped in zip(
        *(array.flat for array in (values, old_values, returns, losses, clipped)), strict=True
    ):
        near = min(max(v, old - cliprange), old + cliprange)
        assert loss == pytest.approx(max((v - target) ** 2, (near - target) ** 2) / 2)
        assert was_clipped == ((near - target) ** 2 > (v - target) ** 2)


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_the_gradient_of_the_value_loss_is_that_of_finite_differences(seed):
    random = np.random.default_rng(seed)  # no kink is hit
    values, old_values, returns = (torch.from_numpy(random.normal(size=(3, 4))) for _ in range(3))
    values.requires_grad_()
    assert torch.autograd.gradcheck(lambda v: value_losses(v, old_values, returns, 0.5)[0].sum(), values)
