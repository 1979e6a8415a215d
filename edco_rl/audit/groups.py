"""Which groups of rollouts would have a signal: of any prompts, of those a curriculum draws, and at best."""

import numpy as np
from scipy.special import comb

from ..statistics import FloatArray, Interval, never_certain, wilson_interval, with_interval

# Rewards this near count as equal, as for the gate equal_rewards.
_TOLERANCE = 1e-6
_FULL_REWARD = 1.0
# Of the groups with a signal, in what a curriculum saves: fitted to the map of pools (docs/results.md).
_SAVED = 0.7
_SPLITS = 20
# Several curricula share the 5 % of chance, so that their bounds lie far out.
_RESAMPLES = 2000


def signal_chance(rewards: FloatArray, group_size: int) -> FloatArray:
    """Chance that the rewards of a group of answers to a prompt differ.

    Of G answers drawn without replacement from S, of which n_v earn v, it is 1 - sum_v C(n_v, G) / C(S, G): an
    unbiased estimate of the chance for new answers, whatever values the reward has.

    Args:
        rewards (`NDArray[np.float64]`):
            What each answer earned, shape (P, S).
        group_size (`int`):
            G, at most S.

    Returns:
        `NDArray[np.float64]`: shape (P,), NaN for a prompt with an answer of which the reward said nothing.
    """
    alike = (np.abs(rewards[:, :, None] - rewards[:, None, :]) <= _TOLERANCE).sum(axis=2)
    with np.errstate(invalid="ignore"):  # an unknown reward is like none, not even itself
        equal = (comb(alike, group_size) / alike).sum(axis=1) / comb(rewards.shape[1], group_size)
    return np.where(np.isnan(rewards).any(axis=1), np.nan, 1.0 - equal)


def pool_shares(rewards: FloatArray) -> dict[str, Interval]:
    """Shares of prompts of which all answers earned the full reward, none a different one, or some a different one.

    Args:
        rewards (`NDArray[np.float64]`):
            What each answer earned, shape (P, S); prompts with an answer of which the reward said nothing are left
            out.

    Returns:
        `dict[str, Interval]`: `mastered`, `learnable` (rewards differ) and `hopeless` (all alike, and not full), with
        Wilson's 95 % intervals.
    """
    known = rewards[np.isfinite(rewards).all(axis=1)]
    learnable = np.ptp(known, axis=1) > _TOLERANCE
    mastered = ~learnable & (known.min(axis=1) >= _FULL_REWARD)
    kinds = {"mastered": mastered, "learnable": learnable, "hopeless": ~learnable & ~mastered}
    return {
        name: Interval(float(of_kind.mean()), *wilson_interval(int(of_kind.sum()), len(known)))
        for name, of_kind in kinds.items()
    }


def mean_of_highest(scores: FloatArray, values: FloatArray, share: float) -> FloatArray:
    """Mean value of the share of prompts with the highest scores; prompts of equal score count equally.

    Args:
        scores (`NDArray[np.float64]`), values (`NDArray[np.float64]`):
            Paired, with prompts along the last axis.
        share (`float`):
            Share of the prompts; at least one is taken.
    """
    prompts = scores.shape[-1]
    count = max(1, round(share * prompts))
    least = np.partition(scores, prompts - count, axis=-1)[..., prompts - count, None]
    above, level = scores > least, scores == least
    places = count - above.sum(axis=-1)
    at_level = (values * level).sum(axis=-1) / level.sum(axis=-1)
    return ((values * above).sum(axis=-1) + places * at_level) / count


def curriculum_signal(
    scores: FloatArray, chances: FloatArray, share: float, *, confidence_level: float = 0.95, seed: int = 0
) -> Interval:
    """Share of groups with a signal that a curriculum of the highest scores draws, with its bootstrap interval.

    Args:
        scores (`NDArray[np.float64]`), chances (`NDArray[np.float64]`):
            Score and [`signal_chance`] of each prompt, shape (P,).
        share (`float`):
            Share of the prompts that the curriculum takes.
        confidence_level (`float`, *optional*, defaults to `0.95`), seed (`int`, *optional*, defaults to `0`):
            As in [`with_interval`].
    """
    found = with_interval(
        lambda scores, chances, axis=-1: mean_of_highest(scores, chances, share),
        scores,
        chances,
        confidence_level=confidence_level,
        seed=seed,
        resamples=_RESAMPLES,
    )
    known = np.isfinite(scores) & np.isfinite(chances)
    return never_certain(found, max(1, round(share * known.sum())), confidence_level)


def best_signal(rewards: FloatArray, group_size: int, share: float, *, seed: int = 0) -> Interval:
    """Share of groups with a signal of the curriculum that knows how prompts were answered.

    A random group of the answers to each prompt is set apart to be measured, and prompts are ranked by the chance that
    two of the others differ in reward, so that luck in these does not count: the mean over several splits. So few
    answers do not tell all of a pass rate, so that a better ranking can exist.

    Args:
        rewards (`NDArray[np.float64]`), group_size (`int`):
            As in [`signal_chance`], with at least two groups of answers a prompt.
        share (`float`):
            Share of the prompts that the curriculum takes.
        seed (`int`, *optional*, defaults to `0`):
            Seed of halves and bootstrap.
    """
    known = rewards[np.isfinite(rewards).all(axis=1)]
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(known.shape[1]) for _ in range(_SPLITS)]
    ranked_by = np.array([signal_chance(known[:, order[group_size:]], 2) for order in orders])
    measured = np.array([signal_chance(known[:, order[:group_size]], group_size) for order in orders])

    def statistic(prompts: FloatArray, axis: int = -1) -> FloatArray:
        drawn = prompts.astype(np.int64)
        return mean_of_highest(ranked_by[:, drawn], measured[:, drawn], share).mean(axis=0)

    found = with_interval(statistic, np.arange(len(known), dtype=np.float64), seed=seed)
    return never_certain(found, max(1, round(share * len(known))))


def expected_steps_ratio(signal_share: float, random_signal_share: float) -> float | None:
    """Steps to be expected, of those random order takes: by the groups with a signal, to the power of -0.7.

    A group with a signal does not teach as much wherever it is from: in inverse proportion (a power of -1) steps would
    be fewer than the map of pools has them. `None` without a signal.
    """
    return (random_signal_share / signal_share) ** _SAVED if signal_share > 0 else None
