"""Which curriculum to take, why, and what the recipe then says."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import yaml

from ..statistics import Interval
from .curricula import Curriculum

# Where random order finds this much of the best possible share of groups with a signal, nothing is to be gained.
_NEAR = 0.9
# Below this share of groups with a signal, a gate fills the steps.
_FEW_GROUPS = 0.5
# From this share of hopeless prompts on, it matters that entropy is high on them.
_MANY_HOPELESS = 0.3


def advise(
    chance: Curriculum, ranked: Sequence[Curriculum], best: Interval, pool: Mapping[str, Interval]
) -> dict[str, Any]:
    """The curriculum whose groups surely have a signal more often than those of random order, if there is one.

    Args:
        chance (`Curriculum`), ranked (`Sequence[Curriculum]`):
            Random order, and those that rank prompts.
        best (`Interval`):
            The best possible share of groups with a signal.
        pool (`Mapping[str, Interval]`):
            Shares of `mastered`, `learnable` and `hopeless` prompts.

    Returns:
        `dict[str, Any]`: `strategy`, `reason` and `recipe`, lines of YAML.
    """
    usual = chance.signal_share.value
    leader = max(ranked, key=lambda one: np.nan_to_num(one.signal_share.low, nan=-1.0), default=chance)
    chosen = chance
    if best.value == usual == 0:
        reason = "nothing to gain here: no group has a signal, whichever prompts are drawn"
    elif usual >= _NEAR * best.value:
        reason = (
            f"nothing to gain here: {usual:.0%} of its groups have a signal, and of a curriculum that knows the "
            f"answers {best.value:.0%}"
        )
    elif leader is chance or not leader.signal_share.low > usual:
        reason = (
            f"nothing to gain here: {usual:.0%} of its groups have a signal, and no curriculum is sure to find "
            f"more (one that knows the answers: {best.value:.0%})"
        )
    else:
        chosen, share = leader, leader.signal_share
        reason = (
            f"{share.value:.0%} [{share.low:.0%}, {share.high:.0%}] of its groups have a signal, of random order's "
            f"{usual:.0%}, of those of a curriculum that knows the answers {best.value:.0%}"
        )
    recipe = {"strategy": chosen.strategy} | chosen.settings
    sentences = [reason + "."]
    if 0 < chosen.signal_share.value < _FEW_GROUPS:
        recipe["gates"] = ["equal_rewards"]
        sentences.append("The gate equal_rewards rolls out others in place of groups without one.")
    hopeless = pool["hopeless"].value
    if hopeless >= _MANY_HOPELESS and all(one.strategy == "edco" for one in ranked):
        sentences.append(
            f"{hopeless:.0%} of the prompts are hopeless, and entropy leads to them: it is as high there as on "
            "learnable ones. Reference answers would tell them apart."
        )
    return {
        "strategy": chosen.strategy,
        "reason": " ".join(sentences),
        "recipe": yaml.safe_dump(recipe, sort_keys=False, width=1000),
    }
