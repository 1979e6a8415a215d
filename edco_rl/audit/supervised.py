"""What scores find in rows that are fine-tuned on: wrong answers for a split, loss for a curriculum."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import yaml

from ..config import EstimatorConfig
from ..statistics import FloatArray, Interval, level_of_each, never_certain, roc_auc, with_interval
from .auditor import Measurement
from .curricula import recipe_settings
from .groups import mean_of_highest

_THIRD = 1 / 3
_GUESSING = 0.5
# With fewer right or wrong answers among the rows there is nothing to tell apart.
_LEAST_OF_A_KIND = 0.05


def look_at_rows(
    measured: Sequence[Measurement], wrong: FloatArray, defaults: EstimatorConfig, seed: int
) -> dict[str, Any] | None:
    """How well scores split rows for complexity-aware fine-tuning (arXiv 2506.21220); `None` where no reward is known.

    Args:
        measured (`Sequence[Measurement]`):
            The estimators.
        wrong (`NDArray[np.float64]`):
            1 where the greedy answer to a prompt is wrong, 0 where it is right, NaN where that is not known, shape
            (P,).
        defaults (`EstimatorConfig`):
            How a run scores prompts with no setting.
        seed (`int`):
            Seed of the bootstrap.

    Returns:
        `dict[str, Any]`: `splits`, for each estimator, its `label`, the ROC AUC for a wrong answer
        (`wrong_answer_auc`), the share of answers that are wrong in the `easy`, `medium` and `hard` third, and
        `wrong_ratio`, that of the hard third over that of all rows: chains of thought for it reach so many times the
        wrong answers of a random third. Intervals hold all together, 95 times of 100 (Bonferroni). And `advice`, with
        `split`, `reason` and `recipe`.
    """
    if np.isnan(wrong).all():
        return None
    level = level_of_each(len(measured))
    splits = [_split(found, wrong, level, seed) for found in measured]
    return {"splits": splits, "advice": _advise(splits, measured, float(np.nanmean(wrong)), defaults)}


def look_at_references(measured: Sequence[Measurement], share: float, seed: int) -> dict[str, Any] | None:
    """How much the references of a curriculum's rows have to teach; `None` where `perplexity` was not measured.

    Supervised fine-tuning and off-policy distillation learn from a row in proportion to the loss on its reference:
    rows the model knows by heart are spent on nothing, as groups without a signal are in reinforcement learning.

    Args:
        measured (`Sequence[Measurement]`), seed (`int`):
            As in [`look_at_rows`].
        share (`float`):
            Share of the rows that a curriculum takes: those of the highest score.

    Returns:
        `dict[str, Any]`: `loss`, the mean of all rows, in nats a token, and `curricula`, for each estimator its
        `label` and `loss_ratio`, the loss of its rows over that of all. Intervals of the ratios hold all together, 95
        times of 100 (Bonferroni).
    """
    losses = [found.values[0] for found in measured if found.candidate.config.estimator == "perplexity"]
    if not losses:
        return None
    level = level_of_each(len(measured))

    def ratio(scores: FloatArray, loss: FloatArray, axis: int = -1) -> FloatArray:
        with np.errstate(invalid="ignore", divide="ignore"):  # nothing to learn: no ratio
            return mean_of_highest(scores, loss, share) / loss.mean(axis=-1)

    return {
        "loss": asdict(with_interval(np.mean, losses[0], seed=seed)),
        "curricula": [
            {
                "label": found.candidate.label,
                "loss_ratio": asdict(
                    with_interval(ratio, found.values[0], losses[0], confidence_level=level, seed=seed)
                ),
            }
            for found in measured
        ],
    }


def _split(found: Measurement, wrong: FloatArray, level: float, seed: int) -> dict[str, Any]:
    known = np.isfinite(wrong) & np.isfinite(found.values[0])
    scores, wrong = found.values[0][known], wrong[known]

    def interval(statistic: Any) -> Interval:
        return with_interval(statistic, scores, wrong, confidence_level=level, seed=seed)

    def hard(scores: FloatArray, wrong: FloatArray, axis: int = -1) -> FloatArray:
        return mean_of_highest(scores, wrong, _THIRD)

    def easy(scores: FloatArray, wrong: FloatArray, axis: int = -1) -> FloatArray:
        return mean_of_highest(-scores, wrong, _THIRD)

    def medium(scores: FloatArray, wrong: FloatArray, axis: int = -1) -> FloatArray:
        count, ends = scores.shape[-1], max(1, round(_THIRD * scores.shape[-1]))
        others = ends * (hard(scores, wrong) + easy(scores, wrong))
        with np.errstate(invalid="ignore"):  # two rows: no medium ones
            return (count * wrong.mean(axis=-1) - others) / (count - 2 * ends)

    def found_wrong(scores: FloatArray, wrong: FloatArray, axis: int = -1) -> FloatArray:
        with np.errstate(invalid="ignore", divide="ignore"):  # nothing wrong: no share
            return hard(scores, wrong) * third / wrong.sum(axis=-1)

    third = max(1, round(_THIRD * len(scores)))
    of_wrong = never_certain(interval(found_wrong), int(wrong.sum()), level)
    ratio = {name: value * len(scores) / third for name, value in asdict(of_wrong).items()}
    shares = {kind.__name__: never_certain(interval(kind), third, level) for kind in (easy, medium, hard)}
    return {
        "label": found.candidate.label,
        "wrong_answer_auc": asdict(interval(roc_auc)),
        **{name: asdict(share) for name, share in shares.items()},
        "wrong_ratio": ratio,
    }


def _advise(
    splits: Sequence[dict[str, Any]], measured: Sequence[Measurement], wrong: float, defaults: EstimatorConfig
) -> dict[str, Any]:
    kinds = f"{wrong:.0%} of the greedy answers are wrong"
    if not _LEAST_OF_A_KIND <= wrong <= 1 - _LEAST_OF_A_KIND:
        return {"split": None, "reason": f"nothing to split: {kinds}.", "recipe": ""}
    lows = [np.nan_to_num(split["wrong_answer_auc"]["low"], nan=0.0) for split in splits]
    if not splits or max(lows) <= _GUESSING:
        reason = f"no score is sure to tell wrong answers from right ones ({kinds}): a random split is as good."
        return {"split": "random", "reason": reason, "recipe": ""}
    best = int(np.argmax(lows))
    split, config = splits[best], measured[best].candidate.config
    auc, ratio = split["wrong_answer_auc"], split["wrong_ratio"]
    reason = (
        f"it finds wrong answers with an AUC of {auc['value']:.2f} [{auc['low']:.2f}, {auc['high']:.2f}]; of the hard "
        f"third {split['hard']['value']:.0%} are wrong, of the easy one {split['easy']['value']:.0%}, so that chains "
        f"of thought for it reach {ratio['value']:.1f} [{ratio['low']:.1f}, {ratio['high']:.1f}] times as many wrong "
        "answers as for a random third."
    )
    recipe = yaml.safe_dump(recipe_settings(config, defaults), sort_keys=False, width=1000)
    return {"split": split["label"], "reason": reason, "recipe": recipe}
