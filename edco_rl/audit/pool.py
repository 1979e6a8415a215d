"""What a pool is made of, and the groups with a signal that each curriculum would draw from it."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from ..config import AuditConfig, EstimatorConfig
from ..statistics import FloatArray, never_certain, with_interval
from .advice import advise
from .auditor import Measurement
from .curricula import Curriculum, measured_curricula
from .groups import best_signal, expected_steps_ratio, pool_shares, signal_chance


def look_at_pool(
    rewards: FloatArray,
    measured: Sequence[Measurement],
    audit: AuditConfig,
    configured: EstimatorConfig,
    defaults: EstimatorConfig,
) -> dict[str, Any]:
    """`pool`, `curricula`, `best_possible` and `advice` of an audit; each `None` where no reward is known.

    Args:
        rewards (`NDArray[np.float64]`):
            What each reference answer earned, shape (P, S).
        measured (`Sequence[Measurement]`), audit (`AuditConfig`), configured (`EstimatorConfig`), defaults
            (`EstimatorConfig`):
            As in [`~edco_rl.audit.curricula.measured_curricula`].
    """
    chances = signal_chance(rewards, audit.num_generations)
    if np.isnan(chances).all():
        return dict.fromkeys(("pool", "curricula", "best_possible", "advice"))
    pool = pool_shares(rewards)
    best = best_signal(rewards, audit.num_generations, audit.curriculum_share, seed=audit.seed)
    usual = with_interval(np.mean, chances, seed=audit.seed)
    chance = Curriculum("random", "random", never_certain(usual, int(np.isfinite(chances).sum())))
    ranked = measured_curricula(measured, chances, audit, configured, defaults)
    return {
        "pool": {name: asdict(share) for name, share in pool.items()},
        "curricula": [
            {
                "name": one.name,
                "signal_share": asdict(one.signal_share),
                "expected_steps_ratio": expected_steps_ratio(one.signal_share.value, chance.signal_share.value),
            }
            for one in (chance, *ranked)
        ],
        "best_possible": asdict(best),
        "advice": advise(chance, ranked, best, pool),
    }
