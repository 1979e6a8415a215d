from decimal import ROUND_HALF_UP, Decimal
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from edco_rl.complexity.split import random_split, split_by_quantiles, split_by_thresholds
from edco_rl.config import ComplexityConfig
from edco_rl.errors import ConfigurationError

# Few different values: most of them tie.
TIED = st.lists(st.sampled_from([0.0, 0.5, 0.5000001, 1.0, 2.0]), min_size=3, max_size=60).map(np.array)
POINTS = st.lists(st.decimals("0.01", "0.99", places=2), min_size=1, max_size=2, unique=True).map(
    lambda points: [float(point) for point in sorted(points)]
)


def ids(scores):
    return [f"row {number}" for number in range(len(scores))]


def expected_cuts(points, count):
    return [int((Decimal(str(q)) * count).to_integral_value(ROUND_HALF_UP)) for q in points]


@settings(max_examples=50)
@given(TIED, POINTS)
def test_quantiles_cut_classes_of_exact_sizes_in_the_order_of_scores_whatever_ties(scores, points):
    cuts = [0, *expected_cuts(points, len(scores)), len(scores)]
    assume(all(low < high for low, high in pairwise(cuts)))
    classes = split_by_quantiles(scores, ids(scores), points)
    assert np.bincount(classes).tolist() == np.diff(cuts).tolist()
    for easier, harder in zip(range(len(points)), range(1, len(points) + 1), strict=True):
        assert scores[classes == easier].max() <= scores[classes == harder].min()


@settings(max_examples=50)
@given(TIED, POINTS, st.randoms())
def test_the_class_of_a_row_does_not_depend_on_where_it_stands(scores, points, random):
    cuts = [0, *expected_cuts(points, len(scores)), len(scores)]
    assume(all(low < high for low, high in pairwise(cuts)))
    order = list(range(len(scores)))
    random.shuffle(order)
    names = np.array(ids(scores))
    classes = split_by_quantiles(scores, names.tolist(), points)
    moved = split_by_quantiles(scores[order], names[order].tolist(), points)
    assert moved.tolist() == classes[order].tolist()


@settings(max_examples=50)
@given(TIED, st.lists(st.sampled_from([0.0, 0.5, 0.75, 1.0]), min_size=1, max_size=2, unique=True).map(sorted))
def test_thresholds_put_a_row_above_those_its_score_exceeds(scores, points):
    expected = [sum(score > point for point in points) for score in scores]
    if len(set(expected)) <= len(points):
        with pytest.raises(ConfigurationError, match="split_points leave a class empty"):
            split_by_thresholds(scores, ids(scores), points)
    else:
        assert split_by_thresholds(scores, ids(scores), points).tolist() == expected


@given(st.lists(st.integers(0, 2), min_size=1, max_size=50).map(np.array), st.integers(0, 3))
def test_a_random_split_has_the_same_sizes_and_is_the_same_for_the_same_seed(classes, seed):
    drawn = random_split(classes, seed)
    assert np.bincount(drawn).tolist() == np.bincount(classes).tolist()
    assert drawn.tolist() == random_split(classes, seed).tolist()


def test_a_row_without_a_score_is_named():
    with pytest.raises(ConfigurationError, match=r"Row 'row 1' has no finite score: nan"):
        split_by_quantiles(np.array([0.0, np.nan]), ["row 0", "row 1"], [0.5])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"split_points": [0.6, 0.3]}, "one or two ascending numbers"),
        ({"split_points": [0.2, 0.4, 0.6]}, "one or two ascending numbers"),
        ({"split_points": [1.5]}, "between 0 and 1"),
        ({"split_by": "luck"}, "split_by must be one of quantiles, thresholds"),
        ({"complexity_baselines": ["luck"]}, "complexity_baselines must be one of sft"),
        ({"complexity_baselines": ["sft", "sft"]}, "names one twice"),
        ({"teacher": "server"}, "teacher server needs teacher_model"),
        ({"teacher": "endpoint", "teacher_model": "m"}, "teacher endpoint needs teacher_url"),
        ({"teacher_price_budget": 1.0}, "needs teacher_prompt_price"),
        ({"teacher_timeout": 0}, "teacher_timeout must be above 0"),
        ({"teacher_column_answer_line": "B"}, "has no {answer}"),
        ({"complexity_last_stage": "lunch"}, "complexity_last_stage must be one of scores"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(ConfigurationError, match=message):
        ComplexityConfig(**settings)
